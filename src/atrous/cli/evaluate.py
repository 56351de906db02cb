"""`atrous evaluate`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from atrous.cli.output import write_json
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.engines import Views
    from atrous.evaluation import Convention, EvaluationReport
    from atrous.evaluation.boundary import BoundaryScores
    from atrous.evaluation.confidence import ConfidenceScores
    from atrous.evaluation.objects import ObjectScore


def run_evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder, or a weights file.")],
    *,
    data: Annotated[
        str | None, typer.Option(help="Folder of the data set; by default, the run's.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="By default, the run's; else val.")] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the scores here as well.")
    ] = None,
    output_stride: Annotated[
        int | None, typer.Option(help="Another than in training: 8, 16 or 32.")
    ] = None,
    scales: Annotated[str, typer.Option(help="Sizes to average over: 0.75,1,1.25")] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirror image.")] = False,
    window: Annotated[
        int | None, typer.Option(help="Slide a square window of this side, in pixels.")
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Average so many predictions with dropout on (Bayesian SegNet).")
    ] = 1,
    ignore_index: Annotated[int | None, typer.Option(help="Mask value of no class.")] = None,
    data_format: Annotated[str, typer.Option("--format", help="auto, voc or pairs.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        Literal["32", "bf16", "auto"], typer.Option(help="auto: bf16 where the device has it.")
    ] = "32",
    engine: Annotated[
        str, typer.Option(help="torch, an export such as openvino-int8, or auto: the fastest.")
    ] = "torch",
    conventions: Annotated[
        bool, typer.Option("--conventions", help="Also show what others would report.")
    ] = False,
    boundary: Annotated[
        bool, typer.Option("--boundary", help="Also score edges, and objects by size.")
    ] = False,
    temperature: Annotated[
        bool,
        typer.Option(
            "--fit-temperature", help="First calibrate on this split, into the weights file."
        ),
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that read pictures.")] = 1,
) -> None:
    """Score a model on a split: mIoU, accuracy, precision, recall and F1, for each class."""
    views = parse_views(scales, flip, window, samples)

    from atrous.evaluation import evaluate, fit_temperature

    options: dict[str, Any] = {
        "split": split,
        "format": data_format,
        "ignore_index": ignore_index,
        "views": views,
        "device": device,
        "precision": precision,
        "workers": workers,
    }
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        if temperature:
            fit_temperature(run, data, **options, progress=_track(progress, "calibrating"))
        report = evaluate(
            run,
            data,
            **options,
            engine=engine,
            output_stride=output_stride,
            boundary=boundary,
            progress=_track(progress, "evaluating"),
        )
    print_scores(report)
    print_confidence(report.confidence)
    if report.boundary is not None and report.objects is not None:
        print_boundary(report.boundary, report.objects)
    if conventions:
        print_conventions(report.compute_conventions())
    if json_path is not None:
        write_json(report.to_json(), json_path)


def _track(progress: Progress, what: str) -> Callable[[int, int], None]:
    task = progress.add_task(what, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)


def parse_views(
    scales: str, flip: bool, window: int | None, samples: int, overlap: float = 0.25
) -> "Views":
    """Read the options that say how to look at a picture."""
    from atrous.engines import Views

    try:
        factors = tuple(float(scale) for scale in scales.split(","))
    except ValueError:
        raise ConfigError(
            f"--scales takes numbers with commas between them, such as 0.75,1,1.25, not '{scales}'."
        ) from None
    return Views(scales=factors, flip=flip, window_px=window, overlap=overlap, samples=samples)


def print_scores(report: "EvaluationReport") -> None:
    """Print scores per class, then the means."""
    scores, console = report.scores, Console()
    table = _build_table("class", "IoU", "precision", "recall", "F1", "pixels")
    for row in scores.per_class:
        values = (row.iou, row.precision, row.recall, row.f1)
        table.add_row(escape(row.name), *map(_format_score, values), f"{row.pixels:,}")
    table.add_section()
    macro = (scores.miou, scores.precision_macro, scores.recall_macro, scores.f1_macro)
    table.add_row("[bold]mean (macro)[/]", *(f"[bold]{_format_score(value)}[/]" for value in macro))
    micro = (scores.precision_micro, scores.recall_micro, scores.f1_micro)
    table.add_row("all pixels (micro)", "", *map(_format_score, micro))
    console.print(table, highlight=False)
    console.print(
        f"[bold]mIoU {scores.miou:.4f}[/]  pixel accuracy {scores.pixel_accuracy:.4f}  "
        f"({report.num_images} pictures of '{report.split}', {report.model}, "
        f"{report.seconds:.0f} s)",
        highlight=False,
    )
    if scores.absent:
        console.print(
            f"Not in this split, so left out of the means: {escape(', '.join(scores.absent))}.",
            highlight=False,
        )


def print_confidence(confidence: "ConfidenceScores") -> None:
    """Print the calibration error, and what is left without the least sure pixels."""
    kept = next(row for row in confidence.risk_coverage if row.coverage == 0.9)
    Console().print(
        f"Calibration error {confidence.ece:.4f} at temperature {confidence.temperature:.3g}; "
        f"without the least sure tenth of the pixels mIoU {kept.miou:.4f}.",
        highlight=False,
    )


def print_boundary(boundary: "BoundaryScores", objects: "Sequence[ObjectScore]") -> None:
    """Print the scores of edges, and recall by object size."""
    console, table = Console(), _build_table("edges", "score")
    width = f"{boundary.dilation_ratio:.1%}"
    table.add_row(f"boundary IoU, {width} of the diagonal", _format_score(boundary.boundary_iou))
    tolerance = f"{boundary.bf_tolerance_ratio:.2%}"
    table.add_row(f"BF score, {tolerance} of the diagonal", _format_score(boundary.bf_score))
    for band in boundary.trimap:
        table.add_row(f"mIoU within {band.width_px:g} px of an edge", _format_score(band.miou))
    console.print("", table, highlight=False)
    table = _build_table("objects by area", "number", "recall", "found")
    for row in objects:
        scores = map(_format_score, (row.recall, row.found))
        table.add_row(row.area, f"{row.num_objects:,}", *scores)
    console.print("", table, highlight=False)
    console.print(
        "Objects are connected regions of a class: small below 32² px, large from 96² px; found "
        "means that at least half of one is.",
        highlight=False,
    )


def print_conventions(conventions: "Sequence[Convention]") -> None:
    """Print the same counts as others would report them."""
    table = _build_table("convention", "IoU", "precision", "recall", "F1")
    table.add_column("reported by")
    for row in conventions:
        scores = map(_format_score, (row.iou, row.precision, row.recall, row.f1))
        table.add_row(escape(row.rule), *scores, escape(row.reported_by))
    Console().print("", table, highlight=False)


def _build_table(first: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _format_score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
