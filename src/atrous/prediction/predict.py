"""From images and clips to masks, overlays and more on disk."""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from atrous.classes import Classes
from atrous.data import read_image
from atrous.data.image_file import MAX_PIXELS
from atrous.devices import Precision
from atrous.engines.open_engine import open_engine
from atrous.engines.tta import TTA
from atrous.errors import AtrousWarning, ConfigError
from atrous.files import write_atomically
from atrous.fonts import describe_undrawable
from atrous.models import Segmenter
from atrous.prediction.job import PredictionJob, Progress
from atrous.prediction.job_options import JobOptions, check_names
from atrous.prediction.manifest import Manifest, compute_digest
from atrous.prediction.outputs import FILES, SegmentedImage, write_shares
from atrous.prediction.prediction import compute_prediction
from atrous.prediction.sources import ImageSource, Source, VideoSource, find_sources
from atrous.prediction.video import import_av

LEGEND = "legend.txt"
"""Number, name and colour of each class, where overlays cannot have the names."""


@dataclass(frozen=True)
class PredictionReport:
    """What `predict` did.

    Attributes:
        written: Files, in the order of the images; those of images done before are left out.
        failed: What could not be used, and why.
        resumed: What was done before and so left out.
        num_frames: Images and frames that were segmented.
        nearly_black: Images of which 8 bits keep at most 16 of 256 levels.
    """

    written: list[Path]
    failed: list[tuple[str, str]]
    resumed: list[str]
    num_frames: int
    nearly_black: list[str]


def predict(
    run_or_model: Path | str | Segmenter,
    paths: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    save: Collection[str] = ("mask", "overlay"),
    unsure_below: float = 0.0,
    tta: TTA = TTA(),
    device: str = "auto",
    precision: Precision = "32",
    engine: str = "torch",
    trust: bool = False,
    resume: bool = False,
    frames: bool = False,
    full_names: bool = False,
    max_pixels: int = MAX_PIXELS,
    ahead: int = 4,
    progress: Progress | None = None,
) -> PredictionReport:
    """Segment images and videos; write what is asked for, at their own size.

    Of `photos/a.jpg`, with `photos` given: `a.png` holds class indices with the class colours as
    palette, `a_overlay.jpg` the tinted image with a legend below; for the others see
    docs/predict.md. Images are turned upright as their EXIF orientation says. What cannot be
    used is reported and skipped. Each file is whole or not there. Reading, the network and
    writing run side by side.

        from atrous import predict

        report = predict("runs/camvid", ["street.jpg", "holiday/"], "predictions")
        print(report.written, report.failed)

    Args:
        run_or_model: Run folder, weights file, exported file or model.
        paths: Images, videos, archives, folders, patterns such as `photos/**/*.jpg`; of a
            folder every image directly inside is taken.
        out: Folder to write to; made if need be.
        save: Of mask, overlay, confidence, probs, rle, geojson and shares.
        unsure_below: Pixels whose likeliest class is less probable become void (255).
        tta: Test-time augmentation and sliding windows.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …; a model given as such stays where it is.
        precision: `32`, `bf16`, or `auto` for bf16 where the device computes in it natively.
        engine: `torch`, an export of the run such as `openvino-int8`, or `auto` for the fastest
            of them; see `open_engine`.
        trust: Whether a .pt2 export may be opened, which can run any code when it is read.
        resume: Leave out what is there already, made of the same content in the same way.
        frames: Write the frames of a video as images, not as videos.
        full_names: Keep folders and suffix of the path as given: `photos/a.jpg.png`.
        max_pixels: Images that state more pixels are skipped before they are decoded.
        ahead: Images read before their turn, and written after it; 0 for no threads.
        progress: Called after each image or frame.

    Raises:
        ConfigError: There are no images, two would write the same file, an image would be
            overwritten, or an option cannot be used. Nothing is written then.
        WeightsError: The weights cannot be used.
        AtrousError: A file cannot be written, for instance on a full disk.
    """
    options = JobOptions(
        tuple(save),
        unsure_below=unsure_below,
        frames=frames,
        full_names=full_names,
        max_pixels=max_pixels,
        ahead=ahead,
    )
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    sources, out = find_sources(given, full_names=full_names), Path(out)
    check_names(sources, out, options)
    if any(isinstance(source, VideoSource) for source in sources):
        import_av()
    runner = open_engine(
        run_or_model, engine, tta=tta, device=device, precision=precision, trust=trust
    )
    if options.needs_logits:
        runner.require_logits()
    digest = compute_digest(runner, unsure_below, frames)
    manifest = _open_manifest(out, resume=resume)
    try:
        job = PredictionJob(runner, out, options, manifest, digest, progress)
        todo: list[Source] = []
        resumed: list[Source] = []
        for source in sources:
            (resumed if resume and job.is_done(source) else todo).append(source)
        if "overlay" in options.kinds:
            _note_undrawable(runner.classes, out)
        job.run(todo)
        if "shares" in options.kinds:
            _save_shares(job, sources)
    finally:
        manifest.close()
    failed = {source for source, _ in job.failed}
    written = [
        out / name
        for source in todo
        if source.source not in failed
        for name in manifest.records[options.name_stem(source)].files
    ]
    return PredictionReport(
        written,
        job.failed,
        [source.source for source in resumed],
        job.num_frames,
        job.nearly_black,
    )


def predict_stream(
    run_or_model: Path | str | Segmenter,
    source: BinaryIO,
    target: BinaryIO,
    *,
    kind: str = "mask",
    unsure_below: float = 0.0,
    tta: TTA = TTA(),
    device: str = "auto",
    precision: Precision = "32",
    engine: str = "torch",
    trust: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Segment one image from one file object into another; nothing is written on an error.

    Args:
        run_or_model: Run folder, weights file, exported file or model.
        source: Holds an image file.
        target: Gets the file of the one output.
        kind: Of mask, overlay, confidence, probs, rle and geojson.
        unsure_below: As for `predict`, like all that follows.

    Raises:
        ConfigError: An option cannot be used.
        DataError: The image cannot be used.
        WeightsError: The weights cannot be used.
    """
    JobOptions((kind,), unsure_below=unsure_below, max_pixels=max_pixels)
    if kind not in FILES:
        raise ConfigError(f"'{kind}' is no file of one image. Choose from: {', '.join(FILES)}.")
    image = read_image(BytesIO(source.read()), name="stdin", max_pixels=max_pixels)
    runner = open_engine(
        run_or_model, engine, tta=tta, device=device, precision=precision, trust=trust
    )
    prediction = compute_prediction(
        runner,
        image,
        confidence=kind == "confidence",
        probs=kind == "probs",
        unsure_below=unsure_below,
    )
    if kind == "overlay" and (text := describe_undrawable(runner.classes.names)):
        warnings.warn(text, AtrousWarning, stacklevel=2)
    whole = BytesIO()
    FILES[kind][1](whole, SegmentedImage("stdin", image, prediction), runner.classes)
    target.write(whole.getvalue())
    target.flush()


def _note_undrawable(classes: Classes, out: Path) -> None:
    """Where overlays cannot have all class names, say so and list them beside the overlays."""
    if text := describe_undrawable(classes.names):
        rows = (
            f"{index}: {name}, #{bytes(color).hex()}\n"
            for index, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True))
        )
        content = "".join(rows).encode(errors="backslashreplace")
        write_atomically(out / LEGEND, lambda file: file.write(content))
        warnings.warn(f"{text} {out / LEGEND} lists them all.", AtrousWarning, stacklevel=3)


def _open_manifest(out: Path, *, resume: bool) -> Manifest:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return Manifest(out, resume=resume)
    except OSError as error:
        raise ConfigError(
            f"Cannot write to the output folder {out}: {error.strerror or error}. Choose a folder "
            "that you may write to."
        ) from error


def _save_shares(job: PredictionJob, sources: Sequence[Source]) -> None:
    rows = []
    for source in sources:
        record = job.manifest.records.get(job.options.name_stem(source))
        if isinstance(source, ImageSource) and record is not None:
            rows.append([source.source, record.height, record.width, *record.shares])
    if rows:
        first = ("image", "height", "width")
        write_shares(job.out / "shares.csv", first, rows, job.engine.classes)
