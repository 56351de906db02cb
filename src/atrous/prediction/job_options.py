"""What is to be saved of a prediction, and under which names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from atrous.data.sample import MAX_PIXELS
from atrous.errors import ConfigError
from atrous.prediction.outputs import check_kinds, name_files
from atrous.prediction.sources import Picture, Source

VIDEO_ENDINGS = {
    "mask": "_mask.mkv",
    "overlay": "_overlay.mp4",
    "confidence": "_confidence.mkv",
}
"""The outputs that are one video for a clip; the others are files per frame."""


@dataclass(frozen=True)
class JobOptions:
    """What is to be saved, and how.

    Attributes:
        kinds: Outputs, of `outputs.KINDS`.
        unsure_below: Pixels whose likeliest class is less probable become void.
        frames: Whether clips are saved as pictures rather than as videos.
        full_names: Whether outputs keep the suffix of their picture: `a.jpg.png`.
        max_pixels: Pictures of more pixels are skipped.
        ahead: Pictures read before their turn, and written after it; 0 for no threads.

    Raises:
        ConfigError: There is no such output, or a value cannot be used.
    """

    kinds: tuple[str, ...]
    unsure_below: float = 0.0
    frames: bool = False
    full_names: bool = False
    max_pixels: int = MAX_PIXELS
    ahead: int = 4

    @property
    def needs_logits(self) -> bool:
        """Whether more than the likeliest class of each pixel is asked for."""
        return self.unsure_below > 0 or not {"confidence", "probs"}.isdisjoint(self.kinds)

    @property
    def video_kinds(self) -> tuple[str, ...]:
        """Outputs that are one video for a clip."""
        return () if self.frames else tuple(kind for kind in self.kinds if kind in VIDEO_ENDINGS)

    @property
    def frame_kinds(self) -> tuple[str, ...]:
        """Outputs that are files for each frame of a clip."""
        return tuple(
            kind for kind in self.kinds if kind not in self.video_kinds and kind != "shares"
        )

    def name_stem(self, source: Source) -> str:
        """Return what the files of a source are called, without their endings."""
        return source.name if self.full_names else str(PurePosixPath(source.name).with_suffix(""))

    def name_outputs(self, source: Source) -> list[str]:
        """Return the files of a source, relative to the output folder; of frames, the first."""
        stem = self.name_stem(source)
        if isinstance(source, Picture):
            return name_files(stem, self.kinds)
        videos = [f"{stem}{VIDEO_ENDINGS[kind]}" for kind in self.video_kinds]
        if "shares" in self.kinds:
            videos.append(f"{stem}_shares.csv")
        return videos + name_files(name_frame(stem, 0), self.frame_kinds)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", check_kinds(self.kinds))
        if not 0 <= self.unsure_below <= 1:
            raise ConfigError(
                f"--unsure-below takes a probability from 0 to 1, not {self.unsure_below}."
            )
        if self.max_pixels < 1 or self.ahead < 0:
            raise ConfigError("The largest number of pixels must be at least 1, and ahead 0.")


def name_frame(stem: str, index: int) -> str:
    """Return what the files of a frame are called, without their endings."""
    return f"{stem}/{index:06d}"


def check_names(sources: Sequence[Source], out: Path, options: JobOptions) -> None:
    """Check that every source has output files of its own, and none is overwritten.

    Raises:
        ConfigError: It is not so, or `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"The output {out} is a file; give a folder.")
    paths = {source.path.resolve(): source for source in sources if source.path is not None}
    folder, owners = out.resolve(), dict[str, Source]()
    for source in sources:
        for target in options.name_outputs(source):
            if folder / target in paths:
                raise ConfigError(
                    f"The prediction of {source.source} would overwrite the picture "
                    f"{out / target}. Choose another output folder."
                )
            if (owner := owners.setdefault(target, source)) is not source:
                raise ConfigError(
                    f"{owner.source} and {source.source} would both be written to {out / target}. "
                    "With --full-names the outputs keep folders and suffixes, as in "
                    "photos/a.jpg.png; or give them in two commands with different output folders."
                )
