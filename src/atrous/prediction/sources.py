"""The inputs of a prediction: images and videos in files, folders, patterns, archives, streams."""

import glob
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from PIL import Image

from atrous.data.pairs import IMAGE_SUFFIXES, list_image_files
from atrous.errors import AtrousWarning, ConfigError, DataError
from atrous.extras import import_extra
from atrous.images.arrays import open_array
from atrous.images.image_file import UNREADABLE, describe_unreadable, list_pages, open_image
from atrous.images.orientation import find_orientation, turn_upright
from atrous.images.tiff import is_georeferenced
from atrous.prediction.archives import is_archive, list_archive
from atrous.prediction.video import VIDEO_SUFFIXES

STDIN = "-"

File = Path | BinaryIO

MAX_FRAME_PIXELS = 2**24
"""Animations with larger frames are not decoded in order, frame by frame."""

_SINGLE_IMAGE = (b"\xff\xd8", b"BM")
"""First bytes of JPEG and BMP files, which hold one image."""

_PAGED_SUFFIXES = (".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Source:
    """An image or a video.

    Attributes:
        source: Name in messages: a path, `archive.zip:member` or `stdin`.
        name: Path below the given folder, with forward slashes and suffix: `sub/a.jpg`.
        stamp: Changes with the content; empty if unknown.
        fetch: Returns the file. Called in the order of the list and from one thread, because
            archives and animations are read from front to back.
        page: Page of the fetched file, from 0; None for its only image.
        is_whole: Whether a file of this name holds this image only.
        is_geo: Whether it is a GeoTIFF, of which masks have the coordinates.
    """

    source: str
    name: str
    stamp: str
    fetch: Callable[[], File]
    path: Path | None = None
    page: int | None = None
    is_whole: bool = True
    is_geo: bool = False

    @property
    def is_video(self) -> bool:
        """Whether this is a video file."""
        return self.path is not None and self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(
    given: Sequence[Path | str],
    *,
    full_names: bool = False,
    bands: int | None = None,
    with_maps: bool = True,
) -> list[Source]:
    """Return the given images and videos, each file once.

    Args:
        given: Paths as for `predict`, or `-` for an image on standard input. Each page of a TIFF
            and each frame of a GIF, WebP or PNG is one image.
        full_names: Whether `Source.name` is the whole path rather than the part below the folder
            or below the fixed part of the pattern.
        bands: Number of bands of the model. A TIFF with as many pages of one band is one image.
        with_maps: Whether GeoTIFFs keep their coordinates.

    Raises:
        ConfigError: A path does not exist, a pattern matches nothing, or there is no image.
        DataError: An archive cannot be read.
    """
    sources: dict[str, Sequence[Source]] = {}
    for one in map(str, given):
        for source in _expand(one):
            if full_names and source.path is not None:
                source = replace(source, name=clean_name(source.path.as_posix()))
            key = os.path.realpath(source.path) if source.path is not None else source.source
            if key not in sources:
                sources[key] = _split_pages(source, bands, with_maps)
    if not sources:
        raise ConfigError(
            f"There are no images in {', '.join(map(str, given)) or 'an empty list'}. Give "
            f"images, or folders with files that end in {', '.join(IMAGE_SUFFIXES)}; for videos "
            "and archives give the files themselves."
        )
    return [source for pages in sources.values() for source in pages]


def clean_name(path: str) -> str:
    """Return a relative path with forward slashes that cannot leave its folder."""
    parts, left_out = PurePosixPath(path.replace("\\", "/")).parts, ("/", "//", "..", ".", "")
    return "/".join(part.replace(":", "") for part in parts if part not in left_out)


def _expand(given: str) -> Iterator[Source]:
    path, exists = Path(given), os.path.exists(given)
    if given == STDIN:
        content = sys.stdin.buffer.read()
        yield Source("stdin", "stdin", "", lambda: BytesIO(content), is_whole=False)
    elif os.path.isdir(given):
        for file in list_image_files(path):
            yield from _open_file(file, file.name)
    elif os.path.isfile(given) or os.path.islink(given):
        yield from _open_file(path, path.name)
    elif glob.has_magic(given) and not exists:
        yield from _match(given)
    elif exists:
        raise ConfigError(f"{given} is no plain file. To read an image from a pipe, give '-'.")
    else:
        raise ConfigError(f"There is no image or folder {given}.")


def _match(pattern: str) -> Iterator[Source]:
    """Yield the files that match a pattern, named by their path below its fixed part."""
    base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    paths = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]
    files = [
        path
        for path in paths
        if (path.is_file() and (path.suffix.lower() in known or is_archive(path)))
        or (path.is_symlink() and not path.exists() and path.suffix.lower() in known)
    ]
    if not files:
        raise ConfigError(
            f"No image, video or archive matches {pattern}. "
            + (f"It matches {len(paths)} other files or folders." if paths else "")
            + " In a pattern, * stands for any part of a name and ** for any folders."
        )
    for path in files:
        yield from _open_file(path, path.relative_to(base).as_posix())


def _open_file(path: Path, name: str) -> Iterator[Source]:
    if is_archive(path):
        for member in list_archive(path):
            inside = f"{PurePosixPath(name).with_suffix('')}/{clean_name(member.name)}"
            yield Source(f"{path}:{member.name}", inside, member.stamp, member.fetch)
        return
    try:
        status = path.stat()
        stamp = f"{status.st_size}-{status.st_mtime_ns}"
    except OSError:
        stamp = ""  # a dead link, which is reported when it is read
    yield Source(str(path), clean_name(name), stamp, lambda: path, path)


def _split_pages(image: Source, bands: int | None, with_maps: bool) -> list[Source]:
    """Return one source per page of a file; errors are left to the reading of the image."""
    if image.is_video or not _may_have_pages(image):
        return [image]
    try:
        file = image.fetch()
        array = open_array(file, image.source, bands=bands)
        pages = [0] if array is not None and array.num_pages == 1 else list_pages(file)
        if len(pages) < 2:
            return [replace(image, is_geo=with_maps and _is_geo(image))]
        with open_image(file, image.source) as opened:
            in_order = opened.format != "TIFF" and opened.width * opened.height <= MAX_FRAME_PIXELS
    except (DataError, OSError):
        return [image]
    path, sources = PurePosixPath(image.name), []
    for number, page in enumerate(pages, start=1):
        source = f"{image.source}, page {number}"
        name = str(path.with_name(f"{path.stem}_p{number:04}{path.suffix}"))
        fetch: Callable[[], File] = partial(_fetch_again, image.fetch)
        if in_order:
            fetch = partial(_decode_frame, image.fetch, source, page)
        own_page = None if in_order else page
        page_source = replace(image, source=source, name=name, fetch=fetch, page=own_page)
        sources.append(replace(page_source, is_whole=False))
    return sources


def _is_geo(image: Source) -> bool:
    """Return whether an image on disk is a GeoTIFF whose coordinates can be read."""
    if image.path is None or not is_georeferenced(image.path):
        return False
    try:
        import_extra("rasterio", "geo")
    except ConfigError as error:
        warnings.warn(
            f"{image.source} is a GeoTIFF, but its coordinates are not kept. {error}",
            AtrousWarning,
            stacklevel=2,
        )
        return False
    return True


def _may_have_pages(image: Source) -> bool:
    """Return whether a file may hold several pages; for archives by suffix, without unpacking."""
    if image.path is not None:
        if not image.path.is_file():
            return False
        with open(image.path, "rb") as file:
            return file.read(2) not in _SINGLE_IMAGE
    return image.name == "stdin" or PurePosixPath(image.name).suffix.lower() in _PAGED_SUFFIXES


def _decode_frame(fetch: Callable[[], File], name: str, page: int) -> BinaryIO:
    """Return a frame of an animation as a file; in order, each frame is decoded once."""
    try:
        if _open_animation(fetch).tell() > page:
            _open_animation.cache_clear()  # Pillow cannot rewind every PNG
        animation = _open_animation(fetch)
        animation.seek(page)
        animation.load()
    except UNREADABLE as error:
        _open_animation.cache_clear()
        raise describe_unreadable(name, error) from error
    orientation, file = find_orientation(animation), BytesIO()
    exif = animation.info.get("exif", b"") if orientation is None else b""  # damaged: warned of
    turn_upright(animation, orientation or 1).save(file, "PNG", compress_level=0, exif=exif)
    return file


@lru_cache(maxsize=1)
def _open_animation(fetch: Callable[[], File]) -> Image.Image:
    return open_image(_fetch_again(fetch), "the animation")


def _fetch_again(fetch: Callable[[], File]) -> File:
    file = _fetch_once(fetch)
    return file if isinstance(file, Path) else BytesIO(file)


@lru_cache(maxsize=1)
def _fetch_once(fetch: Callable[[], File]) -> Path | bytes:
    """Unpack a member once for all of its pages, which follow each other."""
    file = fetch()
    return file if isinstance(file, Path) else file.read()
