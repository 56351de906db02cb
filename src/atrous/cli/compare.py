"""`atrous compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atrous.cli.console import Console
from atrous.cli.output import write_json
from atrous.parsing import escape_controls

if TYPE_CHECKING:
    from atrous.evaluation import Comparison
    from atrous.evaluation.comparison import RunDifference, RunScores


def run_compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, evaluated; all are held against the first.")
    ],
    *,
    split: Annotated[
        str | None, typer.Option(help="By default, the first run's; else val.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="How often the pictures are drawn anew.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of those draws.")] = 0,
    cost: Annotated[
        bool, typer.Option("--cost/--no-cost", help="Measure time and memory on this machine.")
    ] = True,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the picture for that; by default, the split's usual."),
    ] = None,
    device: Annotated[str, typer.Option(help="For that: auto, cpu, cuda or cuda:N.")] = "auto",
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write every number here.")
    ] = None,
    html_path: Annotated[
        Path | None, typer.Option("--html", help="Write a page here that opens offline.")
    ] = None,
) -> None:
    """Compare runs on the same pictures: what differs, what is noise, and what it costs.

    Every difference comes with its 95 % interval, by drawing the pictures anew with replacement.
    """
    from atrous.evaluation import compare

    errors = Console(stderr=True)
    with errors.status("reading") as status:
        comparison = compare(
            runs,
            split=split,
            num_resamples=resamples,
            seed=seed,
            cost=cost,
            size_hw=None if size is None else (size, size),
            device=device,
            tell=lambda text: status.update(escape(escape_controls(text))),
        )
    print_comparison(comparison)
    if json_path is not None:
        write_json(comparison.to_json(), json_path)
    if html_path is not None:
        from atrous.report.comparison_page import save_comparison_page

        save_comparison_page(comparison, html_path)


def print_comparison(comparison: "Comparison") -> None:
    """Print the runs, what they cost, and how they differ from the first, in all and by class."""
    console = Console()
    console.print(_build_scores_table(comparison), highlight=False)
    console.print(
        f"Macro means over the classes in the masks of {comparison.num_images} pictures of "
        f"'{escape(comparison.split)}'.",
        highlight=False,
    )
    if comparison.cost:
        console.print("", _build_cost_table(comparison), highlight=False)
        conditions = escape(comparison.cost.describe_conditions())
        console.print(
            f"One picture at a time, {conditions}; latency is the median ± half of what "
            "the middle half of the times spans.",
            highlight=False,
        )
    console.print("", _build_differences_table(comparison), highlight=False)
    for difference in comparison.differences:
        console.print(f"[bold]{escape(difference.sentence)}[/]", highlight=False)
        if difference.recipe_changes:
            changes = escape("; ".join(difference.recipe_changes))
            console.print(f"Their recipes differ in {changes}.", highlight=False)
    for run, difference in zip(comparison.runs[1:], comparison.differences, strict=True):
        if any(less is not None and less.value for less in difference.iou):
            console.print("", _build_classes_table(comparison, run, difference), highlight=False)
    console.print("", highlight=False)
    for note in comparison.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}", highlight=False)
    console.print(
        "Intervals tell the luck of which pictures were drawn, not that of one training; "
        "docs/compare.md says more. ▲ ▼ are clear with all classes in mind (Holm, 5 %).",
        highlight=False,
    )


def _build_scores_table(comparison: "Comparison") -> Table:
    table = _build_table("run", "precision", "recall", "F1", "mIoU", "95 % interval")
    for run in comparison.runs:
        means = (run.precision_macro, run.recall_macro, run.f1_macro)
        table.add_row(
            escape(run.name),
            *(f"{value:.4f}" for value in means),
            f"[bold]{run.miou.format_value()}[/]",
            run.miou.format_interval(),
        )
    return table


def _build_cost_table(comparison: "Comparison") -> Table:
    table = _build_table("run", "model", "stride", "params", "GFLOPs", "latency", "memory")
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


def _build_differences_table(comparison: "Comparison") -> Table:
    against = escape(comparison.runs[0].name)
    table = _build_table(f"less {against}", "mIoU", "95 % interval", "above 0")
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
    comparison: "Comparison", run: "RunScores", difference: "RunDifference"
) -> Table:
    first = comparison.runs[0]
    table = _build_table(
        "IoU by class",
        "pictures",
        escape(first.name),
        escape(run.name),
        "less",
        "95 % interval",
        "",
    )
    rows = zip(
        comparison.class_names, comparison.class_images, first.iou, run.iou,
        difference.iou, difference.clear, strict=True,
    )  # fmt: skip
    for name, num_images, ours, theirs, less, is_clear in rows:
        if ours is None or theirs is None or less is None:
            table.add_row(escape(name), "0", *["–"] * 4)
            continue
        mark = "" if not is_clear else "[green]▲[/]" if less.value > 0 else "[red]▼[/]"
        table.add_row(
            escape(name),
            str(num_images),
            ours.format_value(),
            theirs.format_value(),
            less.format_value(),
            less.format_interval(),
            mark,
        )
    return table


def _build_table(first: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=heading == "95 % interval")
    return table
