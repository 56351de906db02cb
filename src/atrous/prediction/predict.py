"""Segmentation of images and videos into files."""

import warnings
from collections.abc import Collection, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from atrous.classes import Classes
from atrous.devices import Precision
from atrous.engines import Engine
from atrous.engines.open_engine import open_engine
from atrous.engines.tta import TTA
from atrous.errors import AtrousWarning, ConfigError
from atrous.files import write_atomically
from atrous.fonts import describe_undrawable
from atrous.images import read_image
from atrous.images.image_file import MAX_PIXELS
from atrous.models import Segmenter
from atrous.prediction.cluster import check_options, join_cluster, run_parts
from atrous.prediction.job import PredictionJob, Progress
from atrous.prediction.job_options import JobOptions, check_names
from atrous.prediction.manifest import FinishedImage, Manifest, Part, compute_digest
from atrous.prediction.outputs import FILES, JOB_FILES, LABEL_KINDS, name_files
from atrous.prediction.prediction import SegmentedImage, compute_prediction
from atrous.prediction.sources import Source, find_sources
from atrous.prediction.video import import_av

LEGEND = "legend.txt"
"""Lists index, name and colour of each class if overlays cannot show all names."""

_NOT_SEGMENTED = "No part has segmented it with these weights and options. Run its part again."


@dataclass(frozen=True)
class PredictionReport:
    """Result of `predict`.

    Attributes:
        failed: Sources that cannot be used, and why.
        resumed: Sources that were up to date.
        kept: Sources whose labels exist, which an annotator may have corrected.
        nearly_black: Images that use at most 16 of 256 levels of the model's range.
        merged_px: Pixels of small regions that are labelled as a region beside them.
    """

    written: list[Path]
    failed: list[tuple[str, str]]
    resumed: list[str]
    kept: list[str]
    num_frames: int
    nearly_black: list[str]
    merged_px: int


def predict(
    run_or_model: Path | str | Segmenter,
    paths: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    save: Collection[str] = ("mask", "overlay"),
    min_confidence: float = 0.0,
    tta: TTA = TTA(),
    device: str = "auto",
    precision: Precision = "32",
    engine: str = "torch",
    trust: bool = False,
    resume: bool = False,
    part: str | None = None,
    merge: bool = False,
    ray: str | None = None,
    frames: bool = False,
    full_names: bool = False,
    max_pixels: int = MAX_PIXELS,
    ahead: int = 4,
    progress: Progress | None = None,
) -> PredictionReport:
    """Segment images and videos and write the outputs at their own size.

    Of `photos/a.jpg`, if `photos` is given, `a.png` holds class indices with the class colours as
    palette, and `a_overlay.jpg` is the tinted image with a legend below. docs/predict.md describes
    the other outputs. Sources that cannot be used are reported and skipped. Files are written
    atomically.

        from atrous import predict

        report = predict("runs/camvid", ["street.jpg", "holiday/"], "predictions")
        print(report.written, report.failed)

    Args:
        run_or_model: Run folder, weights file, exported file or model.
        paths: Images, videos, archives, folders (the images directly inside) or patterns such as
            `photos/**/*.jpg`.
        save: Output kinds: mask, overlay, confidence, probs, rle, geojson, coco, cvat, labelme,
            yolo, shares.
        min_confidence: Pixels whose likeliest class is less probable are ignored (255).
        tta, device, precision, engine, trust: As for `evaluate`; a model stays on its device.
        resume: Skip sources whose outputs exist, made from the same content in the same way.
        part: Segment this part of the sources only, such as `3/16`. Outputs of all images, such as
            `shares`, are left to `merge`.
        merge: Segment nothing: check that the parts have segmented all sources, and write the
            outputs of all images. Missing sources are reported as failed.
        ray: Segment on this Ray cluster: `HOST:PORT`, `auto` for the one of this machine, or
            `local` to start one on this machine. All nodes read and write the same files.
        frames: Write the frames of a video as images rather than as a video.
        full_names: Keep folders and suffix of the given path: `photos/a.jpg.png`.
        max_pixels: Images that state more pixels are skipped before they are decoded.
        ahead: Number of images read ahead and written behind; 0 for no threads.
        progress: `progress(done, total)` in images and frames; the total is None if unknown.

    Raises:
        ConfigError: There are no images, two outputs share a file, an image would be overwritten,
            or an option is invalid. Nothing is written.
        WeightsError: The weights cannot be used.
        AtrousError: A file cannot be written.
    """
    options = JobOptions(tuple(save), min_confidence, frames, full_names, max_pixels, ahead)
    chosen = _choose_part(part, merge=merge, ray=ray)
    given, out = [paths] if isinstance(paths, str | Path) else list(paths), Path(out)
    runner = open_engine(
        run_or_model, engine, tta=tta, device=device, precision=precision, trust=trust
    )
    sources = _find_sources(given, out, options, runner, chosen)
    if ray is not None:
        check_options(given, engine, precision)
    digest = compute_digest(runner, min_confidence, frames)
    with (
        nullcontext() if ray is None else join_cluster(ray),
        closing(Manifest(out, resume=resume, part=chosen, merge=merge)) as manifest,
    ):
        if ray is not None:
            manifest.join_parts(discard=not resume)
        job = PredictionJob(runner, out, options, manifest, digest, progress)
        resumed, kept, todo = _divide(sources, job, resume=resume or merge)
        if "overlay" in options.kinds:
            _save_legend(runner.classes, out)
        if ray is not None and todo:
            run_parts(
                partial(
                    predict, run_or_model, given, out, save=save, min_confidence=min_confidence,
                    tta=tta, device=device, precision=precision, engine=engine, trust=trust,
                    frames=frames, full_names=full_names, max_pixels=max_pixels, ahead=ahead,
                    resume=True,
                ),
                job, todo, use_gpus=device != "cpu" and engine == "torch",
            )  # fmt: skip
        elif merge:
            job.failed += [(source.source, _NOT_SEGMENTED) for source in todo]
        else:
            job.run(todo)
        for kind in options.kinds:
            if kind in JOB_FILES and chosen is None:
                _save_job_file(job, sources, kind)
        return _build_report(job, sources, todo, resumed, kept)


def _choose_part(part: str | None, *, merge: bool, ray: str | None) -> Part | None:
    if part is not None and merge:
        raise ConfigError("--merge follows all parts: leave out --part.")
    if ray is not None and (part is not None or merge):
        raise ConfigError("--ray segments and joins all parts: leave out --part and --merge.")
    return None if part is None else Part.parse(part)


def _find_sources(
    paths: Sequence[Path | str], out: Path, options: JobOptions, engine: Engine, part: Part | None
) -> list[Source]:
    """Return the sources of this part, once the outputs of all are known to be possible."""
    with_maps = LABEL_KINDS.isdisjoint(options.kinds)
    sources = find_sources(
        paths, full_names=options.full_names, bands=engine.card.bands, with_maps=with_maps
    )
    check_names(sources, out, options)
    if part is not None:
        sources = [source for source in sources if part.contains(source)]
    if any(source.is_video for source in sources):
        import_av()
    if options.min_confidence > 0 or not {"confidence", "probs"}.isdisjoint(options.kinds):
        engine.require_logits()
    _check_names_files(out, options, engine.classes)
    return sources


def _divide(
    sources: Sequence[Source], job: PredictionJob, *, resume: bool
) -> tuple[list[str], list[str], list[Source]]:
    """Return the sources that are finished, those whose labels are kept, and those to segment."""
    resumed, kept, todo = list[str](), list[str](), list[Source]()
    for source in sources:
        if resume and job.is_done(source):
            resumed.append(source.source)
        elif any((job.out / name).exists() for name in job.options.name_labels(source)):
            kept.append(source.source)  # an annotator may have corrected them
        else:
            todo.append(source)
    return resumed, kept, todo


def predict_stream(
    run_or_model: Path | str | Segmenter,
    source: BinaryIO,
    target: BinaryIO,
    *,
    kind: str = "mask",
    min_confidence: float = 0.0,
    tta: TTA = TTA(),
    device: str = "auto",
    precision: Precision = "32",
    engine: str = "torch",
    trust: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Segment one image from one file object into another; nothing is written on an error.

    `kind` is mask, overlay, confidence, probs, rle or geojson; the other arguments are those of
    `predict`.

    Raises:
        ConfigError: An option is invalid.
        DataError: The image cannot be used.
        WeightsError: The weights cannot be used.
    """
    JobOptions((kind,), min_confidence, max_pixels=max_pixels)
    known = [known for known in FILES if known not in LABEL_KINDS]
    if kind not in known:
        raise ConfigError(f"'{kind}' is no file of one image. Choose from: {', '.join(known)}.")
    runner = open_engine(
        run_or_model, engine, tta=tta, device=device, precision=precision, trust=trust
    )
    content, ranges = BytesIO(source.read()), runner.card.ranges
    image = read_image(content, name="stdin", max_pixels=max_pixels, bands=runner.card.bands)
    prediction = compute_prediction(
        runner,
        image,
        confidence=kind == "confidence",
        probs=kind == "probs",
        min_confidence=min_confidence,
    )
    if kind == "overlay" and (text := describe_undrawable(runner.classes.names)):
        warnings.warn(text, AtrousWarning, stacklevel=2)
    whole = BytesIO()
    FILES[kind][1](whole, SegmentedImage("stdin", image, prediction, ranges=ranges), runner.classes)
    target.write(whole.getvalue())
    target.flush()


def _build_report(
    job: PredictionJob, sources: list[Source], todo: list[Source], done: list[str], kept: list[str]
) -> PredictionReport:
    records, failed = job.manifest.records, {source for source, _ in job.failed}
    written = [
        job.out / name
        for source in todo
        if source.source not in failed
        for name in records[job.options.name_stem(source)].files
    ]
    stems = {job.options.name_stem(source) for source in sources}
    merged_px = sum(records[stem].merged_px for stem in stems & records.keys())
    return PredictionReport(
        written, job.failed, done, kept, job.num_frames, job.nearly_black, merged_px
    )


def _check_names_files(out: Path, options: JobOptions, classes: Classes) -> None:
    """Check that no list of classes would be overwritten, by which existing labels are read."""
    for kind in {"labelme", "yolo"}.intersection(options.kinds):
        name, write = JOB_FILES[kind]
        content = BytesIO()
        write(content, [], classes)
        if (out / name).is_file() and (out / name).read_bytes() != content.getvalue():
            raise ConfigError(
                f"{out / name} exists, and differs from the list of this model's classes that "
                f"--save {kind} writes there. Move it away, or choose another output folder."
            )


def _save_legend(classes: Classes, out: Path) -> None:
    """If no font can draw some class names, warn and list all classes beside the overlays."""
    if text := describe_undrawable(classes.names):
        rows = (
            f"{index}: {name}, #{bytes(color).hex()}\n"
            for index, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True))
        )
        content = "".join(rows).encode(errors="backslashreplace")
        write_atomically(out / LEGEND, lambda file: file.write(content))
        warnings.warn(f"{text} {out / LEGEND} lists them all.", AtrousWarning, stacklevel=3)


def _save_job_file(job: PredictionJob, sources: Sequence[Source], kind: str) -> None:
    """Write the file of an output kind for all images, those of earlier sessions included."""
    images = []
    for source in sources:
        record = job.manifest.records.get(job.options.name_stem(source))
        files = name_files(job.options.name_stem(source), [kind])
        if not source.is_video and record is not None and set(files) <= set(record.files):
            images.append(FinishedImage(source, record, [job.out / file for file in files]))
    if images:
        name, write = JOB_FILES[kind]
        write_atomically(job.out / name, lambda file: write(file, images, job.engine.classes))
