"""Reading and writing of videos with PyAV, which `atrous[video]` installs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from atrous.errors import DataError
from atrous.extras import import_extra
from atrous.files import replace_atomically

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """One frame of a video: its number from 0, its presentation time, the frame of PyAV."""

    index: int
    time_s: float
    raw: Any

    def convert(self) -> Pixels:
        """Return the upright image, uint8 (H, W, 3)."""
        pixels = self.raw.to_ndarray(format="rgb24")
        turns = round(self.raw.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


class VideoReader:
    """The frames of a video file, in order, with the rate and number that the file states.

    Raises DataError if the file cannot be read or holds no video.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._av = path, import_av()
        try:
            self._container = self._av.open(str(path))
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            raise DataError(
                f"Cannot read {path} as a video: {_reason(error)}. Fetch or export it again."
            ) from error
        if not self._container.streams.video:
            self._container.close()
            raise DataError(f"{path} holds no video, perhaps only sound. Give another file.")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self.rate = Fraction(stream.average_rate or 25)
        self.num_frames = stream.frames or None

    def __iter__(self) -> Iterator[Frame]:
        index = -1
        try:
            for index, raw in enumerate(self._container.decode(video=0)):
                time_s = index / self.rate if raw.pts is None else raw.pts * raw.time_base
                yield Frame(index, float(time_s), raw)
        except (self._av.error.FFmpegError, OSError) as error:
            raise DataError(
                f"{self.path} cannot be read beyond frame {index}: {_reason(error)}. Fetch or "
                "export it again."
            ) from error
        if index < 0:
            raise DataError(f"{self.path} holds no frame. Fetch or export it again.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._container.close()


@dataclass
class VideoWriter:
    """Writes frames of one size: colour as H.264, which plays everywhere, grey as lossless FFV1."""

    path: Path
    rate: Fraction
    _container: Any
    _stream: Any = None

    def write(self, pixels: Pixels, time_s: float) -> None:
        """Append a frame, uint8 (H, W, 3), or (H, W) for grey; raises DataError at another size."""
        is_grey = pixels.ndim == 2
        if not is_grey:  # H.264 halves the resolution of colour
            height, width = pixels.shape[:2]
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._add_stream(pixels, is_grey)
        if pixels.shape[:2] != (self._stream.height, self._stream.width):
            raise DataError(
                f"The frame at {time_s:.2f} s is {pixels.shape[1]} × {pixels.shape[0]}, those "
                f"before it {self._stream.width} × {self._stream.height}, which {self.path.name} "
                "cannot hold. Use --frames to write an image for each frame."
            )
        format = "gray" if is_grey else "rgb24"
        frame = import_av().VideoFrame.from_ndarray(pixels, format=format)
        frame.time_base = self._stream.codec_context.time_base
        frame.pts = round(time_s / frame.time_base)
        self._container.mux(self._stream.encode(frame))

    def _add_stream(self, pixels: Pixels, is_grey: bool) -> Any:
        codec, options = "ffv1", {}
        if not is_grey:
            codec, options = "libx264", {"preset": "veryfast", "crf": "20"}
        stream = self._container.add_stream(codec, rate=self.rate, options=options)
        stream.pix_fmt = "gray" if is_grey else "yuv420p"
        stream.height, stream.width = pixels.shape[:2]
        stream.codec_context.time_base = Fraction(1, 90_000)
        return stream


@contextmanager
def open_video(path: Path, rate: Fraction) -> Iterator[VideoWriter]:
    """Write a video atomically: complete after the block, absent if it raises."""
    av = import_av()
    container_format = "matroska" if path.suffix == ".mkv" else "mp4"
    with (
        replace_atomically(path) as temporary,
        av.open(str(temporary), "w", format=container_format) as container,
    ):
        writer = VideoWriter(path, rate, container)
        try:
            yield writer
            if writer._stream is not None:
                container.mux(writer._stream.encode(None))
        except av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def import_av() -> Any:
    """Return PyAV; raises ConfigError if it is not installed."""
    return import_extra("av", "video")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
