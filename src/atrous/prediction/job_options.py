"""Options of a prediction job and the names of its output files."""

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from atrous.data.layouts import find_owner
from atrous.errors import ConfigError, DataError
from atrous.images.image_file import MAX_PIXELS
from atrous.prediction.manifest import FILENAME
from atrous.prediction.outputs import JOB_FILES, LABEL_KINDS, check_kinds, name_files
from atrous.prediction.sources import Source

VIDEO_ENDINGS = {"mask": "_mask.mkv", "overlay": "_overlay.mp4", "confidence": "_confidence.mkv"}
"""Outputs that are one video per video; the others are files per frame."""


@dataclass(frozen=True)
class JobOptions:
    """Options of a job, as in `predict`; ConfigError if one is unknown or out of range."""

    kinds: tuple[str, ...]
    min_confidence: float = 0.0
    frames: bool = False
    full_names: bool = False
    max_pixels: int = MAX_PIXELS
    ahead: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", check_kinds(self.kinds))
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(
                f"--min-confidence takes a probability from 0 to 1, not {self.min_confidence}."
            )
        if self.max_pixels < 1 or self.ahead < 0:
            raise ConfigError("The largest number of pixels must be at least 1, and ahead 0.")

    @property
    def video_kinds(self) -> tuple[str, ...]:
        """Outputs of a video that are videos."""
        return () if self.frames else tuple(kind for kind in self.kinds if kind in VIDEO_ENDINGS)

    @property
    def frame_kinds(self) -> tuple[str, ...]:
        """Outputs of a video that are files per frame."""
        return tuple(kind for kind in self.kinds if kind not in (*self.video_kinds, "shares"))

    def name_stem(self, source: Source) -> str:
        """Return the common part of the file names of a source."""
        return source.name if self.full_names else str(PurePosixPath(source.name).with_suffix(""))

    def name_labels(self, source: Source) -> list[str]:
        """Return the files of a source that an annotator may correct."""
        return name_files(self.name_stem(source), {"labelme", "yolo"}.intersection(self.kinds))

    def name_outputs(self, source: Source) -> list[str]:
        """Return the files of a source, relative to the output folder; of frames, the first."""
        stem = self.name_stem(source)
        if not source.is_video:
            return name_files(stem, self.kinds, is_geo=source.is_geo)
        names = [f"{stem}{VIDEO_ENDINGS[kind]}" for kind in self.video_kinds]
        if "shares" in self.kinds:
            names.append(f"{stem}_shares.csv")
        return names + name_files(name_frame(stem, 0), self.frame_kinds)

    def check_lengths(self, source: Source, out: Path) -> None:
        """Raise DataError if the name of an output is too long for the file system of a folder."""
        for name in self.name_outputs(source):
            try:
                os.lstat(out / name)
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    raise DataError(
                        f"The output {name} would have too long a name for the file system of "
                        f"{out}. Rename the file that was given, or save only outputs with short "
                        "endings, such as --save mask."
                    ) from error


def name_frame(stem: str, index: int) -> str:
    """Return the common part of the file names of a frame."""
    return f"{stem}/{index:06d}"


def check_names(sources: Sequence[Source], out: Path, options: JobOptions) -> None:
    """Raise ConfigError unless output files are distinct and overwrite no image or mask."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"The output {out} is a file; give a folder.")
    paths = {os.path.realpath(source.path) for source in sources if source.path is not None}
    folder, owners = Path(os.path.realpath(out)), dict[str, Source]()
    job_files = {JOB_FILES[kind][0] for kind in options.kinds if kind in JOB_FILES}
    for source in sources:
        for target in options.name_outputs(source):
            if str(folder / target) in paths:
                raise ConfigError(
                    f"The prediction of {source.source} would overwrite the image "
                    f"{out / target}. Choose another output folder."
                )
            if target in job_files:
                raise ConfigError(
                    f"{out / target} would be both the labels of {source.source} and those of all "
                    "images. Rename the image, or save the two kinds into different folders."
                )
            if (owner := owners.setdefault(target, source)) is not source:
                raise ConfigError(
                    f"{owner.source} and {source.source} would both be written to {out / target}. "
                    "With --full-names the outputs keep folders and suffixes, as in "
                    "photos/a.jpg.png; or give them in two commands with different output folders."
                )
    labels = LABEL_KINDS.intersection(options.kinds)
    if labels and (odd := next((s for s in sources if s.is_video or not s.is_whole), None)):
        raise ConfigError(
            f"{odd.source} is no file of one image, so annotation tools cannot show it beside its "
            f"labels ({', '.join(sorted(labels))}). Save its frames or pages as images, such as "
            "with ffmpeg -i clip.mp4 frames/%06d.png, and give their folder."
        )
    if not (out / FILENAME).exists():  # without earlier predictions
        _check_no_dataset(out, owners)


def find_link(source: Source, file: Path) -> str:
    """Return the path of an image relative to the folder of one of its output files."""
    if source.path is None:  # in an archive
        return PurePosixPath(source.name).name
    folder = os.path.relpath(source.path.parent.resolve(), file.parent.resolve())
    return Path(folder, source.path.name).as_posix()


def _check_no_dataset(out: Path, targets: Iterable[str]) -> None:
    inside = {Path(target).parent for target in targets} | {Path()}
    for folder in (out.absolute(), Path(os.path.realpath(out))):
        for place in inside:
            if (part := find_owner(folder / place)) is not None:
                raise ConfigError(
                    f"The predictions would be written to {folder / place}, among the files of the "
                    f"dataset's folder {part}: masks of the same name would be lost. Choose "
                    "another output folder."
                )
