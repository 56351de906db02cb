"""From a request to the bytes of the image in it, all in memory."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from atrous.serve.limits import Limits
from atrous.serve.memory import Hold
from atrous.serve.refusals import RefusedError, SlowSenderError, TooLargeError, UnusableError

FIELD = "image"


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, that otherwise puts what is above 1 MB on disk."""

    spool_max_size = 2**62


async def read_body(request: Request, limits: Limits, hold: Hold) -> bytes:
    """Return the image that a request carries as its body or in the multipart field `image`.

    Raises:
        RefusedError: There is none, or more than one.
        SlowSenderError: It did not arrive in time.
        TooLargeError: The body is larger than is allowed.
        BusyError: There is no memory for it now.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.max_body_bytes:
        raise _explain_size(limits)
    chunks = _count_chunks(request, limits, hold)
    content_type = request.headers.get("content-type", "")
    try:
        async with asyncio.timeout(limits.transfer_s):
            if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
                content = await _parse(request, chunks, limits)
            else:
                content = b"".join([chunk async for chunk in chunks])
    except TimeoutError:
        raise SlowSenderError(
            f"The body did not arrive within {limits.transfer_s:g} seconds. Send a smaller image."
        ) from None
    if not content:
        raise RefusedError(
            "There is no image in the request. Send it as the body, or as the file of the "
            f"multipart field '{FIELD}'."
        )
    return content


async def _count_chunks(
    request: Request, limits: Limits, hold: Hold
) -> AsyncGenerator[bytes, None]:
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > limits.max_body_bytes:
            raise _explain_size(limits)
        hold.set(num_bytes)
        yield chunk


async def _parse(request: Request, chunks: AsyncGenerator[bytes, None], limits: Limits) -> bytes:
    parser = _InMemoryParser(
        request.headers, chunks, max_files=1, max_fields=1, max_part_size=limits.max_body_bytes
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RefusedError(
            f"The multipart body cannot be used: {error.message} Send one part, a file in the "
            f"field '{FIELD}'."
        ) from None
    fields = form.multi_items()
    if [name for name, _ in fields] != [FIELD]:
        sent = ", ".join(f"'{name[:40]}'" for name, _ in fields) or "none"
        raise UnusableError(
            f"The multipart body must have one field, the file '{FIELD}'; it has {sent}."
        )
    ((_, file),) = fields
    if not isinstance(file, UploadFile):
        raise UnusableError(
            f"The multipart field '{FIELD}' is text. Send it as a file, with a filename."
        )
    try:
        return file.file.read()
    finally:
        file.file.close()


def _explain_size(limits: Limits) -> TooLargeError:
    return TooLargeError(
        f"The body is larger than {limits.max_body_bytes / 1e6:g} MB, the most that is taken. Send "
        "a smaller image, or one that is compressed more."
    )
