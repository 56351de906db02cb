"""Named models, and the one way from an image to its mask; knows nothing of HTTP."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atrous.devices import Precision
from atrous.engines import TTA, Engine, open_engine
from atrous.errors import ConfigError, did_you_mean
from atrous.fonts import describe_undrawable
from atrous.prediction import compute_prediction
from atrous.serve.batcher import Batcher
from atrous.serve.limits import Limits
from atrous.serve.memory import Memory
from atrous.serve.refusals import DeadlineError, NotReadyError, UnknownModelError

_LOG = logging.getLogger(__name__)
_WARM_UP_HW = (64, 64)


class Segmentation(NamedTuple):
    """The answer for one image.

    Attributes:
        mask: uint8 (H, W), class indices.
        confidence: uint8 (H, W), the probability of the likeliest class, 255 for 1; None unless
            asked for, or where the engine gives masks only.
    """

    mask: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Source:
    """A model that is to be served.

    Attributes:
        name: What requests call it.
        open: Loads it.
    """

    name: str
    open: Callable[[], Engine]


class _Kind(NamedTuple):
    """What images must share to be run in one batch."""

    model: str
    size_hw: tuple[int, int]
    confidence: bool


class Service:
    """Loads models, queues images for them, and stops when all are done.

    One thread runs all models: two networks side by side would share the same cores and both
    take twice as long.

    Args:
        sources: The models; the first is the default.
        limits: What is taken.
    """

    def __init__(self, sources: Sequence[Source], limits: Limits) -> None:
        self.sources = {source.name: source for source in sources}
        self.limits = limits
        self.memory = Memory(limits.max_held_bytes)
        self.engines: dict[str, Engine] = {}
        self.state = "loading"
        self.num_active = 0
        self.observe_batch: Callable[[int], None] = lambda size: None
        self._lock = threading.Lock()
        self._batcher: Batcher[_Kind, Tensor, Segmentation] = Batcher(
            self._run, limit=self._limit, max_waiting=limits.max_waiting
        )

    @property
    def num_waiting(self) -> int:
        """Images that wait for their model."""
        return self._batcher.num_waiting

    def load(self) -> None:
        """Load all models and let each see an image, so that the first request is not slow.

        Raises:
            AtrousError: A model cannot be used.
        """
        blank = torch.zeros(3, *_WARM_UP_HW, dtype=torch.uint8)
        for name, source in self.sources.items():
            engine = source.open()
            engine.predict_mask(blank)
            self.engines[name] = engine
            if text := describe_undrawable(engine.classes.names):
                _LOG.warning("%s: %s", name, text)
        if self.state == "loading":
            self.state = "ready"

    def find(self, name: str | None) -> str:
        """Return the name of a model, that of the default for None.

        Raises:
            UnknownModelError: There is no such model.
        """
        if name is None:
            return next(iter(self.sources))
        if name not in self.sources:
            shown = name if len(name) <= 60 else f"{name[:60]}…"
            raise UnknownModelError(
                f"There is no model '{shown}'.{did_you_mean(shown, self.sources)}"
            )
        return name

    def check_room(self) -> None:
        """Refuse work that could not be done, before an image is even read.

        Raises:
            NotReadyError: The models are being loaded or the server is being stopped.
            BusyError: Too many images are waiting.
        """
        self.check_loaded()
        if self.state == "stopping":
            raise NotReadyError("The server is being stopped.", 5)
        self._batcher.check_room()

    def check_loaded(self) -> None:
        """Refuse until all models are there.

        Raises:
            NotReadyError: They are not.
        """
        if len(self.engines) < len(self.sources):
            raise NotReadyError("The models are being loaded. Try again shortly.", 5)

    def submit(
        self, name: str, image: Tensor, *, confidence: bool = False
    ) -> "Future[Segmentation]":
        """Queue an image. Cancel the future if nobody waits for it any more.

        Args:
            name: One of the models.
            image: uint8 (3, H, W).
            confidence: Whether to give it beside the mask.

        Raises:
            BusyError: The queue is full.
        """
        size_hw = (image.shape[-2], image.shape[-1])
        return self._batcher.submit(_Kind(name, size_hw, confidence), image)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Count a request for as long as the block runs: stopping waits for it."""
        with self._lock:
            self.num_active += 1
        try:
            yield
        finally:
            with self._lock:
                self.num_active -= 1

    def stop(self) -> None:
        """Finish all images that were taken, and take no more."""
        self.state = "stopping"
        self._batcher.stop()

    def _limit(self, kind: _Kind) -> int:
        if kind.confidence:
            return 1
        together = self.engines[kind.model].compute_batch_size(*kind.size_hw)
        return min(together, self.limits.max_batch)

    def _run(self, kind: _Kind, images: Sequence[Tensor]) -> list[Segmentation]:
        self.observe_batch(len(images))
        engine = self.engines[kind.model]
        if not kind.confidence:
            masks = engine.predict_masks(images)
            return [Segmentation(mask.cpu().numpy()) for mask in masks]
        try:
            engine.require_logits()
        except ConfigError:
            return [Segmentation(engine.predict_mask(image).cpu().numpy()) for image in images]
        answers = []
        for image in images:
            prediction = compute_prediction(engine, image, confidence=True)
            assert prediction.confidence is not None
            answers.append(Segmentation(prediction.mask.numpy(), prediction.confidence.numpy()))
        return answers


def build_service(
    runs: Sequence[Path | str],
    *,
    names: Sequence[str] = (),
    engine: str = "torch",
    device: str = "auto",
    precision: Precision = "32",
    trust: bool = False,
    tta: TTA = TTA(),
    limits: Limits = Limits(),
) -> Service:
    """Prepare models to be served; `load` then loads them.

    Args:
        runs: Run folders, weights files or exported files.
        names: What requests call them, in the same order; by default what their paths are called.
        engine: For all of them; see `open_engine`.
        device: Of the models, for torch.
        precision: `32`, `bf16` or `auto`.
        trust: Whether .pt2 exports may be opened, which can run any code when they are read.
        tta: Test-time augmentation and sliding windows.
        limits: What is taken.

    Raises:
        ConfigError: Two models have one name, or there is not a name for each.
    """
    paths = [Path(run) for run in runs]
    if not paths:
        raise ConfigError("There is no model to serve. Give at least one run folder.")
    if names and len(names) != len(paths):
        raise ConfigError(
            f"{len(paths)} models were given and {len(names)} names. Give --name once for each "
            "model, in the same order, or not at all."
        )
    called = list(names) or [_name(path) for path in paths]
    if twice := {name for name in called if called.count(name) > 1}:
        raise ConfigError(
            f"Two models are called '{min(twice)}'. Give each a name of its own, in the same "
            "order, with --name."
        )
    open_path = partial(
        open_engine, engine=engine, tta=tta, device=device, precision=precision, trust=trust
    )
    sources = []
    for name, path in zip(called, paths, strict=True):
        if not name or not name.isprintable():
            raise ConfigError(
                f"A model cannot be called {name!r}. Give it another name with --name."
            )
        sources.append(Source(name, partial(open_path, path)))
    return Service(sources, limits)


def explain_deadline(limits: Limits) -> DeadlineError:
    """Return the error for an answer that was not there in time."""
    return DeadlineError(
        f"There was no answer within {limits.deadline_s:g} seconds. Send a smaller image, or try "
        "again when there is less to do."
    )


def _name(path: Path) -> str:
    return path.stem if path.is_file() else path.resolve().name
