"""Routes of the server."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from atrous.errors import AtrousError, did_you_mean
from atrous.parsing import escape_controls
from atrous.serve.body import read_body
from atrous.serve.errors import STATUSES, RequestError
from atrous.serve.gate import Gate, build_token_check
from atrous.serve.image import decode_image, silence_libtiff
from atrous.serve.limits import Reservation
from atrous.serve.metrics import CLIENT_CLOSED, Meter
from atrous.serve.responses import (
    MEDIA_TYPES,
    Format,
    choose_format,
    describe_classes,
    encode_result,
)
from atrous.serve.schema import (
    ERRORS,
    SEGMENT_BODY,
    SEGMENT_RESPONSE,
    WARNING_HEADER,
    ModelsResponse,
    SegmentQuery,
    StateResponse,
)
from atrous.serve.service import Service

logger = logging.getLogger("atrous.serve")

_NUM_CODECS = 2
"""Threads that decode and encode. More would take cores from the model."""


def build_app(
    service: Service,
    token: str | None = None,
    *,
    hosts: Iterable[str] = (),
    page: APIRouter | None = None,
) -> FastAPI:
    """Build the application; `service` may still be loading.

    Args:
        service: The models.
        token: Required of every request but the health checks; None for no protection.
        hosts: Names of the server beside those of the loopback and its address; see `Gate`.
        page: Made by `build_page`.
    """
    silence_libtiff()
    app = FastAPI(
        title="atrous",
        summary="Semantic segmentation of images.",
        version="1",
        docs_url=None,  # FastAPI's pages load scripts from another host
        redoc_url=None,
        openapi_url=None,  # below, behind the token
        redirect_slashes=False,  # redirects contain the Host header
    )
    guard = [] if token is None else [Depends(build_token_check(token))]
    registry = CollectorRegistry()
    app.include_router(_build_health_routes(service))
    app.include_router(_build_api_routes(service, registry), dependencies=guard, responses=ERRORS)
    paths = frozenset(app.openapi()["paths"])
    app.add_api_route("/openapi.json", app.openapi, include_in_schema=False, dependencies=guard)
    if page is not None:
        app.include_router(page, dependencies=guard, include_in_schema=False)
    _add_error_handlers(app)
    app.add_middleware(Gate, hosts=hosts)
    app.add_middleware(Meter, service=service, registry=registry, paths=paths)
    return app


def _build_health_routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["state"])

    @router.get("/healthz", response_model=StateResponse)
    async def check_health() -> Any:
        """Return 200 as long as the process is alive."""
        return {"state": service.state}

    @router.get(
        "/readyz",
        response_model=StateResponse,
        responses={503: {"model": StateResponse, "description": "Loading or stopping."}},
    )
    async def check_readiness() -> Any:
        """Return 200 if the server accepts images."""
        return JSONResponse({"state": service.state}, 200 if service.state == "ready" else 503)

    return router


def _build_api_routes(service: Service, registry: CollectorRegistry) -> APIRouter:
    router = APIRouter()

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
        tags=["state"],
    )
    async def show_metrics() -> Response:
        """Return the metrics in the format of Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/models", response_model=ModelsResponse, tags=["segmentation"])
    async def list_models() -> Any:
        """List the models with their classes."""
        service.check_loaded()
        return {
            "models": [
                {
                    "name": name,
                    "default": index == 0,
                    "architecture": engine.card.name,
                    "engine": engine.name,
                    "precision": engine.precision,
                    "classes": describe_classes(engine.classes),
                }
                for index, (name, engine) in enumerate(service.engines.items())
            ],
            "limits": service.limits,
        }

    _add_segment_route(router, service)
    return router


def _add_segment_route(router: APIRouter, service: Service) -> None:
    codecs = ThreadPoolExecutor(_NUM_CODECS, thread_name_prefix="codec")

    @router.post(
        "/v1/segment",
        response_class=Response,
        responses={200: SEGMENT_RESPONSE},
        openapi_extra=SEGMENT_BODY,
        tags=["segmentation"],
    )
    async def segment(request: Request, query: Annotated[SegmentQuery, Query()]) -> Response:
        """Segment an image.

        The mask has the size of the image after its EXIF orientation is applied. Nothing is
        stored.
        """
        name = service.find_name(query.model)
        format = choose_format(query.format, request.headers.get("accept", ""))
        service.check_room()
        with Reservation(service.memory) as reservation:
            try:
                content = await read_body(request, service.limits, reservation)
                work = _segment(service, codecs, name, format, query, content, reservation)
                return await _wait(work, request, service.limits.deadline_s)
            except ClientDisconnect:
                return Response(status_code=CLIENT_CLOSED)
            except asyncio.CancelledError:
                raise RequestError(
                    503, "The server was stopped before the response was ready."
                ) from None


async def _segment(
    service: Service,
    codecs: ThreadPoolExecutor,
    name: str,
    format: Format,
    query: SegmentQuery,
    content: bytes,
    reservation: Reservation,
) -> Response:
    """Decode an image, run the model and encode the result."""
    run = partial(asyncio.get_running_loop().run_in_executor, codecs)
    warnings: list[str] = []
    bands = service.engines[name].card.bands
    image = await run(decode_image, content, service.limits, reservation, bands, warnings.append)
    confidence = query.confidence and format == "json"
    prediction = await asyncio.wrap_future(service.submit(name, image, confidence=confidence))
    engine = service.engines[name]
    body = await run(encode_result, format, image, prediction, name, engine, query.opacity)
    headers = {"Cache-Control": "no-store"}
    if warnings:
        headers[WARNING_HEADER] = " ".join(warnings)
    return Response(body, media_type=MEDIA_TYPES[format], headers=headers)


async def _wait(
    work: Coroutine[Any, Any, Response], request: Request, deadline_s: float
) -> Response:
    """Await a response until the deadline or until the client disconnects, then cancel the work.

    Raises:
        RequestError: 504: the deadline passed.
        ClientDisconnect: The client disconnected.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_wait_for_disconnect(request))
    try:
        await asyncio.wait(
            {working, leaving}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED
        )
        if working.done():
            return working.result()
        if leaving.done():
            raise ClientDisconnect
        raise RequestError(
            504,
            f"The response was not ready within {deadline_s:g} seconds. Send a smaller image, or "
            "try again when the server is less busy.",
        )
    finally:
        working.cancel()
        leaving.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def reject(request: Request, error: RequestError) -> Response:
        return error.build_response()

    @app.exception_handler(RequestValidationError)
    async def reject_parameters(request: Request, error: RequestValidationError) -> Response:
        problems = []
        for problem in error.errors()[:5]:
            name = str(problem["loc"][-1])[:60]
            if problem["type"] == "extra_forbidden":
                near = did_you_mean(name, SegmentQuery.model_fields)
                problems.append(f"There is no parameter '{name}'.{near}")
            else:
                problems.append(f"The parameter '{name}' is invalid: {problem['msg']}.")
        return RequestError(422, " ".join(problems)).build_response()

    @app.exception_handler(HTTPException)  # of Starlette and FastAPI: 401, 404, 405
    async def reject_path(request: Request, error: HTTPException) -> Response:
        response = RequestError(error.status_code).build_response()
        if error.status_code == 405:
            response.headers.update(error.headers or {})  # Allow
        return response

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": STATUSES[500]}, 500)

    @app.exception_handler(AtrousError)
    async def log_and_fail(request: Request, error: AtrousError) -> Response:
        logger.error("Segmentation failed: %s", escape_controls(str(error)))
        return await fail(request, error)
