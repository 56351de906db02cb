"""From an image file to upright pixels: everything that reads images comes through here."""

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError

from atrous.data.file_kinds import describe_file
from atrous.data.orientation import find_orientation, turn_upright
from atrous.errors import AtrousWarning, DataError

MAX_PIXELS = 500_000_000
"""Images of more pixels are refused unless asked for: a small file can claim to be huge."""

MAX_PAGES = 10_000
"""Further pages of a TIFF are not looked for: each takes a few bytes of a file and much time."""

_ANIMATED = ("GIF", "WEBP", "PNG")
_PNG = b"\x89PNG\r\n\x1a\n"
_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101

UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError,
    struct.error, Image.DecompressionBombError,
)  # fmt: skip
"""What PIL raises for files that it cannot read."""

_OPENING = threading.Lock()


class DecodedImage(NamedTuple):
    """An image file as it was decoded.

    Attributes:
        image: Upright, in the mode of the file.
        format: Of the file, as Pillow calls it.
        stated_hw: Height and width of the upright image at full size.
        orientation: That the file had, 1 to 8.
        has_more_pages: Whether the file holds more than the image that was asked for by default.
        has_damaged_exif: Whether the orientation is 1 for want of a better one.
    """

    image: Image.Image
    format: str | None
    stated_hw: tuple[int, int]
    orientation: int
    has_more_pages: bool
    has_damaged_exif: bool

    def list_warnings(self, name: Path | str) -> list[str]:
        """Say what of the file is not used."""
        texts = []
        if self.has_damaged_exif:
            texts.append(
                f"The image {name} has a damaged EXIF block: it is taken as it is stored, as with "
                "orientation 1."
            )
        if self.has_more_pages:
            texts.append(
                f"The image {name} holds more than one page or frame: only the first is read. Save "
                "the others as files of their own to use them; `atrous predict` takes each."
            )
        return texts


def warn(text: str) -> None:
    """Warn of a file that is used in part."""
    warnings.warn(text, AtrousWarning, stacklevel=3)


def decode_image(
    source: Path | BinaryIO,
    name: str | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] | None = None,
    page: int | None = None,
    draft: tuple[str, int] | None = None,
) -> DecodedImage:
    """Decode an image file and turn it upright: all that reads pixels comes through here.

    Args:
        source: Path, or a file object that can seek.
        name: What to call it in messages; by default, its path.
        max_pixels: More are refused before they are decoded.
        formats: The only ones that are tried, as Pillow calls them; None for all.
        page: One of `list_pages`; by default the first.
        draft: Mode and side in pixels to which a JPEG may be reduced while it is decoded.

    Raises:
        DataError: The file is missing, truncated, no image, or too large.
    """
    name = name or str(source)
    with open_image(source, name, formats) as image:
        has_more_pages = page is None and _has_more_pages(image, source, name)
        if image.format in _ANIMATED:  # to find a frame is to decode those before it
            _check_size(image, max_pixels, name)
        _seek(image, page, name)
        _check_size(image, max_pixels, name)
        width, height = image.size
        if draft is not None:
            image.draft(draft[0], (draft[1], draft[1]))
        upright, orientation = _load_upright(image, name)
    if image.format == "TIFF":
        width, height = upright.size
    elif (orientation or 1) >= 5:
        width, height = height, width
    return DecodedImage(
        upright,
        image.format,
        (height, width),
        orientation or 1,
        has_more_pages,
        orientation is None,
    )


def read_image_size(
    source: Path | BinaryIO,
    *,
    name: str | None = None,
    formats: tuple[str, ...] | None = None,
    page: int | None = None,
) -> tuple[int, int]:
    """Return the height and width that an image file states, perhaps before it is turned upright.

    Raises:
        DataError: The file is missing or no image.
    """
    name = name or str(source)
    with open_image(source, name, formats) as image:
        if image.format not in _ANIMATED:  # whose frames are all of one size
            _seek(image, page, name)
        return image.height, image.width


def list_pages(source: Path | BinaryIO) -> list[int]:
    """Return the numbers of the images in a file: pages of a TIFF, frames of a GIF or WebP.

    Reduced copies and transparency masks, as in a GeoTIFF with overviews, are no pages, nor are the
    further images of a camera's JPEG.

    Raises:
        DataError: The file is missing or no image.
    """
    with open_image(source, str(source)) as image:
        return list(_iterate_pages(image))


def open_image(
    source: Path | BinaryIO, name: str, formats: tuple[str, ...] | None = None
) -> ImageFile.ImageFile:
    """Read the header only, without Pillow's own limit, of which one half is but a warning.

    Raises:
        DataError: The file is missing or no image.
    """
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            if isinstance(source, Path):
                check_plain_file(source)
            return _open_mended(source, formats)
        except UNREADABLE as error:
            raise describe_unreadable(name, error, source) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def describe_unreadable(
    path: Path | str, error: Exception, source: Path | BinaryIO | None = None
) -> DataError:
    """Say what is wrong with a file that made PIL raise one of `UNREADABLE`.

    Args:
        path: What to call the file.
        error: As PIL raised it.
        source: The file, where `path` is not its place on disk.
    """
    if isinstance(error, FileNotFoundError):
        is_link = Path(path).is_symlink()
        dead = " It is a link, and what it points to is gone." if is_link else ""
        return DataError(f"There is no file {path}.{dead}")
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"Cannot read {path}: {error.strerror}. Check its permissions and disk.")
    reason, remedy = str(error), "Copy or export it again"
    if isinstance(error, UnidentifiedImageError):
        kind, remedy = describe_file(source or Path(path)) or (
            "in no known image format",
            "Export it as PNG, or as JPEG if it is no mask",
        )
        reason = f"it is {kind}"
    return DataError(
        f"Cannot read {path} as an image: {reason}. {remedy}, or remove it; from a dataset, "
        "together with its partner and its name in split lists."
    )


def check_plain_file(path: Path) -> None:
    """Raise OSError where there is something else than a file, which may keep a reader waiting."""
    if path.exists() and not path.is_file():
        raise OSError("it is no plain file")


def _check_size(image: Image.Image, max_pixels: int, name: str) -> None:
    num_pixels = image.width * image.height
    if num_pixels > max_pixels:
        raise DataError(
            f"The image {name} states {image.width} × {image.height} pixels, "
            f"{num_pixels / 1e6:,.0f} million, where at most {max_pixels / 1e6:,.0f} million are "
            "taken. If it is what it should be, make it smaller, or raise the limit where there "
            "is an option for it."
        )


def _open_mended(source: Path | BinaryIO, formats: tuple[str, ...] | None) -> ImageFile.ImageFile:
    """Open an image; a PNG also where the checksum of its EXIF block is wrong."""
    try:
        image = Image.open(source, formats=formats)
        if image.format == "EPS":  # decoding it would run Ghostscript on a program
            raise UnidentifiedImageError("it is an EPS program")
        return image
    except UnidentifiedImageError:
        content = _read_png(source)
        mended = _spoil_wrong_exif(content)
        if mended == content:
            raise
        return Image.open(BytesIO(mended), formats=formats)


def _read_png(source: Path | BinaryIO) -> bytes:
    """Return a PNG file; of any other, which may be of any length, the first bytes."""
    with open(source, "rb") if isinstance(source, Path) else nullcontext(source) as file:
        file.seek(0)
        head = file.read(len(_PNG))
        return head + file.read() if head == _PNG else head


def _spoil_wrong_exif(content: bytes) -> bytes:
    """Replace EXIF blocks of a PNG that do not fit their checksums by one that means nothing."""
    place, chunks = len(_PNG), [content[: len(_PNG)]]
    while place + 12 <= len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        chunk = content[place:end]
        if chunk[4:8] == b"eXIf" and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            chunk = b"\0\0\0\1eXIf?" + zlib.crc32(b"eXIf?").to_bytes(4, "big")
        chunks.append(chunk)
        place = end
    return b"".join(chunks) + content[place:]


def _load_upright(image: ImageFile.ImageFile, name: str) -> tuple[Image.Image, int | None]:
    # Pillow itself turns a TIFF while it decodes it, and then forgets that it had to.
    turns_itself = image.format == "TIFF"
    orientation = find_orientation(image) if turns_itself else None
    if turns_itself:
        image.filename = ""  # else it is mapped into memory, with height and width exchanged
    try:
        image.load()
    except UNREADABLE as error:
        raise describe_unreadable(name, error) from error
    if turns_itself:
        return image, orientation
    orientation = find_orientation(image)
    return turn_upright(image, orientation or 1), orientation


def _has_more_pages(image: Image.Image, source: Path | BinaryIO, name: str) -> bool:
    if image.format == "TIFF":  # looking changes what has been read of the first page
        with open_image(source, name, (image.format,)) as copy:
            pages = _iterate_pages(copy)
            next(pages)
            return next(pages, None) is not None
    try:
        return image.format in _ANIMATED and bool(getattr(image, "is_animated", False))
    except UNREADABLE:  # of a GIF, of which what follows is damaged
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
            except UNREADABLE:  # the end, or what follows is damaged
                return
            if not is_auxiliary:
                yield page


def _seek(image: Image.Image, page: int | None, name: str) -> None:
    if page:
        try:
            image.seek(page)
        except UNREADABLE as error:
            raise describe_unreadable(name, error) from error
