"""Pairs of images and masks whose names differ by a common prefix or suffix."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from atrous.data.dataset import Layout
from atrous.data.pairs import list_image_files
from atrous.data.split_files import SplitFiles, normalize_name

_WORD = (
    r"masks?|labels?|labelids|labeltrainids|segmentation|seg|gt|gtfine|gtcoarse|annotations?|anno"
)
_WORD += r"|colou?r|leftimg8bit|images?|img|rgb|photo|image|l|p"
_ENDING = re.compile(rf"(?:[-_. ](?:{_WORD}))+$")
_BEGINNING = re.compile(rf"^(?:(?:{_WORD})[-_. ])+")


def _compute_key(stem: str) -> str:
    """Return a stem in lower case without words such as _mask, _gt or img_."""
    stem = normalize_name(stem).casefold()
    return _BEGINNING.sub("", _ENDING.sub("", stem)) or stem


def find_matches(files: SplitFiles, layout: Layout) -> dict[str, tuple[Path, Path]]:
    """Return stem → (image, mask) of the files without a partner that have the same key.

    Exactly one image and one mask must have the key of `_compute_key`. The stem is the one in the
    split list in VOC's layout, otherwise the image's.
    """
    images = {name: files.images[name] for name in files.without_mask if name in files.images}
    masks = {name: files.masks[name] for name in files.without_image if name in files.masks}
    if layout == "pairs":
        return {
            normalize_name(image.stem): (image, mask)
            for image, mask in _match(list(images.values()), list(masks.values()))
        }
    names = {path: name for name, path in (images | masks).items()}
    spare_images = _list_spare(files.image_folder, files.images, masks)
    spare_masks = _list_spare(files.mask_folder, files.masks, images)
    return {
        names[image if image in names else mask]: (image, mask)
        for image, mask in [
            *_match(list(images.values()), spare_masks),
            *_match(spare_images, list(masks.values())),
        ]
    }


def _list_spare(folder: Path, used: dict[str, Path], names: Iterable[str]) -> list[Path]:
    """Return the unlisted files of the folders in which a partner is searched."""
    taken = set(used.values())
    places = {folder / PurePosixPath(name).parent for name in names}
    return [path for place in places for path in list_image_files(place) if path not in taken]


def _match(images: list[Path], masks: list[Path]) -> list[tuple[Path, Path]]:
    by_key: dict[str, tuple[list[Path], list[Path]]] = {}
    for side, paths in enumerate((images, masks)):
        for path in paths:
            by_key.setdefault(_compute_key(path.stem), ([], []))[side].append(path)
    return [
        (of_key[0][0], of_key[1][0])
        for of_key in by_key.values()
        if len(of_key[0]) == len(of_key[1]) == 1
    ]
