"""Reading images from files, shards and URLs. The names are imported when first used."""

from typing import TYPE_CHECKING

from atrous.lazy import import_lazily

if TYPE_CHECKING:
    from atrous.images.pixels import IMAGENET_MEAN, IMAGENET_STD, normalize, resize_image
    from atrous.images.reading import read_image

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "normalize", "read_image", "resize_image"]

__getattr__, __dir__ = import_lazily(
    __name__,
    {
        "atrous.images.pixels": ["IMAGENET_MEAN", "IMAGENET_STD", "normalize", "resize_image"],
        "atrous.images.reading": ["read_image"],
    },
)
