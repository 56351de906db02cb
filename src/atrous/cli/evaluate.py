"""`atrous evaluate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from atrous.errors import ConfigError
from atrous.files import write_atomically

if TYPE_CHECKING:
    from atrous.evaluation.evaluate import EvaluationReport
    from atrous.inference import Views


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
    ignore_index: Annotated[int | None, typer.Option(help="Mask value of no class.")] = None,
    data_format: Annotated[str, typer.Option("--format", help="auto, voc or pairs.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        Literal["32", "bf16", "auto"], typer.Option(help="auto: bf16 where the device has it.")
    ] = "32",
    workers: Annotated[int, typer.Option(help="Processes that read pictures.")] = 1,
) -> None:
    """Score a model on a split: mIoU, accuracy, precision, recall and F1, for each class."""
    views = parse_views(scales, flip, window)

    from atrous.evaluation import evaluate

    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("evaluating", total=None)
        report = evaluate(
            run,
            data,
            split=split,
            format=data_format,
            ignore_index=ignore_index,
            views=views,
            output_stride=output_stride,
            device=device,
            precision=precision,
            workers=workers,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    print_scores(report)
    if json_path is not None:
        text = json.dumps(report.to_json(), indent=2) + "\n"
        try:
            json_path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(json_path, lambda file: file.write(text.encode()))
        except OSError as error:
            raise ConfigError(f"The scores cannot be written to {json_path}: {error}.") from None


def parse_views(scales: str, flip: bool, window: int | None) -> "Views":
    """Read the options that say how to look at a picture."""
    from atrous.inference import Views

    try:
        factors = tuple(float(scale) for scale in scales.split(","))
    except ValueError:
        raise ConfigError(
            f"--scales takes numbers with commas between them, such as 0.75,1,1.25, not '{scales}'."
        ) from None
    return Views(scales=factors, flip=flip, window_px=window)


def print_scores(report: "EvaluationReport") -> None:
    """Print scores per class, then the means."""
    scores, console = report.scores, Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for heading in ("IoU", "precision", "recall", "F1", "pixels"):
        table.add_column(heading, justify="right")
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


def _format_score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
