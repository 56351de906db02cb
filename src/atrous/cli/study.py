"""`atrous study`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from atrous.cli.console import Console
from atrous.cli.output import write_json
from atrous.errors import ConfigError
from atrous.recipe import apply_overrides, flatten_values

if TYPE_CHECKING:
    from atrous.study import StudySummary


def run_study(
    name: Annotated[str, typer.Argument(help="A study that comes with atrous, or a .toml file.")],
    *,
    data: Annotated[str, typer.Option(help="Folder of the data set.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study; by default studies/NAME.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="Budget of each run: 20ep, 30000it or 55min.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Train each run with this many seeds.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Runs trained at the same time.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A recipe key of all runs, train.ema=0.99, or of one, RUN:train.ema=0.99."
        ),
    ] = None,
    cost: Annotated[bool, typer.Option(help="Measure latency and memory as well.")] = True,
    pictures: Annotated[
        int,
        typer.Option(min=0, max=20, help="Best, median and worst pictures on the page."),
    ] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Train a table of recipes under equal budgets, and compare what they give.

    Each run is a normal run folder. Started again, finished runs are skipped and interrupted ones
    go on; a run that fails does not stop the rest. The table is written to study.json and
    study.html in the study's folder.
    """
    from atrous.report.page import save_page
    from atrous.study import load_study, summarize
    from atrous.study import run_study as train_all
    from atrous.study.page import render_study

    console = Console()
    study = load_study(name)
    out = out or Path("studies") / Path(name).stem
    common, by_run = _parse_overrides(overrides or [])
    asked = {"data.root": data, "train.device": device, "train.duration": duration}
    common = {**{key: value for key, value in asked.items() if value is not None}, **common}

    def tell(line: str) -> None:
        console.print(escape(line), highlight=False)

    outcomes = train_all(
        study, out, overrides=common, overrides_by_run=by_run, num_seeds=seeds, jobs=jobs, tell=tell
    )
    summary = summarize(study, outcomes, cost=cost, pictures=pictures, device=device, tell=tell)
    write_json(summary.to_json(), out / "study.json")
    save_page(out / "study.html", render_study(summary))
    print_study(summary)
    tell(f"page  {out / 'study.html'}")
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(1)


def print_study(summary: "StudySummary") -> None:
    """Print the table of a study."""
    console, study = Console(), summary.study
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run")
    headings = ["mIoU", "95 % interval", "against the first", "boundary IoU", "parameters", "ms"]
    for heading in headings + ["paper, %"] * bool(study.source):
        table.add_column(heading, justify="right")
    for row in summary.rows:
        cells = ["–"] * len(headings)
        if row.miou:
            cells[0] = f"{row.miou.value:.4f}"
        if row.miou and row.miou.low is not None:
            cells[1] = f"{row.miou.low:.3f} to {row.miou.high:.3f}"
        if row.difference:
            cells[2] = f"{row.difference.value:+.4f}" + (" *" if row.is_clear else "")
        if row.boundary_iou is not None:
            cells[3] = f"{row.boundary_iou:.4f}"
        if row.cost:
            cells[4] = f"{row.cost.num_parameters / 1e6:.1f} M"
            cells[5] = f"{row.cost.latency_ms:.0f}"
        if study.source:
            cells.append(f"{row.paper['miou']:.2f}" if "miou" in row.paper else "–")
        table.add_row(escape(row.name), *cells)
    console.print(f"\n[bold]{escape(study.title)}[/], {escape(summary.budget)}", highlight=False)
    console.print(table, highlight=False)
    console.print("* clear on these pictures, with all rows in mind", highlight=False)
    if summary.cost:
        conditions = escape(summary.cost.describe_conditions())
        console.print(f"ms: of one picture at a time, {conditions}", highlight=False)
    if study.convention:
        _print_averages(console, summary)
    for row in summary.rows:
        if len(row.miou_by_seed) > 1:
            mious = ", ".join(f"{miou:.4f}" for miou in row.miou_by_seed)
            console.print(f"{escape(row.name)} by seed: {mious}", highlight=False)
        for error in row.errors:
            console.print(f"[red]{escape(row.name)}: {escape(error)}[/]", highlight=False)
    if study.source:
        console.print(f"Paper: {escape(study.source)}. {escape(study.departs)}.", highlight=False)


def _print_averages(console: Console, summary: "StudySummary") -> None:
    """Print precision, recall and F1 as the source averages them and as we do, and its own."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("run", "average"):
        table.add_column(heading)
    for heading in ("precision", "recall", "F1", "paper, %"):
        table.add_column(heading, justify="right")
    for row in summary.rows:
        for average in row.select_averages(summary.study.convention):
            theirs = [
                f"{row.paper[key]:.1f}" if key in row.paper else "–"
                for key in ("precision", "recall", "f1")
            ]
            asked = average.key == summary.study.convention
            table.add_row(
                escape(row.name),
                average.key,
                *(f"{value:.4f}" for value in (average.precision, average.recall, average.f1)),
                " / ".join(theirs) if asked else "",
            )
    console.print(table, highlight=False)


def _parse_overrides(texts: list[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return `section.key` and values for all runs, and for single ones by name."""
    common: dict[str, Any] = {}
    by_run: dict[str, dict[str, Any]] = {}
    for text in texts:
        before, _, _ = text.partition("=")
        run, colon, _ = before.partition(":")
        values = apply_overrides({}, [text.removeprefix(f"{run}:") if colon else text])
        target = by_run.setdefault(run, {}) if colon else common
        target.update(flatten_values(values))
    if "train.seed" in common or any("train.seed" in values for values in by_run.values()):
        raise ConfigError("Seeds of a study are 0, 1, … : give their number with --seeds.")
    return common, by_run
