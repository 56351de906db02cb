"""The outputs of a video: videos, files per frame, a table of shares."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from atrous.classes import Classes
from atrous.prediction.job_options import VIDEO_ENDINGS, JobOptions, name_frame
from atrous.prediction.outputs import SegmentedImage, compute_shares, save_files, write_shares
from atrous.prediction.prediction import Prediction
from atrous.prediction.render import render_overlay
from atrous.prediction.sources import Source
from atrous.prediction.video import Frame, Pixels, VideoWriter, open_video


@dataclass
class ClipRecorder:
    """Writes the outputs of one video, from one thread and in order; made by `record_clip`.

    Attributes:
        files: Written files, relative to the output folder.
        rows: Rows of the table of shares.
        videos: Open videos by output kind.
    """

    out: Path
    clip: Source
    classes: Classes
    options: JobOptions
    files: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    videos: dict[str, VideoWriter] = field(default_factory=dict)

    def write(self, frame: Frame, image: Tensor, prediction: Prediction) -> None:
        """Write one frame."""
        for kind, video in self.videos.items():
            video.write(self._render(kind, image, prediction), frame.time_s)
        if kinds := self.options.frame_kinds:
            segmented = SegmentedImage(f"{self.clip.source}#{frame.index}", image, prediction)
            stem = name_frame(self.options.name_stem(self.clip), frame.index)
            self.files += save_files(self.out, stem, segmented, self.classes, kinds)
        if "shares" in self.options.kinds:
            shares = compute_shares(prediction.mask, len(self.classes))
            self.rows.append([frame.index, frame.time_s, *shares])

    def _render(self, kind: str, image: Tensor, prediction: Prediction) -> Pixels:
        if kind == "overlay":
            legend = range(len(self.classes))  # all classes, so that it stays the same
            overlay = render_overlay(image, prediction.mask, self.classes, legend=legend)
            return np.asarray(overlay)
        plane = prediction.mask if kind == "mask" else prediction.confidence
        assert plane is not None
        return plane.numpy()


@contextmanager
def record_clip(
    out: Path, clip: Source, rate: Fraction, classes: Classes, options: JobOptions
) -> Iterator[ClipRecorder]:
    """Write the outputs of a video: complete after the block; if it raises, only whole frames.

    Raises:
        OSError: A file cannot be written.
    """
    recorder = ClipRecorder(out, clip, classes, options)
    stem = options.name_stem(clip)
    (out / stem).parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for kind in options.video_kinds:
            name = f"{stem}{VIDEO_ENDINGS[kind]}"
            recorder.videos[kind] = stack.enter_context(open_video(out / name, rate))
            recorder.files.append(name)
        yield recorder
    if "shares" in options.kinds:
        name = f"{stem}_shares.csv"
        write_shares(out / name, ("frame", "time_s"), recorder.rows, classes)
        recorder.files.append(name)
