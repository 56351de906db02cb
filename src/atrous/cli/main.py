"""The command `atrous`: one thin file per subcommand, errors as paragraphs, exit code 2."""

import sys
import traceback

import typer

from atrous.cli import (
    calibrate,
    check,
    compare,
    data,
    evaluate,
    export,
    import_data,
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
from atrous.cli.failures import describe_failure, end_with_error
from atrous.cli.notices import prepare_output

app = typer.Typer(
    name="atrous",
    help="Semantic segmentation with atrous convolution.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("import")(import_data.run_import)
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
    """Run the command; errors are printed as one paragraph, with exit code 2."""
    keep_freed_memory()
    prepare_output()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        message = describe_failure(error)
        if message is None:
            raise
        traceback.clear_frames(error.__traceback__)  # its frames may hold the memory that ran out
        end_with_error(message)
