"""The routes."""

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from atrous.errors import AtrousError, did_you_mean
from atrous.parsing import escape_controls
from atrous.serve.answers import MEDIA_TYPES, Kind, build_answer, choose_kind, describe_classes
from atrous.serve.body import read_body
from atrous.serve.image import decode_image
from atrous.serve.layers import Meter, TokenGuard
from atrous.serve.memory import Hold
from atrous.serve.metrics import Metrics
from atrous.serve.refusals import NotReadyError, RefusedError, UnusableError
from atrous.serve.schema import (
    SEGMENT_ANSWER,
    SEGMENT_BODY,
    WARNING_HEADER,
    ModelsAnswer,
    SegmentedAnswer,
    StateAnswer,
    describe_errors,
)
from atrous.serve.service import Service, explain_deadline

logger = logging.getLogger("atrous.serve")

_PARAMETERS = ("model", "format", "opacity", "confidence")
_GONE = 499
"""Counted for a sender that left; nobody sees it."""

_NUM_CODECS = 2
"""Threads that decode and encode. More would take the cores from the model."""


def build_app(service: Service, token: str | None = None) -> FastAPI:
    """Build the application; `service` may still be loading.

    Whatever is mounted on it later, such as a page at `/`, lies behind the same token.

    Args:
        service: The models.
        token: What every request must carry; None for no such check.
    """
    app = FastAPI(
        title="atrous",
        summary="Semantic segmentation of images.",
        version="1",
        docs_url=None,  # FastAPI's pages load scripts from another host
        redoc_url=None,
    )
    metrics = Metrics(service)
    guarded = (401,) if token is not None else ()
    _add_state(app, service, metrics, guarded)
    _add_segment(app, service, metrics, guarded)
    _add_errors(app, metrics)
    if token is not None:
        app.add_middleware(TokenGuard, token=token)
    paths = frozenset(app.openapi()["paths"])
    app.add_middleware(Meter, service=service, metrics=metrics, paths=paths)
    return app


def _add_state(app: FastAPI, service: Service, metrics: Metrics, guarded: tuple[int, ...]) -> None:
    @app.get("/healthz", response_model=StateAnswer, tags=["state"])
    async def healthz() -> Any:
        """Say that the process is alive, whatever it does."""
        return {"state": service.state}

    @app.get("/readyz", response_model=StateAnswer, responses=_not_ready(), tags=["state"])
    async def readyz() -> Any:
        """Say whether images are taken."""
        status = 200 if service.state == "ready" else 503
        return JSONResponse({"state": service.state}, status)

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **describe_errors(*guarded)},
        tags=["state"],
    )
    async def show_metrics() -> Response:
        """Give counters in Prometheus' form."""
        return Response(metrics.render(), media_type=metrics.content_type)

    @app.get(
        "/v1/models",
        response_model=ModelsAnswer,
        responses=describe_errors(*guarded, 503),
        tags=["segmentation"],
    )
    async def list_models() -> Any:
        """List the models with their classes."""
        service.check_loaded()
        models = []
        for index, (name, engine) in enumerate(service.engines.items()):
            models.append(
                {
                    "name": name,
                    "default": index == 0,
                    "architecture": engine.card.name,
                    "engine": engine.name,
                    "precision": engine.precision,
                    "classes": describe_classes(engine.classes),
                }
            )
        limits = service.limits
        bounds = {"max_body_bytes": limits.max_body_bytes, "max_pixels": limits.max_pixels}
        return {"models": models, "limits": bounds}


def _not_ready() -> dict[int | str, dict[str, Any]]:
    return {503: {"model": StateAnswer, "description": "Not now: loading or stopping."}}


def _add_segment(
    app: FastAPI, service: Service, metrics: Metrics, guarded: tuple[int, ...]
) -> None:
    codecs = ThreadPoolExecutor(_NUM_CODECS, thread_name_prefix="codec")
    limits = service.limits

    async def answer(
        name: str, kind: Kind, content: bytes, hold: Hold, opacity: float, confidence: bool
    ) -> Response:
        loop = asyncio.get_running_loop()
        notes: list[str] = []
        image = await loop.run_in_executor(
            codecs, decode_image, content, limits, hold, notes.append
        )
        segmented = await asyncio.wrap_future(service.submit(name, image, confidence=confidence))
        engine = service.engines[name]
        body = await loop.run_in_executor(
            codecs, build_answer, kind, image, segmented, name, engine, opacity
        )
        headers = {"Cache-Control": "no-store"} | (
            {WARNING_HEADER: " ".join(notes)} if notes else {}
        )
        return Response(body, media_type=MEDIA_TYPES[kind], headers=headers)

    @app.post(
        "/v1/segment",
        response_class=Response,
        responses={
            **SEGMENT_ANSWER,
            **describe_errors(400, *guarded, 404, 406, 408, 413, 415, 422, 429, 500, 503, 504),
        },
        openapi_extra=SEGMENT_BODY,
        tags=["segmentation"],
    )
    async def segment(
        request: Request,
        model: Annotated[
            str | None, Query(description="One of /v1/models; by default the first.")
        ] = None,
        format: Annotated[
            Kind | None,
            Query(description="By default as the header Accept says, and mask if it admits both."),
        ] = None,
        opacity: Annotated[
            float, Query(ge=0, le=1, description="Share of the class colour in an overlay.")
        ] = 0.5,
        confidence: Annotated[
            bool, Query(description="Add the confidence of each pixel to JSON.")
        ] = False,
    ) -> Response:
        """Segment an image.

        A mask has the size of the image, turned upright as its EXIF orientation says. Nothing
        of the image is kept.
        """
        for parameter in request.query_params:
            if parameter not in _PARAMETERS:
                raise UnusableError(
                    f"There is no parameter '{parameter[:60]}'."
                    f"{did_you_mean(parameter[:60], _PARAMETERS)}"
                )
        name, kind = service.find(model), choose_kind(format, request.headers.get("accept"))
        service.check_room()
        with Hold(service.memory) as hold:
            try:
                content = await read_body(request, limits, hold)
                confidence = confidence and kind == "json"
                work = answer(name, kind, content, hold, opacity, confidence)
                return await _wait(work, request, service)
            except ClientDisconnect:
                metrics.cancelled.inc()
                return Response(status_code=_GONE)
            except asyncio.CancelledError:
                raise NotReadyError("The server was stopped before the answer was there.") from None


async def _wait(
    work: Coroutine[Any, Any, Response], request: Request, service: Service
) -> Response:
    """Await an answer for as long as somebody waits for it; cancel what is then left to do.

    Raises:
        DeadlineError: It was not there in time.
        ClientDisconnect: The sender left.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_wait_until_gone(request))
    try:
        await asyncio.wait(
            {working, leaving},
            timeout=service.limits.deadline_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if working.done():
            return working.result()
        if leaving.done():
            raise ClientDisconnect
        raise explain_deadline(service.limits)
    finally:
        working.cancel()
        leaving.cancel()


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_errors(app: FastAPI, metrics: Metrics) -> None:
    @app.exception_handler(RefusedError)
    async def refuse(request: Request, error: RefusedError) -> Response:
        metrics.rejected.labels(error.status).inc()
        return JSONResponse({"error": str(error)}, error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_parameters(request: Request, error: RequestValidationError) -> Response:
        metrics.rejected.labels(422).inc()
        found = "; ".join(f"'{one['loc'][-1]}': {one['msg']}" for one in error.errors())
        return JSONResponse({"error": f"A parameter cannot be used. {found}."}, 422)

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Response:
        words = {
            404: "There is no such path. See /openapi.json for those that are there.",
            405: f"This path does not take {request.method}. See /openapi.json.",
        }
        content = {"error": words.get(error.status_code, str(error.detail))}
        return JSONResponse(content, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "The server failed; its log says how."}, 500)

    @app.exception_handler(AtrousError)
    async def fail_at_work(request: Request, error: AtrousError) -> Response:
        logger.error("An image could not be segmented: %s", escape_controls(str(error)))
        return await fail(request, error)

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            models = SegmentedAnswer.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas = schema["components"]["schemas"]
            schemas.update(models.pop("$defs"))
            schemas["SegmentedAnswer"] = models
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
