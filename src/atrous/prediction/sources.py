"""What there is to segment: images and clips in files, folders, globs, archives and streams."""

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from atrous.data.image_file import list_pages
from atrous.data.pairs import IMAGE_SUFFIXES, list_image_files
from atrous.errors import ConfigError, DataError
from atrous.prediction.archives import is_archive, list_archive
from atrous.prediction.video import VIDEO_SUFFIXES

STDIN = "-"

_ONE_IMAGE = (b"\xff\xd8", b"BM")
"""How files of JPEG and BMP begin, which hold one image."""

_PAGED_SUFFIXES = (".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class ImageSource:
    """An image that can be read, now or later.

    Attributes:
        source: What to call it: a path, `archive.zip:member` or `stdin`.
        name: Its place below what was given, with forward slashes and suffix: `sub/a.jpg`.
        stamp: Changes when its content does; empty where nothing can tell.
        fetch: Returns the file: a path, or its bytes. To be called in the order of the list, from
            one thread, since archives are read from front to back.
        path: The file on disk, if it is one of its own.
        page: Which of several images in the file, from 0; None where it holds one.
    """

    source: str
    name: str
    stamp: str
    fetch: Callable[[], Path | BinaryIO]
    path: Path | None = None
    page: int | None = None


@dataclass(frozen=True)
class VideoSource:
    """A video file.

    Attributes:
        source: What to call it: a path.
        name: Its place below what was given, as in `ImageSource`.
        stamp: As in `ImageSource`.
        path: The file.
    """

    source: str
    name: str
    stamp: str
    path: Path


Source = ImageSource | VideoSource


def find_sources(given: Sequence[Path | str], *, full_names: bool = False) -> list[Source]:
    """Return the images and clips that were given, each file once.

    Args:
        given: Of each kind that there is: an image, a video, an archive of images (zip, tar),
            a folder, of which the images directly inside are taken, a pattern such as
            `photos/**/*.jpg`, or `-` for an image on standard input. Every page of a TIFF and
            every frame of a GIF or WebP is an image of its own.
        full_names: Whether `Source.name` is all of the path, not only what lies below the folder
            or the fixed part of the pattern.

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
                sources[key] = _split_pages(source) if isinstance(source, ImageSource) else [source]
    if not sources:
        raise ConfigError(
            f"There are no images in {', '.join(map(str, given)) or 'an empty list'}. Give "
            f"images, or folders with files that end in {', '.join(IMAGE_SUFFIXES)}; for videos "
            "and archives give the files themselves."
        )
    return [source for pages in sources.values() for source in pages]


def clean_name(path: str) -> str:
    """Return a path with forward slashes that stays below the folder it is put in."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return "/".join(
        part.replace(":", "") for part in parts if part not in ("/", "//", "..", ".", "")
    )


def _expand(given: str) -> Iterator[Source]:
    path, exists = Path(given), os.path.exists(given)
    if given == STDIN:
        content = sys.stdin.buffer.read()
        yield ImageSource("stdin", "stdin", "", lambda: BytesIO(content))
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
    """Find files by a pattern; they are named by what follows its fixed part."""
    fixed = 0
    parts = Path(pattern).parts
    while not glob.has_magic(parts[fixed]):
        fixed += 1
    base = Path(*parts[:fixed])
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
            yield ImageSource(f"{path}:{member.name}", inside, member.stamp, member.fetch)
        return
    try:
        status = path.stat()
        stamp = f"{status.st_size}-{status.st_mtime_ns}"
    except OSError:
        stamp = ""  # a link to nothing, which is said when its turn comes
    if path.suffix.lower() in VIDEO_SUFFIXES:
        yield VideoSource(str(path), clean_name(name), stamp, path)
    else:
        yield ImageSource(str(path), clean_name(name), stamp, lambda: path, path)


def _split_pages(image: ImageSource) -> list[ImageSource]:
    """Return an image per page of its file; what cannot be read now is reported in its turn."""
    try:
        pages = list_pages(image.fetch()) if _may_have_pages(image) else [0]
    except (DataError, OSError):
        return [image]
    if len(pages) < 2:
        return [image]
    path = PurePosixPath(image.name)
    fetch = partial(_fetch_again, image.fetch)
    return [
        replace(
            image,
            source=f"{image.source}, page {number}",
            name=str(path.with_name(f"{path.stem}_p{number:04}{path.suffix}")),
            fetch=fetch,
            page=page,
        )
        for number, page in enumerate(pages, start=1)
    ]


def _may_have_pages(image: ImageSource) -> bool:
    """Tell whether it is worth looking: of archives, by the suffix, since each look unpacks one."""
    if image.path is not None:
        if not image.path.is_file():
            return False
        with open(image.path, "rb") as file:
            return file.read(2) not in _ONE_IMAGE
    return image.name == "stdin" or PurePosixPath(image.name).suffix.lower() in _PAGED_SUFFIXES


def _fetch_again(fetch: Callable[[], Path | BinaryIO]) -> Path | BinaryIO:
    file = _fetch_once(fetch)
    return file if isinstance(file, Path) else BytesIO(file)


@lru_cache(maxsize=1)
def _fetch_once(fetch: Callable[[], Path | BinaryIO]) -> Path | bytes:
    """Unpack a member once for all of its pages, which follow each other."""
    file = fetch()
    return file if isinstance(file, Path) else file.read()
