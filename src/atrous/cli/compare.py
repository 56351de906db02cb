"""`atrous compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atrous.cli.console import Console
from atrous.cli.output import build_table, write_json
from atrous.parsing import escape_controls

if TYPE_CHECKING:
    from atrous.evaluation import RunComparison
    from atrous.evaluation.comparison import RunDifference, RunScores


def run_compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Evaluated run folders; all are compared with the first.")
    ],
    *,
    split: Annotated[
        str | None,
        typer.Option(help="Split; by default, the first run's validation split, else val."),
    ] = None,
    resamples: Annotated[int, typer.Option(help="Number of bootstrap resamples.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Bootstrap seed.")] = 0,
    cost: Annotated[
        bool, typer.Option("--cost/--no-cost", help="Measure latency and memory on this machine.")
    ] = True,
    size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Side of the image for the cost; by default, the most common size."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Device for the cost and the images.")] = "auto",
    num_images: Annotated[
        int,
        typer.Option(
            min=0, max=20, help="Number of images on the page: those with the largest differences."
        ),
    ] = 3,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this JSON file.")
    ] = None,
    html_path: Annotated[
        Path | None, typer.Option("--html", help="Write the comparison to this HTML file.")
    ] = None,
) -> None:
    """Compare runs on the same images: differences with 95 % intervals, and cost.

    Intervals are computed by a paired bootstrap over the images.
    """
    from atrous.evaluation import compare

    with Console(stderr=True).status("reading") as status:
        comparison = compare(
            runs,
            split=split,
            num_resamples=resamples,
            seed=seed,
            cost=cost,
            size_hw=None if size is None else (size, size),
            device=device,
            listener=lambda event: status.update(escape(escape_controls(event["message"]))),
        )
    print_comparison(comparison)
    if json_path is not None:
        write_json(comparison.to_json(), json_path)
    if html_path is not None:
        from atrous.report.comparison_page import save_comparison_page

        save_comparison_page(comparison, html_path, num_images=num_images, device=device)


def print_comparison(comparison: "RunComparison") -> None:
    """Print scores and cost of the runs, and their differences to the first."""
    console = Console()
    console.print(_build_scores_table(comparison))
    console.print(
        f"Macro means over the classes in the masks of {comparison.num_images} images of "
        f"'{escape(comparison.split)}'."
    )
    if comparison.cost:
        console.print("", _build_cost_table(comparison))
        conditions = escape(comparison.cost.describe_conditions())
        console.print(
            f"One image at a time, {conditions}; latency is the median ± half the interquartile "
            "range."
        )
        if comparison.cost.load_note:
            console.print(f"[yellow]Note:[/] {comparison.cost.load_note}")
    console.print("", _build_differences_table(comparison))
    for difference in comparison.differences:
        console.print(f"[bold]{escape(difference.sentence)}[/]")
        if difference.recipe_changes:
            changes = escape("; ".join(difference.recipe_changes))
            console.print(f"The recipes differ in {changes}.")
    for run, difference in zip(comparison.runs[1:], comparison.differences, strict=True):
        if any(iou is not None and iou.value for iou in difference.iou):
            console.print("", _build_classes_table(comparison, run, difference))
    console.print("")
    for note in comparison.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}")
    console.print(
        "Intervals cover image sampling, not training randomness (docs/compare.md). ▲ ▼ mark "
        "significant differences of classes (Holm, 5 %)."
    )


def _build_scores_table(comparison: "RunComparison") -> Table:
    table = build_table("run", "precision", "recall", "F1", "mIoU", "95 % interval")
    for run in comparison.runs:
        means = (run.precision_macro, run.recall_macro, run.f1_macro)
        table.add_row(
            escape(run.name),
            *(f"{value:.4f}" for value in means),
            f"[bold]{run.miou.format_value()}[/]",
            run.miou.format_interval(),
        )
    return table


def _build_cost_table(comparison: "RunComparison") -> Table:
    table = build_table("run", "model", "stride", "params", "GFLOPs", "latency", "memory")
    table.columns[1].justify = "left"
    table.columns[1].overflow = "fold"
    for run in comparison.runs:
        cost = run.cost
        if cost is None:
            continue
        low, high = cost.latency_range_ms
        table.add_row(
            escape(run.name),
            run.model,
            str(run.output_stride or "–"),
            f"{cost.num_parameters / 1e6:.2f} M",
            f"{cost.gflops:.1f}",
            f"{cost.latency_ms:.3g} ±{(high - low) / 2:.2g} ms",
            "–" if cost.memory_mb is None else f"{cost.memory_mb:.0f} MB",
        )
    return table


def _build_differences_table(comparison: "RunComparison") -> Table:
    against = escape(comparison.runs[0].name)
    table = build_table(f"compared with {against}", "mIoU", "95 % interval", "P(> 0)")
    for difference in comparison.differences:
        miou = difference.miou
        table.add_row(
            escape(difference.name),
            f"[bold]{miou.format_value()}[/]",
            miou.format_interval(),
            miou.format_probability(),
        )
    return table


def _build_classes_table(
    comparison: "RunComparison", run: "RunScores", difference: "RunDifference"
) -> Table:
    first = comparison.runs[0]
    names = escape(first.name), escape(run.name)
    table = build_table("IoU by class", "images", *names, "difference", "95 % interval", "")
    rows = zip(
        comparison.class_names, comparison.class_images, first.iou, run.iou,
        difference.iou, difference.iou_is_significant, strict=True,
    )  # fmt: skip
    for name, num_images, ours, theirs, iou, is_significant in rows:
        if ours is None or theirs is None or iou is None:
            table.add_row(escape(name), "0", *["–"] * 4)
            continue
        mark = "[green]▲[/]" if iou.value > 0 else "[red]▼[/]"
        table.add_row(
            escape(name),
            str(num_images),
            ours.format_value(),
            theirs.format_value(),
            iou.format_value(),
            iou.format_interval(),
            mark if is_significant else "",
        )
    return table
