"""`atrous verify-resume`."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atrous.cli.console import Console
from atrous.cli.options import choose_recipe


def run_verify_resume(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the training (TOML file).")],
    data: Annotated[str | None, typer.Argument(help="Dataset folder.")] = None,
    *,
    duration: Annotated[
        str, typer.Option("--for", help="Duration of each of the two runs: 20ep, 40it or 5min.")
    ] = "40it",
    kills: Annotated[int, typer.Option(min=1, help="Number of kills of the second run.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the moments of the kills.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to keep the two runs in; by default, they are deleted."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a recipe key: train.save_every=5it")
    ] = None,
) -> None:
    """Verify that a recipe resumes exactly on this machine.

    Trains twice, the second time killed with kill -9 at random moments and resumed with another
    number of workers, and compares weights, optimizer, losses and scores bit for bit. The exit
    code is 0 if they are equal, else 1.
    """
    options = {"data.root": data, "train.duration": duration}
    parsed = choose_recipe(recipe, options, overrides or [], suggest=dict)

    from atrous.training.verify import verify_resume

    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        result = verify_resume(
            parsed,
            out or Path(temporary),
            num_kills=kills,
            seed=seed,
            listener=lambda event: console.print(escape(event["message"])),
        )
    table = Table("", "uninterrupted", f"killed {len(result.kills)} times", "", box=None)
    for row in result.checks:
        mark = f"[red]{row.difference}[/]" if row.difference else "[green]equal[/]"
        table.add_row(row.name, row.uninterrupted[:16], row.interrupted[:16], mark)
    console.print(table)
    verdict = "[green]Exact[/]" if result.is_exact else "[red]Not exact[/]"
    spans = "; ".join(f"{first} to {last}" for first, last in result.kills)
    console.print(f"{verdict}. Steps of the killed sessions: {spans}.")
    raise typer.Exit(0 if result.is_exact else 1)
