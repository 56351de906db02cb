"""Speed of training and validation on this machine."""

import itertools
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from shutil import which

from atrous.data import Batch, SegmentationDataset
from atrous.devices import resolve_device
from atrous.durations import parse_duration
from atrous.recipe import Recipe, TrainRecipe
from atrous.training.batches import load_batches
from atrous.training.features import FeatureBatch, make_random_batch
from atrous.training.learner import Learner

_WARMUP_STEPS, _MAX_STEPS = 2, 40
_STEPS_S, _IMAGES_S = 12.0, 4.0
_MIN_COMPILE_STEPS, _NOMINAL_STEP_S = 5000, 0.1


@dataclass(frozen=True)
class Speed:
    """Measured seconds per optimizer step and per validated image."""

    step_s: float
    image_s: float


def measure_speed(
    learner: Learner, recipe: Recipe, train_set: SegmentationDataset, val_set: SegmentationDataset
) -> Speed:
    """Time training steps and validated images for some seconds; this changes the learner."""
    step_s = _measure_step_s(learner, recipe, train_set)
    return Speed(step_s, _measure_image_s(learner, val_set))


def _measure_step_s(learner: Learner, recipe: Recipe, dataset: SegmentationDataset) -> float:
    if learner.cut is not None:
        image_chw = (learner.model.in_channels, *recipe.data.train_hw)
        batch = make_random_batch(learner.compute_features, image_chw, recipe.train.batch_size)
        return _time_steps(learner, itertools.repeat(batch))
    num_steps = _WARMUP_STEPS + _MAX_STEPS
    batches = load_batches(
        recipe, dataset, first_step=0, num_steps=num_steps, world=learner.world, card=learner.card
    )
    with closing(batches):
        return _time_steps(learner, batches)


def _time_steps(learner: Learner, batches: Iterator[Batch | FeatureBatch]) -> float:
    for step in range(_WARMUP_STEPS):
        learner.update(batches, step=step, lr=0.0).read()
    share, started_s, num_steps = learner.world.share, time.perf_counter(), 0
    while num_steps < _MAX_STEPS and share(time.perf_counter() - started_s) < _STEPS_S:
        result = learner.update(batches, step=num_steps, lr=0.0)
        num_steps += 1
    result.read()
    return share(time.perf_counter() - started_s) / num_steps


def _measure_image_s(learner: Learner, dataset: SegmentationDataset) -> float:
    times_s = _time_images(learner, dataset)
    if learner.is_asynchronous:  # a batch at a time: measured again, with warm caches
        times_s = _time_images(learner, dataset)
    elif len(times_s) > 2:
        del times_s[0]  # the first image includes the start
    return (times_s[-1] - times_s[0]) / (len(times_s) - 1)


def _time_images(learner: Learner, dataset: SegmentationDataset) -> list[float]:
    """Return the time at the start and after each validated image, for some seconds."""
    times_s = [time.perf_counter()]

    def progress(done: int, total: int) -> None:
        times_s.append(time.perf_counter())
        if done > 1 and times_s[-1] - times_s[1] > _IMAGES_S:
            raise _EnoughError

    with suppress(_EnoughError):
        learner.validate(dataset, progress)
    return times_s


def should_compile(settings: TrainRecipe, steps_per_epoch: float) -> bool:
    """Return whether a run uses torch.compile: with `auto`, whether it is long enough, on CUDA."""
    if settings.compile != "auto":
        return settings.compile == "on"
    if resolve_device(settings.device).type != "cuda" or not (which("cc") and find_spec("triton")):
        return False
    duration = parse_duration(settings.duration)
    num_steps = duration.compute_steps(steps_per_epoch=steps_per_epoch, step_s=_NOMINAL_STEP_S)
    return num_steps >= _MIN_COMPILE_STEPS


class _EnoughError(Exception):
    pass
