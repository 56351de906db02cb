"""`atrous models`."""

from rich.table import Table

from atrous.cli.console import Console


def run_models() -> None:
    """List all models and their parameters with 21 classes, and the trained ready models."""
    from atrous.models.ready import READY_MODELS
    from atrous.models.zoo import describe_models

    table = Table("model", "parameters", "source", box=None, pad_edge=False)
    table.columns[0].overflow = "fold"
    table.columns[1].justify = "right"
    for row in describe_models():
        table.add_row(row.name, f"{row.num_parameters:,}", row.paper)
    ready = Table("ready model", "classes", box=None, pad_edge=False)
    for name, classes in READY_MODELS.items():
        ready.add_row(name, classes)
    console = Console()
    console.print(table)
    console.print("\nReady models are trained: `atrous predict animals photo.jpg --out out`.")
    console.print(ready)
