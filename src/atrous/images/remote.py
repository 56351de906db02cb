"""Files over a network, read by fsspec, and a cache of bounded size on disk."""

import os
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from atrous.errors import AtrousWarning, ConfigError, StorageError
from atrous.extras import import_extra

_WAITS_S = (0.5, 1, 2, 4)
_MIN_TIMEOUT_S, _MIN_BYTES_PER_S = 30, 50_000
_MAX_BYTES = 10_000_000
"""Size of an index that arrives in time at the lowest speed."""

_KEPT_SHARE, _TRIM_SHARE, _MAX_FILE_SHARE = 0.8, 0.01, 0.1


def is_url(root: Path | str) -> bool:
    """Return whether a dataset is not in a local folder, such as `s3://bucket/data`."""
    return isinstance(root, str) and "://" in root


def read_remote(
    url: str, find_problem: Callable[[bytes], str | None], span: tuple[int, int] | None = None
) -> bytes:
    """Return a file or a part of it (first byte and end, exclusive); failed tries are repeated.

    `find_problem` returns what is wrong with an answer, or None.

    Raises:
        StorageError: The file does not exist, or no try gives a right answer.
        ConfigError: A package for this kind of address is missing, or the kind is unknown.
    """
    system, path = _open_file_system(url)
    start, end = span or (None, None)
    timeout_s = _MIN_TIMEOUT_S + (span[1] - span[0] if span else _MAX_BYTES) / _MIN_BYTES_PER_S
    options = {"timeout": timeout_s} if system.async_impl else {}
    for wait_s in (*_WAITS_S, None):
        try:
            content: bytes = system.cat_file(path, start=start, end=end, **options)
            problem = find_problem(content)
        except FileNotFoundError:
            raise StorageError(
                f"There is no {url}. Give the address of a folder that `atrous data shard` wrote, "
                "with all of its files."
            ) from None
        except TimeoutError:
            problem = f"no answer within {timeout_s:.0f} s"
        except Exception as error:  # of many kinds, for each file system another
            problem = str(error) or type(error).__name__
        if problem is None:
            return content
        if wait_s is not None:
            time.sleep(wait_s)
    raise StorageError(
        f"Cannot read {url}, after {len(_WAITS_S) + 1} tries: {problem}. Check the address and the "
        "network, then start the same command again; if the file has changed, upload it again."
    )


def _open_file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, one per process, and the path in it."""
    core = import_extra("fsspec.core", "remote")
    try:
        return core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"Cannot open {url}: {error}. Addresses such as https://… and s3://… need "
            "pip install 'atrous[remote]', others the package that fsspec names."
        ) from error


class DiskCache:
    """A folder of files, of which the least recently used are removed; processes may share it.

    Args:
        folder: The folder; it is created when it is needed.
        max_bytes: Limit on the size of all files, which holds with up to 20 processes.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._bytes_until_trim = 0

    def get(self, key: str) -> bytes | None:
        """Return the content of a file, or None."""
        path = self._folder / key
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:  # not there, or removed by another process
            return None
        return content

    def put(self, key: str, content: bytes) -> None:
        """Write a file, unless it is large for the cache; a failure is a warning."""
        if len(content) > _MAX_FILE_SHARE * self._max_bytes:
            return
        temporary = self._folder / f".{key}.{os.getpid()}.{threading.get_ident()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._bytes_until_trim -= len(content)
            if self._bytes_until_trim < 0:
                self._trim()
                self._bytes_until_trim = int(_TRIM_SHARE * self._max_bytes)
            temporary.write_bytes(content)
            temporary.replace(self._folder / key)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            text = f"Samples are not kept in the cache {self._folder}: {error.strerror}."
            warnings.warn(text, AtrousWarning, stacklevel=2)

    def _trim(self) -> None:
        files = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        excess = sum(size for _, size, _ in files) - _KEPT_SHARE * self._max_bytes
        for _, size, path in sorted(files):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


def open_cache() -> DiskCache:
    """Return the cache of this process: ATROUS_CACHE_DIR, with at most ATROUS_CACHE_GB (10).

    Raises:
        ConfigError: The limit is not a number.
    """
    parent = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = os.environ.get("ATROUS_CACHE_DIR") or Path(parent, "atrous", "shards")
    return _open_cache(Path(folder), os.environ.get("ATROUS_CACHE_GB") or "10")


@lru_cache(maxsize=1)
def _open_cache(folder: Path, limit: str) -> DiskCache:
    try:
        return DiskCache(folder, int(1e9 * float(limit)))
    except (ValueError, OverflowError):
        raise ConfigError(
            f"ATROUS_CACHE_GB is '{limit}'; it must be a number of gigabytes, such as 50, or 0 for "
            "no cache."
        ) from None
