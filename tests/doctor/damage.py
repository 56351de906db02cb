"""Ways to damage a clean dataset."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from atrous.classes import voc_color


def masks(root: Path, split: str = "*") -> list[Path]:
    found = sorted(root.glob(f"{split}/masks/*")) + sorted(root.glob("SegmentationClass/*"))
    assert found
    return found


def images(root: Path, split: str = "*") -> list[Path]:
    found = sorted(root.glob(f"{split}/images/*")) + sorted(root.glob("JPEGImages/*"))
    assert found
    return found


def change_mask(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with Image.open(path) as image:
        indices = np.asarray(image).copy()
    Image.fromarray(change(indices)).save(path)


def change_masks(root: Path, change: Callable[[np.ndarray], np.ndarray], split: str = "*") -> None:
    for path in masks(root, split):
        change_mask(path, change)


def color_masks(root: Path, colors: list[tuple[int, ...]]) -> None:
    table = np.array(colors, np.uint8)
    change_masks(root, lambda mask: table[mask])


def truncate(path: Path, share: float = 0.6) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def cut_pixels(path: Path) -> None:
    """Take a piece out of a JPEG's pixels; it still decodes."""
    content = path.read_bytes()
    middle = (content.index(b"\xff\xda") + len(content)) // 2
    path.write_bytes(content[:middle] + content[middle + 300 :])


def store_12_bits(path: Path) -> None:
    """Save an image as grey of 12 bits in a 16-bit PNG."""
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L")).astype(np.uint16)
    path.unlink()
    Image.fromarray(16 * grey).save(path.with_suffix(".png"))


def store_floats(path: Path, missing: float = 0.0) -> None:
    """Save an image as a TIFF of red, green, blue and an empty band; NaN in a corner or not."""
    with Image.open(path) as image:
        bands = np.dstack([np.asarray(image.convert("RGB")), np.full(image.size[::-1], 9)]) / 9
    path.unlink()
    bands[:4, :5] += missing
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(path.with_suffix(".tif"), bands.astype(np.float32), **options)


def tag(path: Path, orientation: int, *, store_turned: bool = True) -> None:
    """Give an image an EXIF orientation; stored so that it looks as before, or as it is."""
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    with Image.open(path) as image:
        image.load()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(back) if store_turned else image
    stored.save(path, quality=92, exif=exif, lossless=path.suffix == ".webp")


def replace_image(root: Path, name: str, suffix: str) -> Path:
    """Write an image of the training split in another format, and return its new path."""
    path = root / f"train/images/{name}{suffix}"
    with Image.open(path.with_suffix(".jpg")) as image:
        image.load()
    path.with_suffix(".jpg").unlink()
    image.save(path)
    return path


def swap(root: Path) -> None:
    for image_path, mask_path in zip(images(root), masks(root), strict=True):
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            image.load(), mask.load()
        image_path.unlink()
        image.save(mask_path)
        mask.save(image_path.with_suffix(".png"))


def interpolate(path: Path) -> None:
    with Image.open(path) as image:
        grey = Image.fromarray(np.asarray(image))
    small = grey.resize((grey.width // 2, grey.height // 2), Image.Resampling.NEAREST)
    small.resize(grey.size, Image.Resampling.BILINEAR).save(path)


def sort_palette(path: Path) -> None:
    """Save a mask as a drawing program does that sorts the palette by brightness."""
    with Image.open(path) as image:
        indices, numbers = np.asarray(image), image.getpalette()
    colors = [tuple(numbers[3 * i : 3 * i + 3]) for i in range(4)]
    order = sorted(range(4), key=lambda i: -sum(colors[i]))
    mask = Image.fromarray(np.argsort(order).astype(np.uint8)[indices])
    mask.putpalette([channel for index in order for channel in colors[index]])
    mask.save(path)


def copy_pair(root: Path, source: tuple[str, str], target: tuple[str, str]) -> None:
    for folder, suffix in (("images", ".jpg"), ("masks", ".png")):
        shutil.copyfile(
            root / source[0] / folder / (source[1] + suffix),
            root / target[0] / folder / (target[1] + suffix),
        )


def shrink_a_little(path: Path) -> None:
    """Save an image again in another quality, a bit brighter."""
    with Image.open(path) as image:
        pixels = np.asarray(image).astype(int)
    Image.fromarray((pixels * 0.95 + 10).clip(0, 255).astype(np.uint8)).save(path, quality=60)


COLORS = [(0, 0, 0), (200, 40, 40), (40, 170, 60), (50, 70, 210)]
"""Of the clean set."""

CAMVID_COLORS = [(128, 64, 128), (128, 0, 0), (128, 128, 128), (0, 128, 192)]
CITYSCAPES_COLORS = [(128, 64, 128), (70, 70, 70), (0, 0, 142), (220, 20, 60)]
VOC_COLORS = [voc_color(index) for index in (0, 8, 12, 15)]
OWN_COLORS = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (1, 2, 3)]
