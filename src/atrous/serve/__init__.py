"""HTTP server for trained models."""

from atrous.serve.limits import Limits
from atrous.serve.service import Service, build_service

__all__ = ["Limits", "Service", "build_service"]
