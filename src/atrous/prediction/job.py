"""One prediction job: images and clips through one engine into one folder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from atrous.data import read_image
from atrous.data.image_file import read_image_size
from atrous.data.sample import is_nearly_black
from atrous.engines.engine import Engine
from atrous.errors import AtrousError, DataError
from atrous.prediction.clips import ClipRecorder
from atrous.prediction.job_options import JobOptions, check_lengths
from atrous.prediction.manifest import Manifest, Record
from atrous.prediction.outputs import SegmentedImage, compute_shares, save_files
from atrous.prediction.pipeline import WriteBehind, read_ahead
from atrous.prediction.prediction import Prediction, compute_prediction
from atrous.prediction.sources import ImageSource, Source, VideoSource
from atrous.prediction.video import Frame, VideoReader

Progress = Callable[[int, int | None], object]
"""Called with the number of images and frames done and of all, None where nobody knows."""

ONE_AT_A_TIME_PIXELS = 2**26
"""A larger image is read when its turn comes and written before the next one is read."""


@dataclass
class PredictionJob:
    """Segments sources and writes their files.

    Attributes:
        engine: What runs the network.
        out: The folder to write to, which exists.
        options: What to save, and how.
        manifest: What is done.
        digest: Stands for the weights and options.
        progress: Called after each image and frame.
        failed: Sources that could not be used, and why.
        nearly_black: Images of which 8 bits keep at most 16 levels.
        num_frames: Images and frames that were segmented.
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
    _num_all: int | None = None

    def is_done(self, source: Source) -> bool:
        """Return whether all files of a source are there already."""
        stem, files = self.options.name_stem(source), self.options.name_outputs(source)
        return self.manifest.is_done(stem, source.stamp, self.digest, files)

    def run(self, sources: Sequence[Source]) -> None:
        """Segment images, then clips.

        Raises:
            AtrousError: A file cannot be written.
            WeightsError: The model's logits are not finite.
        """
        image_sources = [source for source in sources if isinstance(source, ImageSource)]
        clips = [source for source in sources if isinstance(source, VideoSource)]
        self._num_all = None if clips else len(image_sources)
        self._run_images(image_sources)
        for number, clip in enumerate(clips, start=1):
            try:
                self._run_clip(clip, is_last=number == len(clips))
            except DataError as error:
                self.failed.append((clip.source, str(error)))
            except OSError as error:
                raise self._cannot_write(clip, error) from error

    def _run_images(self, sources: Sequence[ImageSource]) -> None:
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
                    if is_nearly_black(image):
                        self.nearly_black.append(source.source)
                    writer.submit(self._write_image, source, image, prediction)
                    self.num_frames += 1
                    if image.shape[-1] * image.shape[-2] > ONE_AT_A_TIME_PIXELS:
                        writer.flush()
                    del image, prediction
                self._report_progress()

    def _load(
        self, fetched: tuple[ImageSource, Path | BinaryIO | DataError]
    ) -> tuple[ImageSource, Callable[[], Tensor]]:
        """Return an image and what gives its pixels: already read, unless they are many."""
        source, file = fetched
        try:
            if isinstance(file, DataError):
                raise file
            check_lengths(self.out, self.options.name_outputs(source))
            read = partial(
                read_image,
                file,
                name=source.source,
                max_pixels=self.options.max_pixels,
                page=source.page,
            )
            height, width = read_image_size(file, name=source.source, page=source.page)
            if height * width > ONE_AT_A_TIME_PIXELS:
                return source, read
            image = read()
        except DataError as error:
            return source, partial(_raise, error)
        return source, lambda: image

    def _predict(self, image: Tensor) -> Prediction:
        try:
            return compute_prediction(
                self.engine,
                image,
                confidence="confidence" in self.options.kinds,
                probs="probs" in self.options.kinds,
                unsure_below=self.options.unsure_below,
            )
        except (MemoryError, RuntimeError) as error:
            # On a CPU torch says only in words that memory is short.
            is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
            if not is_memory and "allocate memory" not in str(error):
                raise
            raise DataError(
                f"There is not enough memory to segment {image.shape[-1]} × {image.shape[-2]} "
                "pixels this way. Take it in smaller windows, such as --window 512."
            ) from error

    def _write_image(self, source: ImageSource, image: Tensor, prediction: Prediction) -> None:
        stem = self.options.name_stem(source)
        classes, done = self.engine.classes, SegmentedImage(source.source, image, prediction)
        try:
            files = save_files(self.out, stem, done, classes, self.options.kinds)
        except OSError as error:
            raise self._cannot_write(source, error) from error
        shares = compute_shares(prediction.mask, len(classes))
        height, width = prediction.mask.shape
        self.manifest.add(
            Record(
                stem, source.source, source.stamp, self.digest, tuple(files),
                height, width, tuple(shares),
            )
        )  # fmt: skip

    def _cannot_write(self, source: Source, error: OSError) -> AtrousError:
        return AtrousError(
            f"Cannot write the prediction of {source.source} to {self.out}: "
            f"{error.strerror or error}. The files of the {self.manifest.num_added} images "
            "before it are whole. Free space or choose another folder, and give the same command "
            "again; with --resume it goes on from there."
        )

    def _report_progress(self) -> None:
        self._num_done += 1
        if self.progress:
            self.progress(self._num_done, self._num_all)

    def _run_clip(self, clip: VideoSource, *, is_last: bool) -> None:
        stem, ahead = self.options.name_stem(clip), self.options.ahead
        check_lengths(self.out, self.options.name_outputs(clip))
        with (
            VideoReader(clip.path) as reader,
            ClipRecorder(
                self.out, stem, clip.source, reader.rate, self.engine.classes, self.options
            ) as recorder,
            closing(read_ahead(reader, _convert, ahead=ahead, threads=2)) as loads,
            WriteBehind(behind=ahead, threads=1) as writer,
        ):
            if is_last and reader.num_frames:
                self._num_all = self._num_done + reader.num_frames
            for frame, image in loads:
                writer.submit(recorder.write, frame, image, self._predict(image))
                self.num_frames += 1
                self._report_progress()
        self.manifest.add(Record(stem, clip.source, clip.stamp, self.digest, tuple(recorder.files)))


def _fetch_all(
    sources: Sequence[ImageSource],
) -> Iterator[tuple[ImageSource, Path | BinaryIO | DataError]]:
    for source in sources:
        try:
            yield source, source.fetch()
        except DataError as error:
            yield source, error


def _convert(frame: Frame) -> tuple[Frame, Tensor]:
    return frame, torch.from_numpy(frame.convert()).permute(2, 0, 1)


def _raise(error: DataError) -> Tensor:
    raise error
