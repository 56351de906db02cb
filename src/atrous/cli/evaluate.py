"""`atrous evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from atrous.cli.console import Console
from atrous.cli.options import (
    Data,
    DataFormat,
    Device,
    EngineName,
    Flip,
    IgnoreIndex,
    Precision,
    Samples,
    Scales,
    Trust,
    Workers,
    parse_tta,
)
from atrous.cli.output import build_table, show_progress, write_json

if TYPE_CHECKING:
    from atrous.evaluation import Convention, EvaluationReport
    from atrous.evaluation.boundary import BoundaryScores
    from atrous.evaluation.objects import ObjectScore


def run_evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder or weights file.")],
    *,
    data: Data = None,
    split: Annotated[
        str | None, typer.Option(help="Split; by default, the run's validation split, else val.")
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Also write the scores to this file.")
    ] = None,
    output_stride: Annotated[
        int | None, typer.Option(help="Output stride, if not that of training: 8, 16 or 32.")
    ] = None,
    scales: Scales = "1",
    flip: Flip = False,
    window: Annotated[
        int | None, typer.Option(help="Side of a square sliding window, in pixels.")
    ] = None,
    samples: Samples = 1,
    ignore_index: IgnoreIndex = None,
    data_format: DataFormat = "auto",
    device: Device = "auto",
    precision: Precision = "32",
    engine: EngineName = "torch",
    trust: Trust = False,
    conventions: Annotated[
        bool, typer.Option("--conventions", help="Also show scores by other conventions.")
    ] = False,
    boundary: Annotated[
        bool, typer.Option("--boundary", help="Also score edges, and objects by size.")
    ] = False,
    zero_untrained_taps: Annotated[
        bool,
        typer.Option(
            "--zero-untrained-taps", help="Zero the weights that training crops never reached."
        ),
    ] = False,
    workers: Workers = None,
) -> None:
    """Score a model on a split: mIoU, accuracy, precision, recall and F1 of each class."""
    tta = parse_tta(scales, flip, window, samples)

    from atrous.evaluation import evaluate

    with show_progress("evaluating") as progress:
        report = evaluate(
            run,
            data,
            split=split,
            format=data_format,
            ignore_index=ignore_index,
            tta=tta,
            trust=trust,
            output_stride=output_stride,
            device=device,
            precision=precision,
            engine=engine,
            workers="auto" if workers is None else workers,
            boundary=boundary,
            zero_untrained_taps=zero_untrained_taps,
            progress=progress,
        )
    print_scores(report)
    print_confidence(report)
    if report.boundary is not None and report.objects is not None:
        print_boundary(report.boundary, report.objects)
    if conventions:
        print_conventions(report.compute_conventions())
    if json_path is not None:
        write_json(report.to_json(), json_path)


def print_scores(report: "EvaluationReport") -> None:
    """Print the scores of each class, then the means."""
    scores, console = report.scores, Console()
    table = build_table("class", "IoU", "precision", "recall", "F1", "pixels")
    for row in scores.per_class:
        values = (row.iou, row.precision, row.recall, row.f1)
        table.add_row(escape(row.name), *map(_format_score, values), f"{row.pixels:,}")
    table.add_section()
    macro = (scores.miou, scores.precision_macro, scores.recall_macro, scores.f1_macro)
    table.add_row("[bold]mean (macro)[/]", *(f"[bold]{_format_score(value)}[/]" for value in macro))
    micro = (scores.precision_micro, scores.recall_micro, scores.f1_micro)
    table.add_row("all pixels (micro)", "", *map(_format_score, micro))
    console.print(table)
    console.print(
        f"[bold]mIoU {scores.miou:.4f}[/]  pixel accuracy {scores.pixel_accuracy:.4f}  "
        f"({report.num_images} images of '{escape(report.split)}', {report.model}, "
        f"{report.seconds:.0f} s)"
    )
    if scores.absent:
        console.print(
            f"Classes in no mask, left out of the means: {escape(', '.join(scores.absent))}."
        )


def print_confidence(report: "EvaluationReport") -> None:
    """Print the calibration error, and the mIoU without the least confident pixels."""
    confidence, console = report.confidence, Console()
    kept = next(row for row in confidence.risk_coverage if row.coverage == 0.9)
    console.print(
        f"Calibration error {confidence.ece:.4f} at temperature {confidence.temperature:.3g}; "
        f"mIoU {kept.miou:.4f} without the 10 % least confident pixels."
    )
    if report.is_calibration_split:
        console.print(
            "[yellow]Note:[/] the temperature was fitted on this split, so its calibration error "
            "is too low."
        )


def print_boundary(boundary: "BoundaryScores", objects: "Sequence[ObjectScore]") -> None:
    """Print the scores of edges, and recall by object size."""
    console, table = Console(), build_table("edges", "score")
    width = f"{boundary.dilation_ratio:.1%}"
    table.add_row(f"boundary IoU, {width} of the diagonal", _format_score(boundary.boundary_iou))
    tolerance = f"{boundary.bf_tolerance_ratio:.2%}"
    table.add_row(f"BF score, {tolerance} of the diagonal", _format_score(boundary.bf_score))
    for band in boundary.trimap:
        table.add_row(f"mIoU within {band.width_px:g} px of an edge", _format_score(band.miou))
    console.print("", table)
    table = build_table("objects by area", "number", "recall", "found")
    for row in objects:
        scores = map(_format_score, (row.recall, row.found))
        table.add_row(row.area, f"{row.num_objects:,}", *scores)
    console.print("", table)
    console.print(
        "Objects are connected regions of a class: small below 32² px, large from 96² px. An "
        "object is found if at least half of its pixels are predicted as its class."
    )


def print_conventions(conventions: "Sequence[Convention]") -> None:
    """Print the same counts scored under other averaging conventions."""
    table = build_table("convention", "IoU", "precision", "recall", "F1")
    table.add_column("reported by")
    for row in conventions:
        scores = map(_format_score, (row.iou, row.precision, row.recall, row.f1))
        table.add_row(escape(row.rule), *scores, escape(row.reported_by))
    Console().print("", table)


def _format_score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
