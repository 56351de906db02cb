"""Damage in a JPEG that still decodes: what the decoder warns of on standard error."""

import os
import re
import sys
import tempfile
import threading
import warnings
from contextlib import suppress

_DAMAGE = re.compile(
    r"Corrupt JPEG data: (?!bad ICC)[^\n]+"
    r"|Premature end of JPEG file|Inconsistent progression sequence[^\n]+"
)
_PADDING = re.compile(r"\b[1-4] extraneous bytes before marker 0xd9")
"""Some cameras put a few bytes behind the pixels."""

_STDERR = 2
_CAPTURING = threading.Lock()


def find_jpeg_damage(content: bytes) -> str | None:
    """Decode a JPEG and return the decoder's first warning of damage, None where there is none.

    Pillow drops libjpeg's warnings; torchvision leaves them on standard error of the process, from
    where they are taken. What else is written there meanwhile is passed on. Without a decoder in
    torchvision, which means to drop it, nothing is found.
    """
    import torch
    from torchvision import io

    if not hasattr(io, "decode_jpeg"):
        return None
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    with _CAPTURING, tempfile.TemporaryFile() as log:
        stderr = os.dup(_STDERR)
        os.dup2(log.fileno(), _STDERR)
        try:
            with suppress(RuntimeError), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                io.decode_jpeg(values, io.ImageReadMode.GRAY)
        finally:
            os.dup2(stderr, _STDERR)
            os.close(stderr)
        log.seek(0)
        text = log.read().decode(errors="replace")
    found = _DAMAGE.search(text)
    if others := _DAMAGE.sub("", text).strip():
        print(others, file=sys.stderr)
    if found is None or _PADDING.search(found[0]):
        return None
    return found[0].removeprefix("Corrupt JPEG data: ")
