"""Reading the image file of a request, in memory only."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from atrous.serve.errors import RequestError
from atrous.serve.limits import Limits, Reservation

FIELD = "image"


async def read_body(request: Request, limits: Limits, reservation: Reservation) -> bytes:
    """Return the image file, sent as the body or in the multipart field `image`.

    Raises:
        RequestError: 400 or 422: the body is empty or the multipart body is invalid. 408: it did
            not arrive in time. 413: it is too large. 429: the memory is full.
    """
    chunks = _iterate_chunks(request, limits, reservation)
    content_type = request.headers.get("content-type", "")
    try:
        async with asyncio.timeout(limits.transfer_s):
            if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
                content = await _parse_multipart(request, chunks, limits)
            else:
                content = b"".join([chunk async for chunk in chunks])
    except TimeoutError:
        raise RequestError(
            408,
            f"The body did not arrive within {limits.transfer_s:g} seconds. Send a smaller image.",
        ) from None
    if not content:
        raise RequestError(
            400,
            "There is no image in the request. Send it as the body, or as a file in the "
            f"multipart field '{FIELD}'.",
        )
    return content


async def _iterate_chunks(
    request: Request, limits: Limits, reservation: Reservation
) -> AsyncGenerator[bytes, None]:
    too_large = RequestError(
        413,
        f"The body is larger than {limits.max_body_bytes / 1e6:g} MB, the limit of this server. "
        "Send a smaller image, or one with stronger compression.",
    )
    if int(request.headers.get("content-length", 0)) > limits.max_body_bytes:
        raise too_large
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > limits.max_body_bytes:
            raise too_large
        reservation.resize(num_bytes)
        yield chunk


async def _parse_multipart(
    request: Request, chunks: AsyncGenerator[bytes, None], limits: Limits
) -> bytes:
    parser = MultiPartParser(request.headers, chunks, max_files=1, max_fields=1)
    parser.max_part_size = parser.spool_max_size = limits.max_body_bytes  # no temporary file
    try:
        fields = (await parser.parse()).multi_items()
    except MultiPartException as error:
        raise RequestError(
            400,
            f"The multipart body is invalid: {error.message} Send one part, a file in the field "
            f"'{FIELD}'.",
        ) from None
    match fields:
        case [(name, UploadFile() as file)] if name == FIELD:
            return await file.read()
    names = [f"'{name[:40]}'" + " as text" * isinstance(value, str) for name, value in fields]
    raise RequestError(
        422,
        f"The multipart body must have one field, '{FIELD}', sent as a file with a filename, but "
        f"has {', '.join(names) or 'none'}.",
    )
