"""From picture files to masks and overlays on disk."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from atrous.data import read_image
from atrous.data.pairs import IMAGE_SUFFIXES, list_image_files
from atrous.errors import AtrousError, ConfigError, DataError
from atrous.inference.engine import Engine, Precision
from atrous.inference.open_engine import open_engine
from atrous.inference.render import save_mask, save_overlay
from atrous.inference.views import Views
from atrous.models import Segmenter

Progress = Callable[[int, int], object]
"""Called with the number of pictures done and of all pictures."""


@dataclass(frozen=True)
class PredictionReport:
    """What `predict` wrote, and which pictures it could not use and why."""

    written: list[Path]
    failed: list[tuple[Path, str]]


def predict(
    run_or_model: Path | str | Segmenter,
    paths: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    views: Views = Views(),  # noqa: B008 (immutable)
    device: str = "auto",
    precision: Precision = "32",
    engine: str = "torch",
    progress: Progress | None = None,
) -> PredictionReport:
    """Segment pictures; write a mask and an overlay for each, at the picture's own size.

    `STEM.png` holds class indices with the class colours as palette, `STEM_overlay.jpg` the
    tinted picture with a legend below. Pictures are turned upright as their EXIF orientation says.
    A picture that cannot be used is reported and skipped. Each file is whole or not there.

        from atrous import predict

        report = predict("runs/camvid", ["street.jpg", "holiday/"], "predictions")
        print(report.written, report.failed)

    Args:
        run_or_model: Run folder, weights file, exported file or model.
        paths: Pictures, and folders of which every picture directly inside is taken.
        out: Folder to write to; made if need be.
        views: Scales, mirror images and windows to look through.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …; a model given as such stays where it is.
        precision: `32`, `bf16`, or `auto` for bf16 where the device computes in it natively.
        engine: `torch`, an export of the run such as `openvino-int8`, or `auto` for the fastest
            of them; see `open_engine`.
        progress: Called after each picture.

    Raises:
        ConfigError: There are no pictures, two would write the same file, a picture would be
            overwritten, or there is no such device. Nothing is written then.
        WeightsError: The weights cannot be used.
        AtrousError: A file cannot be written, for instance on a full disk.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    pictures = find_pictures(Path(path) for path in given)
    out = Path(out)
    check_names(pictures, out)
    runner = open_engine(run_or_model, engine, views=views, device=device, precision=precision)
    report = PredictionReport([], [])
    for num_done, picture in enumerate(pictures, start=1):
        try:
            report.written.extend(_predict_one(runner, picture, out))
        except (DataError, torch.OutOfMemoryError) as error:
            report.failed.append((picture, str(error)))
        except OSError as error:
            raise AtrousError(
                f"Cannot write the prediction of {picture} to {out}: {error.strerror or error}. "
                f"The files of the {len(report.written) // 2} pictures before it are whole. Free "
                "space or choose another folder, and give the same command again."
            ) from error
        if progress:
            progress(num_done, len(pictures))
    return report


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """Return the given pictures and those directly inside given folders, each once.

    Raises:
        ConfigError: A path does not exist, or there is no picture at all.
    """
    pictures: dict[Path, Path] = {}
    paths = list(paths)
    for path in paths:
        if not path.exists():
            raise ConfigError(f"There is no picture or folder {path}.")
        for picture in list_image_files(path) if path.is_dir() else [path]:
            pictures.setdefault(picture.resolve(), picture)
    if not pictures:
        raise ConfigError(
            f"There are no pictures in {', '.join(map(str, paths)) or 'an empty list'}. Give "
            f"pictures, or folders with files that end in {', '.join(IMAGE_SUFFIXES)}."
        )
    return list(pictures.values())


def check_names(pictures: Sequence[Path], out: Path) -> None:
    """Check that every picture has output files of its own, and none is overwritten.

    Raises:
        ConfigError: It is not so, or `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"The output {out} is a file; give a folder.")
    sources = {picture.resolve() for picture in pictures}
    owners: dict[Path, Path] = {}
    for picture in pictures:
        for target in _name_outputs(picture, out):
            if target.resolve() in sources:
                raise ConfigError(
                    f"The prediction of {picture} would overwrite the picture {target}. Choose "
                    "another output folder."
                )
            if target in owners:
                raise ConfigError(
                    f"{owners[target]} and {picture} would both be written to {target}. Rename "
                    "one, or give them in two commands with different output folders."
                )
            owners[target] = picture


def _name_outputs(picture: Path, out: Path) -> tuple[Path, Path]:
    return out / f"{picture.stem}.png", out / f"{picture.stem}_overlay.jpg"


def _predict_one(engine: Engine, picture: Path, out: Path) -> tuple[Path, Path]:
    image = read_image(picture)
    mask = engine.predict_mask(image)
    mask_path, overlay_path = _name_outputs(picture, out)
    out.mkdir(parents=True, exist_ok=True)
    save_mask(mask_path, mask, engine.classes)
    save_overlay(overlay_path, image, mask, engine.classes)
    return mask_path, overlay_path
