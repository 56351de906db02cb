"""`atrous models`."""

from rich.table import Table

from atrous.cli.console import Console


def run_models() -> None:
    """List all models with their backbone, number of parameters with 21 classes, and source."""
    from atrous.models.zoo import describe_models

    table = Table("model", "backbone", "parameters", "source", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    for row in describe_models():
        table.add_row(row.name, row.backbone, f"{row.num_parameters:,}", row.paper)
    Console().print(table)
