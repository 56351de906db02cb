"""Opening and decoding image files. All reading of images uses this module."""

import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError

from atrous.errors import AtrousWarning, DataError
from atrous.images.file_kinds import describe_file
from atrous.images.orientation import PNG, blank_damaged_exif, find_orientation, turn_upright
from atrous.images.shard_file import File, open_source

MAX_PIXELS = 500_000_000
"""Default limit on the pixels of an image, since a small file can state a huge size."""

MAX_PAGES = 10_000
"""Limit on the pages of a TIFF that are searched for."""

_ANIMATED = ("GIF", "WEBP", "PNG")
_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101

UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError,
    struct.error, Image.DecompressionBombError,
)  # fmt: skip
"""Exceptions that Pillow raises for files that it cannot read."""

_OPENING = threading.Lock()


class DecodedImage(NamedTuple):
    """A decoded image file."""

    image: Image.Image  # upright, in the mode of the file
    format: str | None  # Pillow's name
    stated_hw: tuple[int, int]  # upright, at full size
    orientation: int  # of EXIF, 1 to 8
    has_more_pages: bool  # besides the default page, which was read
    has_damaged_exif: bool  # the orientation is then 1

    def list_warnings(self, name: File | str) -> Iterator[str]:
        """Yield texts on the parts of the file that were not used."""
        if self.has_damaged_exif:
            yield (
                f"The image {name} has a damaged EXIF block: it is read as stored, with "
                "orientation 1."
            )
        if self.has_more_pages:
            yield describe_pages(name)


def describe_pages(name: File | str) -> str:
    """Return the warning about pages that are not read."""
    return (
        f"The image {name} holds more than one page or frame: only the first is read. Save the "
        "others as separate files to use them; `atrous predict` reads all. If each page is a band, "
        "set `bands` in classes.toml to their number."
    )


def warn(text: str) -> None:
    """Issue an `AtrousWarning`."""
    warnings.warn(text, AtrousWarning, stacklevel=3)


def decode_image(
    source: File | BinaryIO,
    name: str | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] | None = None,
    page: int | None = None,
    draft: tuple[str, int] | None = None,
) -> DecodedImage:
    """Decode an image file and apply its EXIF orientation; for most arguments, see `read_image`.

    `draft` is the mode and the side in pixels to which a JPEG may be reduced while decoding.

    Raises:
        DataError: The file is missing, truncated, no image, or too large.
    """
    name, source = name or str(source), open_source(source)
    with open_image(source, name, formats) as image:
        has_more_pages = page is None and _has_more_pages(image, source, name)
        if image.format in _ANIMATED:  # to find a frame is to decode those before it
            check_size((image.height, image.width), max_pixels, name)
        _seek(image, page, name)
        stored_hw = image.height, image.width
        check_size(stored_hw, max_pixels, name)
        if draft is not None:
            image.draft(draft[0], (draft[1], draft[1]))
        upright, exif = _load_upright(image, name)
    orientation = exif or 1
    stated_hw = stored_hw[::-1] if orientation >= 5 else stored_hw
    if image.format == "TIFF":
        stated_hw = upright.height, upright.width
    return DecodedImage(upright, image.format, stated_hw, orientation, has_more_pages, exif is None)


def read_image_size(
    source: File | BinaryIO,
    *,
    name: str | None = None,
    formats: tuple[str, ...] | None = None,
    page: int | None = None,
) -> tuple[int, int]:
    """Return the height and width that an image file states, before its orientation is applied.

    Raises:
        DataError: The file is missing or no image.
    """
    from atrous.images.arrays import open_array  # which imports this file

    name, source = name or str(source), open_source(source)
    if array := open_array(source, name, page=page):
        return array.size_hw
    # All frames of an animation have one size, and to find a frame is to decode those before it.
    with open_image(source, name, formats) as image:
        if image.format not in _ANIMATED:
            _seek(image, page, name)
        return image.height, image.width


def read_upright_hw(path: Path) -> tuple[tuple[int, int], int]:
    """Return the height and width of an upright image, and its EXIF orientation.

    Raises:
        DataError: The file is missing or no image.
    """
    with open_image(path, str(path)) as image:
        orientation = find_orientation(image) or 1
        return (image.size if orientation >= 5 else image.size[::-1]), orientation


def list_pages(source: Path | BinaryIO) -> list[int]:
    """Return the indices of the images in a file: pages of a TIFF, frames of a GIF, WebP or PNG.

    Reduced copies and transparency masks in a TIFF, such as the overviews of a GeoTIFF, are not
    pages, nor are the further images of a camera's JPEG.

    Raises:
        DataError: The file is missing or no image.
    """
    with open_image(source, str(source)) as image:
        return list(_iterate_pages(image))


def open_image(
    source: Path | BinaryIO, name: str, formats: tuple[str, ...] | None = None
) -> ImageFile.ImageFile:
    """Read the header of an image file, without Pillow's own limit on pixels.

    Raises:
        DataError: The file is missing or no image.
    """
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            if isinstance(source, Path):
                check_plain_file(source)
            return _open_repaired(source, formats)
        except UNREADABLE as error:
            raise describe_unreadable(name, error, source) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def describe_unreadable(
    path: Path | str, error: Exception, source: Path | BinaryIO | None = None
) -> DataError:
    """Return the error for a file that Pillow cannot read, with the name `path` in the message.

    `error` is one of `UNREADABLE`; `source` is the file, if `path` is not its path.
    """
    if isinstance(error, FileNotFoundError):
        is_link = Path(path).is_symlink()
        dangling = " It is a link to a file that does not exist." if is_link else ""
        return DataError(f"There is no file {path}.{dangling}")
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"Cannot read {path}: {error.strerror}. Check its permissions and disk.")
    reason, remedy = str(error), "Copy or export it again"
    if isinstance(error, UnidentifiedImageError):
        kind, remedy = describe_file(source or Path(path)) or (
            "in no known image format",
            "Export it as PNG, or as JPEG if it is not a mask",
        )
        reason = f"it is {kind}"
    return DataError(
        f"Cannot read {path} as an image: {reason}. {remedy}, or remove it; in a dataset, "
        "also remove its partner and its name in split lists."
    )


def check_plain_file(path: Path) -> None:
    """Raise OSError if a path is not a regular file; reading a pipe could block forever."""
    if path.exists() and not path.is_file():
        raise OSError("it is not a regular file")


def check_size(size_hw: tuple[int, int], max_pixels: int, name: str) -> None:
    """Raise DataError if an image states more pixels than the limit."""
    height, width = size_hw
    if (num_pixels := height * width) > max_pixels:
        raise DataError(
            f"The image {name} states {width} × {height} pixels, "
            f"{num_pixels / 1e6:,.0f} million; the limit is {max_pixels / 1e6:,.0f} million. If "
            "the size is right, make the image smaller or raise the limit where there is an option "
            "for it."
        )


def _seek(image: Image.Image, page: int | None, name: str) -> None:
    if page:
        try:
            image.seek(page)
        except UNREADABLE as error:
            raise describe_unreadable(name, error) from error


def _open_repaired(source: Path | BinaryIO, formats: tuple[str, ...] | None) -> ImageFile.ImageFile:
    """Open an image, even if it is a PNG whose EXIF block has a wrong checksum."""
    try:
        image = Image.open(source, formats=formats)
        if image.format == "EPS":  # decoding it runs Ghostscript
            raise UnidentifiedImageError("it is an EPS file")
        return image
    except UnidentifiedImageError:
        content = _read_png(source)
        repaired = blank_damaged_exif(content)
        if repaired == content:
            raise
        return Image.open(BytesIO(repaired), formats=formats)


def _read_png(source: Path | BinaryIO) -> bytes:
    """Return the content of a PNG; only the first bytes of any other file."""
    with open(source, "rb") if isinstance(source, Path) else nullcontext(source) as file:
        file.seek(0)
        head = file.read(len(PNG))
        return head + file.read() if head == PNG else head


def _load_upright(image: ImageFile.ImageFile, name: str) -> tuple[Image.Image, int | None]:
    is_tiff = image.format == "TIFF"
    if is_tiff:  # Pillow applies the orientation while decoding and then removes the tag
        orientation = find_orientation(image)
        image.filename = ""  # prevents memory mapping, which exchanges height and width
    try:
        image.load()
    except UNREADABLE as error:
        raise describe_unreadable(name, error) from error
    if is_tiff:
        return image, orientation
    orientation = find_orientation(image)
    return turn_upright(image, orientation or 1), orientation


def _has_more_pages(image: Image.Image, source: Path | BinaryIO, name: str) -> bool:
    if image.format == "TIFF":  # seeking changes the state of the first page
        with open_image(source, name, (image.format,)) as copy:
            pages = _iterate_pages(copy)
            next(pages)
            return next(pages, None) is not None
    try:
        return image.format in _ANIMATED and bool(getattr(image, "is_animated", False))
    except UNREADABLE:  # a GIF whose later frames are damaged
        return False


def _iterate_pages(image: Any) -> Iterator[int]:
    yield 0
    if image.format in _ANIMATED:
        yield from range(1, getattr(image, "n_frames", 1))
    elif image.format == "TIFF":
        for page in range(1, MAX_PAGES):
            try:
                image.seek(page)
                is_auxiliary = image.tag_v2.get(_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK
            except UNREADABLE:  # no further page, or a damaged one
                return
            if not is_auxiliary:
                yield page
