"""Named models and the queue in front of them, independent of HTTP."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atrous.engines import Engine, open_engine
from atrous.errors import ConfigError, did_you_mean
from atrous.fonts import describe_undrawable
from atrous.prediction import Prediction, compute_prediction
from atrous.prediction.prediction import ignore_nodata
from atrous.serve.batcher import Batcher, BatchKey
from atrous.serve.errors import RequestError
from atrous.serve.limits import MAX_PIXELS, Limits, Memory
from atrous.timing import measure_times_s

_LOG = logging.getLogger(__name__)
_MIN_MAX_PIXELS = 2048 * 2048
"""Images up to this size are accepted however slow the model is, unless `Limits` says otherwise."""


class Service:
    """Models with a common queue.

    One thread runs all models: side by side they would share the same cores and all take longer.

    Args:
        sources: For each name of a model, a function that loads it. The first is the default.
        limits: Limits of the server.
    """

    def __init__(self, sources: Mapping[str, Callable[[], Engine]], limits: Limits) -> None:
        self.sources = sources
        self.limits = limits
        self.memory = Memory(limits.max_memory_bytes)
        self.engines: dict[str, Engine] = {}
        self.state = "loading"
        self.observe_batch: Callable[[int], None] = lambda size: None
        self.queue = Batcher(self._run, self._compute_max_batch, limits.max_waiting)

    def load(self) -> None:
        """Load all models, and measure their speed, from which `limits.max_pixels` follows."""
        max_pixels: float = MAX_PIXELS
        engines = {}
        for name, open_model in self.sources.items():
            engines[name] = engine = open_model()
            max_pixels = min(max_pixels, self.limits.deadline_s / 2 * _measure_speed(engine))
            if text := describe_undrawable(engine.classes.names):
                _LOG.warning("%s: %s", name, text)
        if self.limits.max_pixels is None:
            self.limits = replace(self.limits, max_pixels=max(_MIN_MAX_PIXELS, int(max_pixels)))
        self.engines = engines
        if self.state == "loading":
            self.state = "ready"

    def find_name(self, name: str | None) -> str:
        """Return the name of a model, by default of the first; raise 404 if there is none."""
        if name is None:
            return next(iter(self.sources))
        if name not in self.sources:
            shown = name if len(name) <= 60 else f"{name[:60]}…"
            near = did_you_mean(shown, self.sources)
            raise RequestError(404, f"There is no model '{shown}'.{near}")
        return name

    def check_room(self) -> None:
        """Raise 503 while loading or stopping, 429 if the queue is full."""
        self.check_loaded()
        if self.state == "stopping":
            raise RequestError(503, "The server is shutting down.", retry_after_s=5)
        self.queue.check_room()

    def check_loaded(self) -> None:
        """Raise 503 until the models are loaded."""
        if not self.engines:
            raise RequestError(503, "The models are loading. Try again shortly.", retry_after_s=5)

    def stop(self) -> None:
        """Process the images in the queue, and accept no more."""
        self.state = "stopping"
        self.queue.stop()

    def _compute_max_batch(self, key: BatchKey) -> int:
        if key.confidence:
            return 1
        together = self.engines[key.model].compute_batch_size(*key.size_hw)
        return min(together, self.limits.max_batch)

    def _run(
        self, key: BatchKey, images: Sequence[Tensor], check: Callable[[], None]
    ) -> list[Prediction]:
        self.observe_batch(len(images))
        engine = self.engines[key.model]
        if key.confidence:
            with suppress(ConfigError):  # the engine computes masks only
                engine.require_logits()
                return [
                    compute_prediction(engine, image, confidence=True, check=check)
                    for image in images
                ]
        pairs = zip(engine.predict_masks(images, check), images, strict=True)
        return [Prediction(ignore_nodata(mask.cpu(), image)) for mask, image in pairs]


def _measure_speed(engine: Engine) -> float:
    """Return the pixels of a large image that an engine segments per second, and warm it up."""
    resizes = engine.card.compute_size_hw(256, 256) is not None
    side = 2048 if resizes else 256  # a resized image takes about the same time at any size
    blank = torch.zeros(engine.card.bands or 3, side, side, dtype=torch.uint8)
    [seconds] = measure_times_s([lambda: engine.predict_mask(blank).cpu()], max_rounds=2)
    covered = (1 - engine.tta.overlap) ** 2  # of each window by itself
    return covered * side * side / min(seconds)


def build_service(
    runs: Sequence[Path | str],
    *,
    names: Sequence[str] = (),
    limits: Limits = Limits(),
    **options: Any,
) -> Service:
    """Build a service of trained models; its `load` loads them.

    Args:
        runs: Run folders, weights files or exported files.
        names: Names of the models in requests, in the same order; by default, those of the paths.
        limits: Limits of the server.
        options: Arguments of `open_engine` for all models.

    Raises:
        ConfigError: There is no model, a name is invalid or given twice, or the number of names
            differs from that of the models.
    """
    paths = [Path(run) for run in runs]
    if not paths:
        raise ConfigError("There is no model to serve. Give at least one run folder.")
    if names and len(names) != len(paths):
        raise ConfigError(
            f"{len(paths)} models were given, but {len(names)} names. Give --name once for each "
            "model, in the same order, or not at all."
        )
    names = list(names) or [path.stem if path.is_file() else path.resolve().name for path in paths]
    sources: dict[str, Callable[[], Engine]] = {}
    for name, path in zip(names, paths, strict=True):
        if not name or not name.isprintable():
            raise ConfigError(f"{name!r} is not a valid name of a model. Give another with --name.")
        if name in sources:
            raise ConfigError(
                f"Two models are called '{name}'. Give each its own --name, in the same order."
            )
        sources[name] = partial(open_engine, path, **options)
    return Service(sources, limits)
