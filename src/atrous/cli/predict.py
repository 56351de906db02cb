"""`atrous predict`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from atrous.cli.console import Console
from atrous.cli.options import (
    Device,
    EngineName,
    Flip,
    Precision,
    Samples,
    Scales,
    Trust,
    parse_tta,
)
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.prediction import PredictionReport


def run_predict(
    run: Annotated[Path, typer.Argument(help="Run folder, or a weights file.")],
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Images, videos, zip or tar archives, folders, quoted patterns such as "
            "'photos/**/*.jpg', or - for standard input."
        ),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Output folder; for - alone, standard output by default.")
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated output kinds: mask, overlay, confidence, probs, rle, geojson, "
            "shares; for annotation tools coco, cvat, labelme, yolo; by default mask,overlay."
        ),
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(help="Ignore (255) pixels whose likeliest class is less probable.")
    ] = 0.0,
    scales: Scales = "1",
    flip: Flip = False,
    window: Annotated[
        int | None,
        typer.Option(
            help="Side of the sliding window in pixels; 0 for no windows. By default, images of "
            "more than 2048×2048 pixels use windows of 1024."
        ),
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="Overlap of neighbouring windows, as a share of a window.")
    ] = 0.25,
    samples: Samples = 1,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Skip images whose outputs exist and are up to date."),
    ] = False,
    part: Annotated[
        str | None, typer.Option(help="Segment one part of the images only, such as 3/16.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Check and join the parts that --part has segmented.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Segment on a Ray cluster: HOST:PORT of its head node, auto, or local to start "
            "one on this machine."
        ),
    ] = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="Write an image per video frame instead of a video.")
    ] = False,
    full_names: Annotated[
        bool, typer.Option("--full-names", help="Keep folders and suffix: photos/a.jpg.png")
    ] = False,
    max_megapixels: Annotated[
        float, typer.Option(help="Skip larger images before they are decoded.")
    ] = 500,
    device: Device = "auto",
    precision: Precision = "32",
    engine: EngineName = "torch",
    trust: Trust = False,
) -> None:
    """Segment images and videos: NAME.png holds class indices, NAME_overlay.jpg the overlay.

    Exit code 0: all inputs are segmented; 1: some were skipped; 2: none could be used.
    """
    options: dict[str, Any] = {
        "min_confidence": min_confidence,
        "tta": parse_tta(scales, flip, window, samples, overlap),
        "max_pixels": round(max_megapixels * 1e6),
        "device": device,
        "precision": precision,
        "engine": engine,
        "trust": trust,
    }
    modes = {"resume": resume, "part": part, "merge": merge, "ray": ray, "frames": frames}
    if "-" in paths and out is None:
        if name := next((name for name, given in modes.items() if given), None):
            raise ConfigError(f"--{name} needs an output folder: add --out.")
        _pipe(run, paths, save or "mask", options)
        return
    if out is None:
        raise ConfigError("There is no output folder. Add --out and a folder.")
    options |= {**modes, "full_names": full_names}
    options["save"] = [kind.strip() for kind in (save or "mask,overlay").split(",")]
    _print_report(_predict(run, paths, out, options), out)


def _pipe(run: Path, paths: list[str], kind: str, options: dict[str, Any]) -> None:
    if paths != ["-"]:
        raise ConfigError("'-' with other images needs an output folder: add --out.")
    if sys.stdin.isatty():
        raise ConfigError(
            "'-' reads an image from a pipe: cat a.jpg | atrous predict RUN - > a.png"
        )
    if sys.stdout.isatty():
        raise ConfigError(
            "The prediction would be written to the terminal. Send it to a file with > a.png, or "
            "give a folder with --out."
        )
    from atrous.prediction import predict_stream

    predict_stream(run, sys.stdin.buffer, sys.stdout.buffer, kind=kind, **options)


def _predict(run: Path, paths: list[str], out: Path, options: dict[str, Any]) -> "PredictionReport":
    from atrous.prediction import predict

    columns = (
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[speed]}"),
    )
    errors = Console(stderr=True)
    try:
        with Progress(*columns, console=errors) as bar:
            task = bar.add_task("predicting", total=None, speed="", visible=False)

            def show(done: int, total: int | None) -> None:
                elapsed_s = bar.tasks[0].elapsed or 0.0
                speed = f"{done / elapsed_s:.1f}/s" if elapsed_s > 0 else ""
                bar.update(task, completed=done, total=total, speed=speed, visible=True)

            return predict(run, paths, out, **options, progress=show)
    except KeyboardInterrupt:
        errors.print(
            "Interrupted. Written files are complete; continue with the same command and --resume."
        )
        raise


def _print_report(report: "PredictionReport", out: Path) -> None:
    errors = Console(stderr=True)
    for source, message in report.failed:
        where = "" if source in message else f"{source}: "
        errors.print(f"[yellow]Skipped:[/] {escape(where + message)}")
    if report.nearly_black:
        from atrous.errors import shorten

        errors.print(
            f"[yellow]Nearly black:[/] {len(report.nearly_black)} of {report.num_frames} images "
            "use at most 16 of 256 levels, so their predictions may be meaningless: "
            f"{escape(shorten(report.nearly_black, 3))}. Give images with the same range of values "
            "as those of the training."
        )
    if report.failed and not (report.num_frames or report.resumed or report.kept):
        raise ConfigError(f"None of the inputs could be used; {out} holds no new prediction.")
    if report.merged_px:
        from atrous.prediction.regions import MIN_REGION_PX

        errors.print(
            f"Labels: {report.merged_px} pixels in regions of fewer than {MIN_REGION_PX} have the "
            "class of the largest region beside them."
        )
    resumed = f", {len(report.resumed)} resumed" if report.resumed else ""
    kept = f", {len(report.kept)} with labels kept" if report.kept else ""
    skipped = f", {len(report.failed)} skipped" if report.failed else ""
    images = "image" if report.num_frames == 1 else "images"
    Console().print(
        f"{report.num_frames} {images} segmented into {escape(str(out))}{resumed}{kept}{skipped}."
    )
    raise typer.Exit(1 if report.failed else 0)
