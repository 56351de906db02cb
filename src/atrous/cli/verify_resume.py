"""`atrous verify-resume`."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atrous.cli.console import Console
from atrous.cli.train import assemble_recipe


def run_verify_resume(
    recipe: Annotated[Path, typer.Argument(help="TOML file of the training to prove.")],
    data: Annotated[str | None, typer.Argument(help="Folder of the data set.")] = None,
    *,
    duration: Annotated[
        str, typer.Option("--for", help="How long each of the two runs is.")
    ] = "40it",
    kills: Annotated[int, typer.Option(min=1, help="How often the second run is killed.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the moments of the kills.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Keep the two run folders here; by default, nowhere.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Any recipe key: train.save_every=5it")
    ] = None,
) -> None:
    """Prove that a recipe resumes exactly on this machine.

    Trains it twice, the second time killed at random moments with kill -9 and started again with
    another number of workers, and compares weights, optimizer, losses and scores bit for bit.
    Exit code 0 if nothing differs, 1 if something does.
    """
    asked = assemble_recipe(
        recipe, {"data.root": data, "train.duration": duration}, overrides or []
    )

    from atrous.training.verify import verify_resume

    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        result = verify_resume(
            asked,
            out or Path(temporary),
            num_kills=kills,
            seed=seed,
            tell=lambda message: console.print(escape(f"{message} …"), highlight=False),
        )
    table = Table("", "uninterrupted", f"killed {len(result.kills)} times", "", box=None)
    for row in result.comparisons:
        mark = f"[red]{row.difference}[/]" if row.difference else "[green]equal[/]"
        table.add_row(row.name, row.uninterrupted[:16], row.interrupted[:16], mark)
    console.print(table, highlight=False)
    verdict = "[green]Exact[/]" if result.is_exact else "[red]Not exact[/]"
    spans = "; ".join(f"{kill.resumed_from} to {kill.killed_after}" for kill in result.kills)
    console.print(f"{verdict}. The sessions that were killed went from step {spans}.")
    raise typer.Exit(0 if result.is_exact else 1)
