"""`atrous import`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from atrous.cli.console import Console
from atrous.cli.output import show_progress
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.formats import ImportReport

_split_option = partial(typer.Option, rich_help_panel="Splits")
_class_option = partial(typer.Option, rich_help_panel="Classes")


def run_import(
    source: Annotated[Path, typer.Argument(help="Folder or file that a labelling tool exported.")],
    out: Annotated[Path, typer.Argument(help="Folder to create.")],
    *,
    data_format: Annotated[
        str,
        typer.Option("--format", help="coco, labelme, folders, … (docs/data.md); auto finds out."),
    ] = "auto",
    copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of linking.")] = False,
    val: Annotated[
        float,
        _split_option(help="Share of images for validation, if the source has no such split."),
    ] = 0.2,
    test: Annotated[
        float, _split_option(help="Share of images for testing, if the source has no such split.")
    ] = 0.0,
    group: Annotated[
        str | None,
        _split_option(
            help="Regular expression: images with the same match in their names stay in one split. "
            "Near-duplicates do by default, and numbered series of similar images."
        ),
    ] = None,
    seed: Annotated[int, _split_option(help="Seed of the random split.")] = 0,
    classes: Annotated[
        str | None, _class_option(help="Classes to keep, in this order: a,b,c.")
    ] = None,
    other: Annotated[
        str | None,
        _class_option(
            help="Class that those not in --classes become; by default background if there is "
            "such a class, else they are ignored."
        ),
    ] = None,
    merge: Annotated[
        list[str] | None,
        _class_option(help="Classes that become one: vehicle=car,bus. Can be repeated."),
    ] = None,
    ignore: Annotated[
        str | None, _class_option(help="Classes whose pixels are ignored: a,b.")
    ] = None,
    class_name: Annotated[
        str | None,
        _class_option(
            "--class",
            help="Name of the only class besides background, as of instance and binary masks.",
        ),
    ] = None,
) -> None:
    """Convert labels of another tool to a dataset: masks are written, images are linked.

    The format is found by looking. The folder appears when it is complete, and the same command
    again changes nothing.
    """
    from atrous.classes import ClassSelection
    from atrous.formats import import_dataset

    names = None if classes is None else _split_names("--classes", classes)
    if other is not None and names is None:
        raise ConfigError("--other needs --classes: without it, no class is another.")
    ignored = () if ignore is None else _split_names("--ignore", ignore)
    selection = ClassSelection(names, other, _parse_merge(merge or []), ignored)
    with show_progress("importing") as progress:
        report = import_dataset(
            source,
            out,
            format=data_format,
            val=val,
            test=test,
            group=group,
            seed=seed,
            selection=selection,
            class_name=class_name,
            copy=copy,
            progress=progress,
        )
    _print_report(report)


def _print_report(report: "ImportReport") -> None:
    console = Console()
    splits = ", ".join(f"{name} {count}" for name, count in report.num_images.items())
    state = "was imported before" if report.is_old else "imported"
    names = ", ".join(report.classes)
    console.print(
        f"{report.format}: {splits} {state} into {escape(str(report.out))}. "
        f"{len(report.classes)} classes: {escape(names)}."
    )
    for note in report.notes:
        console.print(f"  [bold]note:[/] {escape(note)}")
    for reason, count in report.skipped.items():
        if count:
            console.print(f"  [yellow]left out:[/] {escape(reason)}: {count}")
    console.print(f"next  atrous check {escape(str(report.out))}")


def _split_names(option: str, text: str) -> tuple[str, ...]:
    """Parse names separated by commas; raises ConfigError if one is empty or occurs twice."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ConfigError(f"{option} takes different names separated by commas, not '{text}'.")
    return names


def _parse_merge(texts: list[str]) -> dict[str, tuple[str, ...]]:
    """Parse texts such as `vehicle=car,bus`; raises ConfigError for others, or a name twice."""
    merge: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, separator, parts = text.partition("=")
        if not separator or not name.strip() or name.strip() in merge:
            raise ConfigError(f"--merge takes NAME=A,B, each NAME once, not '{text}'.")
        merge[name.strip()] = _split_names("--merge", parts)
    return merge
