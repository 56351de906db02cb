"""`atrous check`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.padding import Padding

from atrous.cli.check_labels import rank_by_folds, rank_by_model
from atrous.cli.console import Console
from atrous.cli.options import (
    Crop,
    Device,
    IgnoreIndex,
    OwnFormat,
    RecipeFile,
    TrainSplit,
    ValSplit,
    choose_recipe,
)
from atrous.cli.output import STDOUT, build_table, show_progress, write_json
from atrous.cli.train import suggest_training
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.doctor import CheckReport, Finding, RepairReport

_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold blue"}
_MAX_FILES = 5
_MAX_CLASSES = 30
_MAX_TABLES = 4
_UNUSED = {
    "": {"--split", "--csv", "--for", "--out"},
    "--folds": {"--train-split", "--val-split", "--names", "--fix", "--workers"},
}
_UNUSED["--model"] = _UNUSED["--folds"] | {"--folds", "--recipe", "--crop", "--for", "--out"}
"""Options without an effect, by the option that ranks labels."""


def run_check(
    data: Annotated[str | None, typer.Argument(help="Dataset folder, or URL of shards.")] = None,
    *,
    recipe: RecipeFile = None,
    data_format: OwnFormat = None,
    ignore_index: IgnoreIndex = None,
    crop: Crop = None,
    train_split: TrainSplit = None,
    val_split: ValSplit = None,
    names: Annotated[
        Path | None,
        typer.Option(
            help="What the values or colours of the masks mean: class_dict.csv, labelmap.txt, "
            "_classes.csv or classes.toml."
        ),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the findings as JSON here; - prints them.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with examples of each finding here.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(help="Write a corrected copy to this new folder.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes; by default one per core.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Rank the labels by this run, which must not have seen them."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Rank the labels by this number of models, each trained on other images."
        ),
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="With --folds: duration of each training: 10min.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --folds: folder of the trainings, to resume them.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split to rank; by default the run's val, with --folds train."),
    ] = None,
    csv_path: Annotated[
        Path | None, typer.Option("--csv", help="Write the ranked regions here.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Read a whole dataset and report what is wrong with it, why it matters and what to do.

    With --model or --folds, rank the label regions of a split by how likely they are wrong instead.

    Splits, crop, ignore index and classes are those that `atrous train` would use with the same
    options. The exit code is 0 without errors and warnings, 1 with, 2 if the dataset cannot be used
    at all.
    """
    _check_options(
        "--model" if model else "--folds" if folds is not None else "",
        {
            "--folds": folds, "--recipe": recipe, "--crop": crop, "--train-split": train_split,
            "--val-split": val_split, "--names": names, "--fix": fix, "--workers": workers,
            "--split": split, "--csv": csv_path, "--for": duration, "--out": out,
        },
    )  # fmt: skip
    paths = html, json_path, csv_path
    if model is not None:
        labels = {"split": split, "format": data_format or "auto", "ignore_index": ignore_index}
        rank_by_model(model, data, {**labels, "device": device}, paths)
        return
    options = {
        "data.root": data,
        "data.format": data_format,
        "data.ignore_index": ignore_index,
        "data.crop": crop,
        "data.train_split": train_split or split,
        "data.val_split": val_split,
    }
    if folds is not None:
        options |= {"train.duration": duration, "train.device": device}
        rank_by_folds(choose_recipe(recipe, options, suggest=suggest_training), folds, out, paths)
        return
    from atrous.doctor import check_dataset, repair_dataset
    from atrous.doctor.repair import check_place

    settings = choose_recipe(recipe, options, suggest=_suggest).data
    if fix is not None:
        check_place(settings.root, fix)
    with show_progress("checking") as progress:
        report = check_dataset(settings, names=names, workers=workers, progress=progress)
    _write_report(report, html, json_path)
    if fix is not None:
        with show_progress("copying") as progress:
            repaired = repair_dataset(report, fix, progress)
        _print_repair(repaired, Console(stderr=json_path == STDOUT))
    raise typer.Exit(report.exit_code)


def _check_options(mode: str, given: dict[str, object]) -> None:
    """Raise ConfigError if an option is given that the kind of check does not use."""
    unused = [name for name, value in given.items() if value is not None and name in _UNUSED[mode]]
    if "--folds" in unused:
        raise ConfigError("Labels are ranked by --model RUN or by --folds 5: give one of them.")
    if unused and mode:
        raise ConfigError(
            f"{mode} ranks labels, which {', '.join(unused)} would not change. Leave it out, or "
            f"check the files without {mode}."
        )
    if unused:
        raise ConfigError(
            f"{', '.join(unused)}: used only with --model RUN or --folds 5, which rank labels."
        )


def _write_report(report: "CheckReport", html: Path | None, json_path: Path | None) -> None:
    if json_path != STDOUT:
        print_report(report)
    if json_path is not None:
        write_json(report.to_json(), json_path)
    if html is not None:
        from atrous.report.check_page import render_check_page
        from atrous.report.html import save_page

        save_page(html, render_check_page(report))


def _suggest(given: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a run without --recipe that concern the data."""
    from atrous.data.sizes import suggest_sizes

    split, layout = given.get("data.train_split", "train"), given.get("data.format", "auto")
    return {"data": suggest_sizes(given["data.root"], split, format=layout)}


def print_report(report: "CheckReport") -> None:
    """Print the findings, errors first, then the class frequencies of the training splits."""
    from atrous.errors import shorten

    console = Console()
    splits = shorten([f"{name} {count.num_images}" for name, count in report.splits.items()])
    kinds = {image.bands.kind for _, image in report.survey.images if image.bands}
    bands = f", images of {kinds.pop()}" if len(kinds) == 1 else ""
    console.print(
        f"{escape(str(report.survey.root))}: {report.num_pairs} pairs ({escape(splits)}), "
        f"{report.survey.layout} layout, {len(report.survey.learned)} classes{bands}, "
        f"{report.seconds:.0f} s"
    )
    if selection := report.survey.describe_selection():
        console.print(escape(selection))
    for finding in report.findings:
        _print_finding(finding, console)
    _print_classes(report, console)
    console.print(f"\n[bold]{report.describe_verdict()}[/]")


def _print_finding(finding: "Finding", console: Console) -> None:
    style, kind = _STYLES[finding.level], finding.kind
    console.print(f"\n[{style}]{finding.level}[/]  [bold]{kind.title}[/]  ({finding.code})")
    lines = [escape(finding.summary)]
    for file in finding.files[:_MAX_FILES]:
        detail = f"  {file.detail}" if file.detail else ""
        lines.append(f"[dim]·[/] {escape(file.path + detail)}")
    if finding.num_files > _MAX_FILES:
        lines.append(f"[dim]· and {finding.num_files - _MAX_FILES:,} more[/]")
    lines.append(f"[dim]Why:[/] {kind.why}")
    repaired = f" `--fix DIR` {kind.repaired}." if kind.repaired else ""
    lines.append(f"[dim]Fix:[/] {kind.fix}{repaired}")
    console.print(Padding("\n".join(lines), (0, 0, 0, 2)))


def _print_classes(report: "CheckReport", console: Console) -> None:
    splits = report.survey.train_splits or list(report.splits)
    for split in splits[:_MAX_TABLES]:
        count = report.splits[split]
        headings = ("\nimages", "\npixels", "\nshare", "weight\ninverse", "median\nfreq.")
        table = build_table(f"\nclass in {escape(split)}", *headings)
        for entry in count.classes[:_MAX_CLASSES]:
            table.add_row(
                escape(f"{entry.index} {entry.name}"),
                f"{entry.num_images:,}",
                f"{entry.pixels:,}",
                f"{100 * entry.share:.2f} %",
                f"{entry.weight_inverse:.3g}",
                f"{entry.weight_median_frequency:.3g}",
            )
        console.print()
        console.print(table)
        num_more = len(count.classes) - _MAX_CLASSES
        more = f"{num_more} further classes are in --json and --html. " if num_more > 0 else ""
        ratio = "" if count.imbalance is None else f", imbalance {count.imbalance:,.0f} : 1"
        console.print(f"{more}Ignored {100 * count.ignored_share:.1f} %{ratio}")
    if len(splits) > _MAX_TABLES:
        console.print(f"\n{len(splits) - _MAX_TABLES:,} further splits are in --json.")


def _print_repair(repaired: "RepairReport", console: Console) -> None:
    console.print(
        f"\nCorrected copy in {escape(str(repaired.folder))}: {repaired.num_written} pairs. "
        f"Masks rewritten: {repaired.num_converted}; images turned upright: "
        f"{repaired.num_turned}; pairs renamed: {repaired.num_renamed}; left out: "
        f"{len(repaired.left_out)}."
    )
    for path, reason in repaired.left_out[:_MAX_FILES]:
        console.print(f"  [dim]·[/] {escape(f'{path}: {reason}')}")
    if len(repaired.left_out) > _MAX_FILES:
        console.print(f"  [dim]· and {len(repaired.left_out) - _MAX_FILES:,} more[/]")
    if repaired.remaining:
        codes = ", ".join(repaired.remaining)
        console.print(f"Not repaired by --fix: {codes}.")
