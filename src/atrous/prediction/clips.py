"""The outputs of a video: videos, files per frame, a table of shares."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from atrous.classes import Classes
from atrous.files import write_atomically
from atrous.prediction.job_options import VIDEO_ENDINGS, JobOptions, name_frame
from atrous.prediction.outputs import compute_shares, save_files, write_shares
from atrous.prediction.prediction import Prediction, SegmentedImage
from atrous.prediction.render import render_overlay
from atrous.prediction.sources import Source
from atrous.prediction.video import Frame, Pixels, VideoWriter, open_video

FrameWriter = Callable[[Frame, Tensor, Prediction], None]
"""Writes one frame with its image and prediction, from one thread and in order."""


@contextmanager
def record_clip(
    out: Path, clip: Source, rate: Fraction, classes: Classes, options: JobOptions
) -> Iterator[tuple[FrameWriter, list[str]]]:
    """Write the outputs of a video: complete after the block; if it raises, only whole frames.

    Returns:
        The function that writes a frame, and the list of files, relative to `out`.

    Raises:
        OSError: A file cannot be written.
    """
    stem, files, rows = options.name_stem(clip), list[str](), list[list[Any]]()
    videos: dict[str, VideoWriter] = {}

    def write(frame: Frame, image: Tensor, prediction: Prediction) -> None:
        for kind, video in videos.items():
            video.write(_render(kind, image, prediction, classes), frame.time_s)
        if kinds := options.frame_kinds:
            segmented = SegmentedImage(f"{clip.source}#{frame.index}", image, prediction)
            frame_stem = name_frame(stem, frame.index)
            files.extend(save_files(out, frame_stem, segmented, classes, kinds))
        if "shares" in options.kinds:
            shares = compute_shares(prediction.mask, len(classes))
            rows.append([frame.index, frame.time_s, *shares])

    (out / stem).parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for kind in options.video_kinds:
            name = f"{stem}{VIDEO_ENDINGS[kind]}"
            videos[kind] = stack.enter_context(open_video(out / name, rate))
            files.append(name)
        yield write, files
    if "shares" in options.kinds:
        name = f"{stem}_shares.csv"
        columns = ("frame", "time_s")
        write_atomically(out / name, lambda file: write_shares(file, columns, rows, classes))
        files.append(name)


def _render(kind: str, image: Tensor, prediction: Prediction, classes: Classes) -> Pixels:
    if kind == "overlay":
        legend = range(len(classes))  # all classes, so that the legend is the same in all frames
        return np.asarray(render_overlay(image, prediction.mask, classes, legend=legend))
    plane = prediction.mask if kind == "mask" else prediction.confidence
    assert plane is not None
    return plane.numpy()
