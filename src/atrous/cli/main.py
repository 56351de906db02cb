"""The command `atrous`: one thin file per subcommand, errors as paragraphs, exit code 2."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from atrous.cli import (
    calibrate,
    check,
    compare,
    data,
    evaluate,
    export,
    inspect,
    models,
    predict,
    report,
    serve,
    study,
    train,
    verify_resume,
)
from atrous.cli.allocator import keep_freed_memory
from atrous.errors import AtrousError

app = typer.Typer(
    name="atrous",
    help="Semantic segmentation with atrous convolution.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("check")(check.run_check)
app.command("train")(train.run_train)
app.command("evaluate")(evaluate.run_evaluate)
app.command("calibrate")(calibrate.run_calibrate)
app.command("compare")(compare.run_compare)
app.command("report")(report.run_report)
app.command("study")(study.run_study)
app.command("predict")(predict.run_predict)
app.command("export")(export.run_export)
app.command("serve")(serve.run_serve)
app.command("models")(models.run_models)
app.command("inspect")(inspect.run_inspect)
app.command("verify-resume")(verify_resume.run_verify_resume)
app.add_typer(data.app, name="data")


def run() -> None:
    """Run the command; a user's mistake ends it with one paragraph and exit code 2."""
    keep_freed_memory()
    try:
        app()
    except AtrousError as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
