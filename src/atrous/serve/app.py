"""Routes of the server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response

from atrous.errors import AtrousError, did_you_mean
from atrous.parsing import escape_controls
from atrous.serve import schema
from atrous.serve.batcher import BatchKey
from atrous.serve.body import read_body
from atrous.serve.errors import RequestError
from atrous.serve.gate import Gate, build_token_check
from atrous.serve.image import decode_image, prepare_decoders
from atrous.serve.limits import Reservation
from atrous.serve.metrics import Meter
from atrous.serve.responses import build_response, describe_classes
from atrous.serve.service import Service

_LOG = logging.getLogger(__name__)

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
    prepare_decoders()
    app = FastAPI(
        title="atrous",
        summary="Semantic segmentation of images.",
        version="1",
        docs_url=None,  # FastAPI's pages load scripts from another host
        redoc_url=None,
        openapi_url=None,  # below, behind the token
        redirect_slashes=False,  # redirects contain the Host header
        exception_handlers={
            RequestError: _reject,
            RequestValidationError: _reject_parameters,
            HTTPException: _reject_path,
            AtrousError: _fail,
            Exception: _fail,
        },
    )
    guard = [] if token is None else [Depends(build_token_check(token))]
    registry = CollectorRegistry()
    _add_health_routes(app, service)
    app.include_router(
        _build_api_routes(service, registry), dependencies=guard, responses=schema.ERRORS
    )
    paths = frozenset(app.openapi()["paths"])
    app.add_api_route("/openapi.json", app.openapi, include_in_schema=False, dependencies=guard)
    if page is not None:
        app.include_router(page, dependencies=guard, include_in_schema=False)
    app.add_middleware(Gate, hosts=hosts)
    app.add_middleware(Meter, service=service, registry=registry, paths=paths)
    return app


def _add_health_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=schema.StateResponse, tags=["state"])
    async def check_health() -> Any:
        """Return 200 as long as the process is alive."""
        return {"state": service.state}

    @app.get(
        "/readyz",
        tags=["state"],
        response_model=schema.StateResponse,
        responses={503: {"model": schema.StateResponse, "description": "Loading or stopping."}},
    )
    async def check_readiness() -> Any:
        """Return 200 if the server accepts images."""
        return JSONResponse({"state": service.state}, 200 if service.state == "ready" else 503)


def _build_api_routes(service: Service, registry: CollectorRegistry) -> APIRouter:
    router = APIRouter()

    @router.get("/metrics", response_class=PlainTextResponse, tags=["state"])
    async def show_metrics() -> Response:
        """Return the metrics in the format of Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/models", response_model=schema.ModelsResponse, tags=["segmentation"])
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
        responses={200: schema.SEGMENT_RESPONSE},
        openapi_extra=schema.SEGMENT_BODY,
        tags=["segmentation"],
    )
    async def segment(request: Request, query: Annotated[schema.SegmentQuery, Query()]) -> Response:
        """Segment an image.

        The mask has the size of the image after its EXIF orientation is applied. Nothing is
        stored.
        """
        name = service.find_name(query.model)
        accept = request.headers.get("accept", "")
        format = query.format or ("json" if "application/json" in accept else "mask")
        service.check_room()
        limits, engine, warnings = service.limits, service.engines[name], list[str]()
        run = partial(asyncio.get_running_loop().run_in_executor, codecs)
        decode = partial(decode_image, bands=engine.card.bands, warn=warnings.append)
        encode = partial(build_response, format, name, engine, query.opacity)
        try:
            with Reservation(service.memory) as reservation:
                content = await read_body(request, limits, reservation)
                async with _limit_time(request, limits.deadline_s):
                    image = await run(decode, content, limits, reservation)
                    del content  # its memory is not reserved any more
                    height, width = image.shape[-2:]
                    key = BatchKey(name, (height, width), query.confidence and format == "json")
                    prediction = await asyncio.wrap_future(service.queue.submit(key, image))
                    response = await run(encode, image, prediction)
        except asyncio.CancelledError:
            message = "The server was stopped before the response was ready."
            raise RequestError(503, message) from None
        if warnings:
            response.headers[schema.WARNING_HEADER] = " ".join(warnings)
        return response


@asynccontextmanager
async def _limit_time(request: Request, deadline_s: float) -> AsyncIterator[None]:
    """Cancel the block when the client disconnects, or with a 504 at the deadline."""
    task: Any = asyncio.current_task()

    async def cancel_on_disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        task.cancel()

    watching = asyncio.create_task(cancel_on_disconnect())
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except TimeoutError:
        raise RequestError(
            504,
            f"The response was not ready within {deadline_s:g} seconds. Send a smaller image, or "
            "try again when the server is less busy.",
        ) from None
    except asyncio.CancelledError:
        if watching.done():
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()


async def _reject(request: Request, error: RequestError) -> Response:
    return error.build_response()


async def _reject_parameters(request: Request, error: RequestValidationError) -> Response:
    problems = []
    for problem in error.errors()[:5]:
        name = str(problem["loc"][-1])[:60]
        if problem["type"] == "extra_forbidden":
            near = did_you_mean(name, schema.SegmentQuery.model_fields)
            problems.append(f"There is no parameter '{name}'.{near}")
        else:
            problems.append(f"The parameter '{name}' is invalid: {problem['msg']}.")
    return RequestError(422, " ".join(problems)).build_response()


async def _reject_path(request: Request, error: HTTPException) -> Response:
    """Explain an error of Starlette or FastAPI: 401, 404, 405."""
    response = RequestError(error.status_code).build_response()
    if error.status_code == 405:
        response.headers.update(error.headers or {})  # Allow
    return response


async def _fail(request: Request, error: Exception) -> Response:
    if isinstance(error, AtrousError):  # others are logged by uvicorn, with a traceback
        _LOG.error("Segmentation failed: %s", escape_controls(str(error)))
    return RequestError(500).build_response()
