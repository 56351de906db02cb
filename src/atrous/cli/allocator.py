"""How the command's processes hold their memory."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 32 * 2**20
"""The most that every glibc takes. What is larger still goes back at once, for kept pieces of
several sizes would not fit into each other's place and the peak would grow."""


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed for what is needed next; elsewhere, do nothing.

    A network frees and asks for the same few hundred megabytes at each image or step. By default
    they go back to the system each time, and to get them again, zeroed page by page, takes time
    that docs/results.md measures. It concerns the whole process, so that the command does it and
    the library does not.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
        libc.mallopt(_M_ARENA_MAX, 1)
