"""One prediction job: pictures and clips through one engine into one folder."""

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
from atrous.prediction.outputs import Segmented, compute_shares, save_files
from atrous.prediction.pipeline import WriteBehind, read_ahead
from atrous.prediction.prediction import Prediction, compute_prediction
from atrous.prediction.sources import Clip, Picture, Source
from atrous.prediction.video import Frame, VideoReader

Progress = Callable[[int, int | None], object]
"""Called with the number of pictures and frames done and of all, None where nobody knows."""

ONE_AT_A_TIME_PIXELS = 2**26
"""A larger picture is read when its turn comes and written before the next one is read."""


@dataclass
class PredictionJob:
    """Segments sources and writes their files.

    Attributes:
        engine: What runs the network.
        out: The folder to write to, which exists.
        options: What to save, and how.
        manifest: What is done.
        digest: Stands for the weights and options.
        progress: Called after each picture and frame.
        failed: Sources that could not be used, and why.
        nearly_black: Images of which 8 bits keep at most 16 levels.
        num_frames: Pictures and frames that were segmented.
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
        """Segment pictures, then clips.

        Raises:
            AtrousError: A file cannot be written.
            WeightsError: The model's logits are not finite.
        """
        pictures = [source for source in sources if isinstance(source, Picture)]
        clips = [source for source in sources if isinstance(source, Clip)]
        self._num_all = None if clips else len(pictures)
        self._run_pictures(pictures)
        for number, clip in enumerate(clips, start=1):
            try:
                self._run_clip(clip, is_last=number == len(clips))
            except DataError as error:
                self.failed.append((clip.source, str(error)))
            except OSError as error:
                raise self._cannot_write(clip, error) from error

    def _run_pictures(self, pictures: Sequence[Picture]) -> None:
        ahead = self.options.ahead
        loads = read_ahead(_fetch_all(pictures), self._load, ahead=ahead, threads=2)
        with closing(loads), WriteBehind(behind=ahead, threads=2) as writer:
            for picture, load in loads:
                try:
                    image = load()
                    prediction = self._predict(image)
                except DataError as error:
                    self.failed.append((picture.source, str(error)))
                else:
                    if is_nearly_black(image):
                        self.nearly_black.append(picture.source)
                    writer.submit(self._write_picture, picture, image, prediction)
                    self.num_frames += 1
                    if image.shape[-1] * image.shape[-2] > ONE_AT_A_TIME_PIXELS:
                        writer.flush()
                    del image, prediction
                self._report_progress()

    def _load(
        self, fetched: tuple[Picture, Path | BinaryIO | DataError]
    ) -> tuple[Picture, Callable[[], Tensor]]:
        """Return a picture and what gives its pixels: already read, unless they are many."""
        picture, file = fetched
        try:
            if isinstance(file, DataError):
                raise file
            check_lengths(self.out, self.options.name_outputs(picture))
            read = partial(
                read_image,
                file,
                name=picture.source,
                max_pixels=self.options.max_pixels,
                page=picture.page,
            )
            height, width = read_image_size(file, name=picture.source, page=picture.page)
            if height * width > ONE_AT_A_TIME_PIXELS:
                return picture, read
            image = read()
        except DataError as error:
            return picture, partial(_raise, error)
        return picture, lambda: image

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

    def _write_picture(self, picture: Picture, image: Tensor, prediction: Prediction) -> None:
        stem = self.options.name_stem(picture)
        classes, done = self.engine.classes, Segmented(picture.source, image, prediction)
        try:
            files = save_files(self.out, stem, done, classes, self.options.kinds)
        except OSError as error:
            raise self._cannot_write(picture, error) from error
        shares = compute_shares(prediction.mask, len(classes))
        height, width = prediction.mask.shape
        self.manifest.add(
            Record(
                stem, picture.source, picture.stamp, self.digest, tuple(files),
                height, width, tuple(shares),
            )
        )  # fmt: skip

    def _cannot_write(self, source: Source, error: OSError) -> AtrousError:
        return AtrousError(
            f"Cannot write the prediction of {source.source} to {self.out}: "
            f"{error.strerror or error}. The files of the {self.manifest.num_added} pictures "
            "before it are whole. Free space or choose another folder, and give the same command "
            "again; with --resume it goes on from there."
        )

    def _report_progress(self) -> None:
        self._num_done += 1
        if self.progress:
            self.progress(self._num_done, self._num_all)

    def _run_clip(self, clip: Clip, *, is_last: bool) -> None:
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
    pictures: Sequence[Picture],
) -> Iterator[tuple[Picture, Path | BinaryIO | DataError]]:
    for picture in pictures:
        try:
            yield picture, picture.fetch()
        except DataError as error:
            yield picture, error


def _convert(frame: Frame) -> tuple[Frame, Tensor]:
    return frame, torch.from_numpy(frame.convert()).permute(2, 0, 1)


def _raise(error: DataError) -> Tensor:
    raise error
