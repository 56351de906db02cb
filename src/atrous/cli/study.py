"""`atrous study`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from atrous.cli.console import Console
from atrous.cli.options import Device
from atrous.cli.output import build_table, write_json
from atrous.errors import ConfigError
from atrous.recipe import apply_overrides, flatten_values

if TYPE_CHECKING:
    from atrous.study import StudySummary


def run_study(
    name: Annotated[str, typer.Argument(help="Name of a study of the package, or a .toml file.")],
    *,
    data: Annotated[str, typer.Option(help="Dataset folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study; by default studies/NAME.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="Budget of each run: 20ep, 30000it or 55min.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds of each run.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Number of runs trained at the same time.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Override a recipe key: train.ema=0.99, for one run RUN:train.ema=0.99"
        ),
    ] = None,
    cost: Annotated[bool, typer.Option(help="Measure latency and memory.")] = True,
    num_images: Annotated[
        int, typer.Option(min=0, max=20, help="Number of best, of median and of worst images.")
    ] = 1,
    device: Device = "auto",
) -> None:
    """Train a table of recipes with equal budgets, and compare them.

    Each run is a normal run folder. When the command is repeated, finished runs are skipped and
    interrupted ones are resumed; a failed run does not stop the others. The results are written
    to study.json and study.html in the folder of the study.
    """
    from atrous.report.html import save_page
    from atrous.study import load_study, render_study_page, summarize
    from atrous.study import run_study as train_runs

    console = Console()
    study = load_study(name)
    out = out or Path("studies") / Path(name).stem
    common, by_run = _parse_overrides(overrides or [])
    options = {"data.root": data, "train.device": device, "train.duration": duration}
    common = {**{key: value for key, value in options.items() if value is not None}, **common}

    def listener(event: dict[str, Any]) -> None:
        console.print(escape(event["message"]))

    outcomes = train_runs(
        study,
        out,
        overrides=common,
        overrides_by_run=by_run,
        num_seeds=seeds,
        jobs=jobs,
        listener=listener,
    )
    summary = summarize(
        study, outcomes, cost=cost, num_images=num_images, device=device, listener=listener
    )
    write_json(summary.to_json(), out / "study.json")
    save_page(out / "study.html", render_study_page(summary))
    print_study(summary)
    console.print(f"page  {escape(str(out / 'study.html'))}")
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(1)


def print_study(summary: "StudySummary") -> None:
    """Print the table of a study."""
    console, study = Console(), summary.study
    headings = ["mIoU", "95 % interval", "difference", "boundary IoU", "parameters", "ms"]
    table = build_table("run", *headings, *["paper, %"] * bool(study.source))
    for row in summary.rows:
        cells = ["–"] * len(headings)
        if row.miou:
            cells[0] = f"{row.miou.value:.4f}"
        if row.miou and row.miou.low is not None:
            cells[1] = f"{row.miou.low:.3f} to {row.miou.high:.3f}"
        if row.difference:
            cells[2] = f"{row.difference.value:+.4f}" + (" *" if row.is_significant else "")
        if row.boundary_iou is not None:
            cells[3] = f"{row.boundary_iou:.4f}"
        if row.cost:
            cells[4] = f"{row.cost.num_parameters / 1e6:.1f} M"
            cells[5] = f"{row.cost.latency_ms:.0f}"
        if study.source:
            cells.append(f"{row.paper['miou']:.2f}" if "miou" in row.paper else "–")
        table.add_row(escape(row.name), *cells)
    console.print(f"\n[bold]{escape(study.title)}[/], {escape(summary.budget)}")
    console.print(table)
    console.print("difference: to the first run; * significant (Holm, 5 %)")
    if summary.cost:
        conditions = escape(summary.cost.describe_conditions())
        console.print(f"ms: one image at a time, {conditions}")
        if summary.cost.load_note:
            console.print(f"[yellow]Note:[/] {summary.cost.load_note}")
    if study.convention:
        _print_averages(console, summary)
    for row in summary.rows:
        if len(row.miou_by_seed) > 1:
            mious = ", ".join(f"{miou:.4f}" for miou in row.miou_by_seed)
            console.print(f"{escape(row.name)} by seed: {mious}")
        for error in row.errors:
            console.print(f"[red]{escape(row.name)}: {escape(error)}[/]")
    if study.source:
        console.print(f"Paper: {escape(study.source)}. {escape(study.departs)}.")


def _print_averages(console: Console, summary: "StudySummary") -> None:
    """Print precision, recall and F1 by the default and the source's convention, and published."""
    table = build_table("run", "average", "precision", "recall", "F1", "paper, %")
    table.columns[1].justify = "left"
    for row in summary.rows:
        for average in row.select_averages(summary.study.convention):
            published = [
                f"{row.paper[key]:.1f}" if key in row.paper else "–"
                for key in ("precision", "recall", "f1")
            ]
            is_source = average.key == summary.study.convention
            table.add_row(
                escape(row.name),
                average.key,
                *(f"{value:.4f}" for value in (average.precision, average.recall, average.f1)),
                " / ".join(published) if is_source else "",
            )
    console.print(table)


def _parse_overrides(texts: list[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the overrides of all runs, and those of single runs by name."""
    common: dict[str, Any] = {}
    by_run: dict[str, dict[str, Any]] = {}
    for text in texts:
        before, _, _ = text.partition("=")
        run, colon, _ = before.partition(":")
        values = apply_overrides({}, [text.removeprefix(f"{run}:") if colon else text])
        target = by_run.setdefault(run, {}) if colon else common
        target.update(flatten_values(values))
    if "train.seed" in common or any("train.seed" in values for values in by_run.values()):
        raise ConfigError("The seeds of a study are 0, 1, …: give their number with --seeds.")
    return common, by_run
