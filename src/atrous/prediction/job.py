"""A prediction job: images and videos through one engine into one folder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atrous.engines.engine import Engine
from atrous.errors import AtrousError, DataError
from atrous.images import read_image
from atrous.images.image_file import read_image_size
from atrous.images.pixels import convert_to_rgb
from atrous.images.reading import is_nearly_black
from atrous.prediction.clips import record_clip
from atrous.prediction.geotiff import segment_geotiff
from atrous.prediction.job_options import JobOptions, check_lengths, find_link
from atrous.prediction.manifest import Manifest, Record
from atrous.prediction.outputs import LABEL_KINDS, compute_shares, save_files
from atrous.prediction.pipeline import WriteBehind, read_ahead
from atrous.prediction.prediction import Prediction, SegmentedImage, compute_prediction
from atrous.prediction.sources import File, Source
from atrous.prediction.video import Frame, VideoReader

Progress = Callable[[int, int | None], object]
"""`progress(done, total)` in images and frames; the total is None if unknown."""

Fetched = tuple[Source, File | DataError]
"""A source with its file, or the error of fetching it."""

ONE_AT_A_TIME_PIXELS = 2**26
"""Larger images are read, segmented and written one at a time."""


@dataclass
class PredictionJob:
    """Segments sources and writes their files.

    Attributes:
        engine: Runs the network.
        out: Output folder, which exists.
        options: Options of the job.
        manifest: Finished sources.
        digest: Changes with the weights and options.
        progress: Called after each image and frame.
        failed: Sources that cannot be used, and why.
        nearly_black: Images that use at most 16 of 256 levels of the model's range.
        num_frames: Number of segmented images and frames.
    """

    engine: Engine
    out: Path
    options: JobOptions
    manifest: Manifest
    digest: str
    progress: Progress | None = None
    failed: list[tuple[str, str]] = field(default_factory=list)
    nearly_black: list[str] = field(default_factory=list)
    num_frames: int = 0
    _num_done: int = 0
    _num_total: int | None = None

    def is_done(self, source: Source) -> bool:
        """Return whether all files of a source exist and are up to date."""
        stem, files = self.options.name_stem(source), self.options.name_outputs(source)
        return self.manifest.is_done(stem, source.stamp, self.digest, files)

    def has_labels(self, source: Source) -> bool:
        """Return whether a file exists that an annotator may have corrected."""
        return any((self.out / name).exists() for name in self.options.name_labels(source))

    def run(self, sources: Sequence[Source]) -> None:
        """Segment images, then videos.

        Raises:
            AtrousError: A file cannot be written.
            WeightsError: The logits are not finite.
        """
        clips = [source for source in sources if source.is_video]
        maps = [source for source in sources if source.is_geo]
        images = [source for source in sources if not source.is_video and not source.is_geo]
        self._num_total = None if clips else len(sources)
        self._run_images(images)
        for source in maps:
            self._run_geotiff(source)
        for number, clip in enumerate(clips, start=1):
            try:
                self._run_clip(clip, is_last=number == len(clips))
            except DataError as error:
                self.failed.append((clip.source, str(error)))
            except OSError as error:
                raise self._build_write_error(clip, error) from error

    def _run_images(self, sources: Sequence[Source]) -> None:
        ahead = self.options.ahead
        loads = read_ahead(_fetch_all(sources), self._load, ahead=ahead, threads=2)
        with closing(loads), WriteBehind(behind=ahead, threads=2) as writer:
            for source, load in loads:
                try:
                    image = load()
                    prediction = self._predict(image)
                except DataError as error:
                    self.failed.append((source.source, str(error)))
                else:
                    if is_nearly_black(convert_to_rgb(image, self.engine.card.ranges)):
                        self.nearly_black.append(source.source)
                    writer.submit(self._write_image, source, image, prediction)
                    self.num_frames += 1
                    if image.shape[-1] * image.shape[-2] > ONE_AT_A_TIME_PIXELS:
                        writer.flush()
                    del image, prediction
                self._report_progress()

    def _run_geotiff(self, source: Source) -> None:
        try:
            check_lengths(self.out, self.options.name_outputs(source))
            with _explain_memory("a row of windows"):
                files, *facts = segment_geotiff(self.engine, source, self.out, self.options)
        except DataError as error:
            self.failed.append((source.source, str(error)))
        except OSError as error:
            raise self._build_write_error(source, error) from error
        else:
            names = ("height", "width", "shares")
            self._add_record(source, files, **dict(zip(names, facts, strict=True)))
            self.num_frames += 1
        self._report_progress()

    def _load(self, fetched: Fetched) -> tuple[Source, Callable[[], Tensor]]:
        """Return a source and a function that gives its image, read already unless large."""
        source, file = fetched
        try:
            if isinstance(file, DataError):
                raise file
            check_lengths(self.out, self.options.name_outputs(source))
            name, page = source.source, source.page
            max_pixels = self.options.max_pixels
            bands = self.engine.card.bands
            read = partial(
                read_image, file, name=name, max_pixels=max_pixels, page=page, bands=bands
            )
            height, width = read_image_size(file, name=name, page=page)
            if height * width > ONE_AT_A_TIME_PIXELS:
                return source, read
            image = read()
        except DataError as error:
            return source, partial(_raise, error)
        return source, lambda: image

    def _predict(self, image: Tensor) -> Prediction:
        with _explain_memory(f"{image.shape[-1]} × {image.shape[-2]} pixels"):
            return compute_prediction(
                self.engine,
                image,
                confidence="confidence" in self.options.kinds,
                probs="probs" in self.options.kinds,
                min_confidence=self.options.min_confidence,
            )

    def _write_image(self, source: Source, image: Tensor, prediction: Prediction) -> None:
        stem, classes = self.options.name_stem(source), self.engine.classes
        link, ranges = find_link(source, self.out / stem), self.engine.card.ranges
        segmented = SegmentedImage(source.source, image, prediction, source.name, link, ranges)
        try:
            files = save_files(self.out, stem, segmented, classes, self.options.kinds)
        except OSError as error:
            raise self._build_write_error(source, error) from error
        mask, merged_px = prediction.mask, 0
        if not LABEL_KINDS.isdisjoint(self.options.kinds):
            merged_px = int((segmented.labels != mask.numpy()).sum())
        shares = tuple(compute_shares(mask, len(classes)))
        size = {"height": mask.shape[0], "width": mask.shape[1]}
        self._add_record(source, files, **size, shares=shares, merged_px=merged_px)

    def _add_record(self, source: Source, files: Sequence[str], **image: Any) -> None:
        stem, files = self.options.name_stem(source), tuple(files)
        self.manifest.add(Record(stem, source.source, source.stamp, self.digest, files, **image))

    def _build_write_error(self, source: Source, error: OSError) -> AtrousError:
        return AtrousError(
            f"Cannot write the prediction of {source.source} to {self.out}: "
            f"{error.strerror or error}. The files of the {self.manifest.num_added} images "
            "before it are complete. Free space or choose another folder, and run the same command "
            "with --resume."
        )

    def _report_progress(self) -> None:
        self._num_done += 1
        if self.progress:
            self.progress(self._num_done, self._num_total)

    def _run_clip(self, clip: Source, *, is_last: bool) -> None:
        ahead, classes = self.options.ahead, self.engine.classes
        check_lengths(self.out, self.options.name_outputs(clip))
        with (
            VideoReader(Path(clip.source)) as reader,
            record_clip(self.out, clip, reader.rate, classes, self.options) as (write, files),
            closing(read_ahead(reader, _convert, ahead=ahead, threads=2)) as loads,
            WriteBehind(behind=ahead, threads=1) as writer,
        ):
            if is_last and reader.num_frames:
                self._num_total = self._num_done + reader.num_frames
            for frame, image in loads:
                writer.submit(write, frame, image, self._predict(image))
                self.num_frames += 1
                self._report_progress()
        self._add_record(clip, files)


@contextmanager
def _explain_memory(what: str) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU, torch reports a lack of memory only in the text of a RuntimeError.
        is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not is_memory and "allocate memory" not in str(error):
            raise
        raise DataError(
            f"There is not enough memory to segment {what} this way. Use smaller windows, such as "
            "--window 512."
        ) from error


def _fetch_all(sources: Sequence[Source]) -> Iterator[Fetched]:
    for source in sources:
        try:
            yield source, source.fetch()
        except DataError as error:
            yield source, error


def _convert(frame: Frame) -> tuple[Frame, Tensor]:
    return frame, torch.from_numpy(frame.convert()).permute(2, 0, 1)


def _raise(error: DataError) -> Tensor:
    raise error
