"""HTTP server for trained models."""

from typing import TYPE_CHECKING

from atrous.lazy import import_lazily

if TYPE_CHECKING:
    from atrous.serve.limits import Limits as Limits
    from atrous.serve.service import Service as Service
    from atrous.serve.service import build_service as build_service

__all__ = ["Limits", "Service", "build_service"]

__getattr__, __dir__ = import_lazily(
    __name__,
    {
        "atrous.serve.limits": ["Limits"],
        "atrous.serve.service": ["Service", "build_service"],
    },
)
