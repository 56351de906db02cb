"""What comes of a clip: videos, files per frame, a table of shares."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from atrous.classes import Classes
from atrous.prediction.job_options import VIDEO_ENDINGS, JobOptions, name_frame
from atrous.prediction.outputs import SegmentedImage, compute_shares, save_files, write_shares
from atrous.prediction.prediction import Prediction
from atrous.prediction.render import render_overlay
from atrous.prediction.video import Frame, Pixels, VideoWriter, open_video


class ClipRecorder:
    """Writes what comes of the frames of one clip, from one thread and in order.

    Videos and the table are there, whole, once the `with` block has ended, and not at all if it
    raised; the files of single frames are whole at any time.

    Args:
        out: Output folder.
        stem: What the files are called, without their endings.
        source: What the clip is called.
        rate: Frames per second.
        classes: Names and colours.
        options: What to save.

    Attributes:
        files: What was written, relative to the folder.

    Raises:
        OSError: A file cannot be written.
    """

    def __init__(
        self,
        out: Path,
        stem: str,
        source: str,
        rate: Fraction,
        classes: Classes,
        options: JobOptions,
    ) -> None:
        self.out, self.stem, self.source = out, stem, source
        self.rate, self.classes, self.options = rate, classes, options
        self.files: list[str] = []
        self._rows: list[list[Any]] = []
        self._videos: dict[str, VideoWriter] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        (self.out / self.stem).parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for kind in self.options.video_kinds:
                name = f"{self.stem}{VIDEO_ENDINGS[kind]}"
                video = open_video(self.out / name, self.rate)
                self._videos[kind] = stack.enter_context(video)
                self.files.append(name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._stack.__exit__(kind, error, traceback)
        if kind is None and "shares" in self.options.kinds:
            name = f"{self.stem}_shares.csv"
            write_shares(self.out / name, ("frame", "time_s"), self._rows, self.classes)
            self.files.append(name)

    def write(self, frame: Frame, image: Tensor, prediction: Prediction) -> None:
        """Write one frame."""
        for kind, video in self._videos.items():
            video.write(self._draw(kind, image, prediction), frame.time_s)
        if self.options.frame_kinds:
            done = SegmentedImage(f"{self.source}#{frame.index}", image, prediction)
            stem = name_frame(self.stem, frame.index)
            kinds = self.options.frame_kinds
            self.files += save_files(self.out, stem, done, self.classes, kinds)
        if "shares" in self.options.kinds:
            shares = compute_shares(prediction.mask, len(self.classes))
            self._rows.append([frame.index, frame.time_s, *shares])

    def _draw(self, kind: str, image: Tensor, prediction: Prediction) -> Pixels:
        if kind == "overlay":
            legend = range(len(self.classes))  # all, so that it stays the same
            overlay = render_overlay(image, prediction.mask, self.classes, legend=legend)
            return np.asarray(overlay)
        plane = prediction.mask if kind == "mask" else prediction.confidence
        assert plane is not None
        return plane.numpy()
