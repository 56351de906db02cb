"""Trained models behind HTTP."""

from atrous.serve.limits import Limits
from atrous.serve.service import Segmentation, Service, build_service

__all__ = ["Limits", "Segmentation", "Service", "build_service"]
