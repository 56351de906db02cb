"""Trained models behind HTTP."""

from atrous.serve.limits import Limits
from atrous.serve.service import Segmented, Service, build_service

__all__ = ["Limits", "Segmented", "Service", "build_service"]
