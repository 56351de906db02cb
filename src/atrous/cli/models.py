"""`atrous models`."""

from rich.table import Table

from atrous.cli.console import Console


def run_models() -> None:
    """List every model, its backbone, its size with 21 classes, and its source."""
    from atrous.models.zoo import describe_models

    table = Table("model", "backbone", "parameters", "source", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    for row in describe_models():
        table.add_row(row.name, row.backbone, f"{row.num_parameters:,}", row.paper)
    Console().print(table)
