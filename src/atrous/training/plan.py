"""The plan of a run: numbers derived once, when it starts, from the recipe and the data."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Self

from atrous.bands import BandStatistics
from atrous.data import (
    MaskStatistics,
    SegmentationDataset,
    check_foreground,
    check_labelled,
    compute_mask_statistics,
)
from atrous.data.band_statistics import compute_band_statistics, find_band_problems
from atrous.data.statistics import compute_class_weights
from atrous.durations import parse_duration
from atrous.errors import CheckpointError, ConfigError, DataError
from atrous.files import write_atomically
from atrous.parsing import parse_json
from atrous.recipe import Recipe
from atrous.training.distributed import World
from atrous.training.learner import Learner
from atrous.training.log import Listener, note
from atrous.training.speed import Speed, measure_speed, should_compile


@dataclass(frozen=True)
class Plan:
    """The fixed numbers of a run.

    Attributes:
        train_fingerprint, val_fingerprint: Hashes of the splits, checked when a run resumes.
        class_weights: Factor per class in the loss, or None.
        speed: Measured only if the recipe has a duration in clock time.
        total_steps, warmup_steps, validate_steps, step_at: The recipe's durations in steps.
        frozen_sha256: SHA-256 of the frozen weights and statistics, or None.
        batch_size: Images per batch, given or found by `--batch-size auto`.
        bands: Ranges and statistics of the bands; None for 8-bit RGB.
    """

    train_fingerprint: str
    val_fingerprint: str
    num_train: int
    num_val: int
    class_pixels: list[int]
    class_weights: list[float] | None
    steps_per_epoch: float
    speed: Speed | None
    total_steps: int
    warmup_steps: int
    validate_steps: int
    step_at: list[int]
    frozen_sha256: str | None = None
    batch_size: int | None = None
    bands: BandStatistics | None = None

    def save(self, path: Path) -> None:
        """Write the plan as JSON."""
        text = json.dumps(asdict(self), indent=2)
        write_atomically(path, lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a plan written by `save`.

        Raises:
            CheckpointError: The file is damaged, or was written by another version.
        """
        try:
            values = parse_json(path.read_text(encoding="utf-8"))
            speed = values.pop("speed")
            bands = BandStatistics.from_json(values.pop("bands", None))
            return cls(speed=speed and Speed(**speed), bands=bands, **values)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise CheckpointError(
                f"The plan of the run, {path}, cannot be read ({error}). Restore it, or start "
                "again in a new run folder."
            ) from None

    def check_data(self, train_set: SegmentationDataset, val_set: SegmentationDataset) -> None:
        """Check that the dataset is the one the run started with.

        Raises:
            DataError: The file names, file sizes or classes of a split have changed.
        """
        for dataset, fingerprint, num_images in (
            (train_set, self.train_fingerprint, self.num_train),
            (val_set, self.val_fingerprint, self.num_val),
        ):
            if dataset.fingerprint() != fingerprint:
                raise DataError(
                    f"The split '{dataset.split}' of {dataset.root} is not the one this run "
                    f"started with: it had {num_images} images and has {len(dataset)}, or file "
                    "names, file sizes or classes differ. Restore the data, or start again in a "
                    "new run folder."
                )


def compute_plan(
    recipe: Recipe,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    listener: Listener,
    world: World,
) -> Plan:
    """Read all files, compute ranges and class weights, and convert durations to steps.

    Speed is measured if a duration is in clock time, which includes validations.

    Raises:
        ConfigError: The duration of the run is 0.
        DataError: A file cannot be used, or a split has no labelled pixels.
    """
    statistics, bands = _read_splits(train_set, val_set, listener, world)
    if bands is not None:
        train_set, val_set = train_set.read_as(bands.ranges), val_set.read_as(bands.ranges)
    settings = recipe.train
    class_weights = compute_class_weights(statistics, recipe.loss.class_weights)
    if class_weights is not None:
        class_weights = [weight**recipe.loss.class_weight_power for weight in class_weights]
    steps_per_epoch = len(train_set) / (settings.batch_size * settings.accumulate)
    speed: Speed | None = None
    if settings.needs_speed:
        listener({"kind": "measuring"})
        compile = should_compile(settings, steps_per_epoch)
        learner = Learner(
            recipe, train_set.classes, class_weights, world=world, bands=bands, compile=compile
        )
        speed = world.share(measure_speed(learner, recipe, train_set, val_set))

    def to_steps(text: str, step_s: float | None = speed.step_s if speed else None) -> int:
        return parse_duration(text).compute_steps(steps_per_epoch=steps_per_epoch, step_s=step_s)

    validate_steps = max(1, to_steps(settings.validate_every))
    whole_step_s = None
    if speed:
        whole_step_s = speed.step_s + speed.image_s * len(val_set) / validate_steps
    total_steps = to_steps(settings.duration, whole_step_s)
    if total_steps < 1:
        raise ConfigError(f"--for {settings.duration} is less than one step; give more.")
    return Plan(
        train_fingerprint=train_set.fingerprint(),
        val_fingerprint=val_set.fingerprint(),
        num_train=len(train_set),
        num_val=len(val_set),
        class_pixels=list(statistics.pixels),
        class_weights=class_weights,
        steps_per_epoch=steps_per_epoch,
        speed=speed,
        total_steps=total_steps,
        warmup_steps=to_steps(settings.warmup),
        validate_steps=validate_steps,
        step_at=[to_steps(text) for text in settings.step_at],
        batch_size=settings.batch_size,
        bands=bands,
    )


def _read_splits(
    train_set: SegmentationDataset, val_set: SegmentationDataset, listener: Listener, world: World
) -> tuple[MaskStatistics, BandStatistics | None]:
    """Read all files; return the statistics of the training masks and of the bands."""
    bands: BandStatistics | None = None

    def progress(done: int, total: int) -> None:
        listener({"kind": "checking", "done": done, "total": total})

    read = partial(
        compute_mask_statistics,
        progress=progress, rank=world.rank, size=world.size, gather=world.gather,
    )  # fmt: skip
    statistics = read(train_set)
    if statistics.samples is not None:
        bands = compute_band_statistics(statistics.samples, train_set.ranges)
        _report_bands(statistics, bands, listener)
        val_set = val_set.read_as(bands.ranges)
    check_foreground(train_set, statistics)
    check_labelled(train_set, statistics)
    val_statistics = read(val_set)
    check_labelled(val_set, val_statistics)
    if val_statistics.depth != statistics.depth:
        raise DataError(
            f"The images of split '{train_set.split}' hold {statistics.depth}, but those of "
            f"'{val_set.split}' {val_statistics.depth}. Their values cannot have the same range: "
            "export all of them in one way."
        )
    return statistics, bands


def _report_bands(statistics: MaskStatistics, bands: BandStatistics, listener: Listener) -> None:
    """Say the ranges of the bands, and what is wrong with them."""
    assert statistics.samples is not None
    ranges = ", ".join(f"{low:g} to {high:g}" for low, high in bands.ranges)
    number = f"{len(bands.ranges)} band{'s' * (len(bands.ranges) > 1)}"
    note(listener, f"Images of {number}; range {ranges} becomes 0 to 1.")
    if statistics.num_without_data:
        share = statistics.num_without_data / (sum(statistics.pixels) + statistics.num_ignored)
        lacking = f"{share:.2%} of the training pixels have no data (NaN or nodata)"
        note(listener, f"{lacking} and are ignored.")
    for code, message in find_band_problems(statistics.samples, bands.ranges):
        if code == "few-levels":
            message += " Set `range` in classes.toml to the range of the values, or leave it out."
        note(listener, message, kind="warning")
