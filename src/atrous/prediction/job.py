"""A prediction job: images and videos through one engine into one folder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atrous.classes import Classes
from atrous.engines.engine import Engine
from atrous.errors import AtrousError, DataError
from atrous.files import write_atomically
from atrous.images import read_image
from atrous.images.image_file import read_image_size
from atrous.images.pixels import convert_to_rgb
from atrous.images.reading import is_nearly_black
from atrous.prediction.geotiff import segment_geotiff
from atrous.prediction.job_options import VIDEO_ENDINGS, JobOptions, find_link, name_frame
from atrous.prediction.manifest import Manifest, Record
from atrous.prediction.outputs import LABEL_KINDS, compute_shares, save_files, write_shares
from atrous.prediction.pipeline import WriteBehind, read_ahead
from atrous.prediction.prediction import Prediction, SegmentedImage, compute_prediction
from atrous.prediction.render import render_overlay
from atrous.prediction.sources import File, Source
from atrous.prediction.video import Frame, Pixels, VideoReader, VideoWriter, open_video

Progress = Callable[[int, int | None], object]
"""`progress(done, total)` in images and frames; the total is None if unknown."""

Fetched = tuple[Source, File | DataError]
"""A source with its file, or the error of fetching it."""


ONE_AT_A_TIME_PIXELS = 2**26
"""Larger images are read, segmented and written one at a time."""


@dataclass
class PredictionJob:
    """Segments sources and writes their files; collects what `PredictionReport` tells.

    The digest changes with the weights and options.
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

    def run(self, sources: Sequence[Source]) -> None:
        """Segment images, then videos; raises AtrousError if a file cannot be written."""
        clips = [source for source in sources if source.is_video]
        maps = [source for source in sources if source.is_geo]
        images = [source for source in sources if not source.is_video and not source.is_geo]
        self._num_total = None if clips else len(sources)
        self._run_images(images)
        for source in maps:
            self._run_geotiff(source)
        for number, clip in enumerate(clips, start=1):
            with self._note_failure(clip):
                self._run_clip(clip, is_last=number == len(clips))

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
        with self._note_failure(source), _explain_memory("a row of windows"):
            self.options.check_lengths(source, self.out)
            files, facts = segment_geotiff(self.engine, source, self.out, self.options)
            self._add_record(source, files, **facts)
            self.num_frames += 1
        self._report_progress()

    def _load(self, fetched: Fetched) -> tuple[Source, Callable[[], Tensor]]:
        """Return a source and a function that gives its image, read already unless large."""
        source, file = fetched
        try:
            if isinstance(file, DataError):
                raise file
            self.options.check_lengths(source, self.out)
            name, page = source.source, source.page
            limit, bands = self.options.max_pixels, self.engine.card.bands
            read = partial(read_image, file, name=name, page=page, max_pixels=limit, bands=bands)
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
        with self._explain_write_error(source):
            files = save_files(self.out, stem, segmented, classes, self.options.kinds)
        mask, merged_px = prediction.mask, 0
        if not LABEL_KINDS.isdisjoint(self.options.kinds):
            merged_px = int((segmented.labels != mask.numpy()).sum())
        shares = tuple(compute_shares(mask, len(classes)))
        size = {"height": mask.shape[0], "width": mask.shape[1]}
        self._add_record(source, files, **size, shares=shares, merged_px=merged_px)

    def _add_record(self, source: Source, files: Sequence[str], **image: Any) -> None:
        stem, files = self.options.name_stem(source), tuple(files)
        self.manifest.add(Record(stem, source.source, source.stamp, self.digest, files, **image))

    @contextmanager
    def _note_failure(self, source: Source) -> Iterator[None]:
        try:
            with self._explain_write_error(source):
                yield
        except DataError as error:
            self.failed.append((source.source, str(error)))

    @contextmanager
    def _explain_write_error(self, source: Source) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AtrousError(
                f"Cannot write the prediction of {source.source} to {self.out}: "
                f"{error.strerror or error}. The files of the {self.manifest.num_added} images "
                "before it are complete. Free space or choose another folder, and run the same "
                "command with --resume."
            ) from error

    def _report_progress(self) -> None:
        self._num_done += 1
        if self.progress:
            self.progress(self._num_done, self._num_total)

    def _run_clip(self, clip: Source, *, is_last: bool) -> None:
        ahead = self.options.ahead
        self.options.check_lengths(clip, self.out)
        with (
            VideoReader(Path(clip.source)) as reader,
            self._record_clip(clip, reader.rate) as (write, files),
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
    def _record_clip(
        self, clip: Source, rate: Fraction
    ) -> Iterator[tuple[Callable[[Frame, Tensor, Prediction], None], list[str]]]:
        """Write the outputs of a video: complete after the block; if it raises, only whole frames.

        Yields the function that writes a frame, from one thread and in order, and the files.
        """
        options, classes = self.options, self.engine.classes
        stem, files, rows = options.name_stem(clip), list[str](), list[list[Any]]()
        videos: dict[str, VideoWriter] = {}

        def write(frame: Frame, image: Tensor, prediction: Prediction) -> None:
            for kind, video in videos.items():
                video.write(_render(kind, image, prediction, classes), frame.time_s)
            if kinds := options.frame_kinds:
                segmented = SegmentedImage(f"{clip.source}#{frame.index}", image, prediction)
                frame_stem = name_frame(stem, frame.index)
                files.extend(save_files(self.out, frame_stem, segmented, classes, kinds))
            if "shares" in options.kinds:
                shares = compute_shares(prediction.mask, len(classes))
                rows.append([frame.index, frame.time_s, *shares])

        (self.out / stem).parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for kind in options.video_kinds:
                name = f"{stem}{VIDEO_ENDINGS[kind]}"
                videos[kind] = stack.enter_context(open_video(self.out / name, rate))
                files.append(name)
            yield write, files
        if "shares" in options.kinds:
            name, columns = f"{stem}_shares.csv", ("frame", "time_s")
            write_shares_file = partial(write_shares, first=columns, rows=rows, classes=classes)
            write_atomically(self.out / name, write_shares_file)
            files.append(name)


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


def _render(kind: str, image: Tensor, prediction: Prediction, classes: Classes) -> Pixels:
    if kind == "overlay":
        legend = range(len(classes))  # all classes, so that the legend is the same in all frames
        return np.asarray(render_overlay(image, prediction.mask, classes, legend=legend))
    plane = prediction.mask if kind == "mask" else prediction.confidence
    assert plane is not None
    return plane.numpy()
