"""`atrous train`."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from atrous.recipe import Recipe, apply_overrides, build_recipe, load_toml, set_key


def run_train(
    data: Annotated[
        str | None, typer.Argument(help="Folder of the data set: VOC devkit, or train/images, …")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Run folder; a run that is in it goes on.")],
    model: Annotated[str | None, typer.Option(help="A name from `atrous models`.")] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="Whole run: 20ep, 30000it or 55min.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file; options go before it.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Resize images to this square, in pixels.")
    ] = None,
    crop: Annotated[int | None, typer.Option(help="Scale at random, then cut this square.")] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="Images per batch; auto: the largest that fits in memory.")
    ] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches per optimizer step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    init: Annotated[
        str | None, typer.Option(help="none, imagenet, coco, a weights file or a run folder.")
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(help="Leave as it is: none, backbone or all-but-classifier.")
    ] = None,
    feature_cache: Annotated[
        str | None,
        typer.Option(help="Features of a frozen part: auto (kept in the run), off, or a folder."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read images.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    data_format: Annotated[
        str | None, typer.Option("--format", help="voc or pairs; by default, look.")
    ] = None,
    stop_after: Annotated[
        str | None, typer.Option(help="Budget of this session, such as 3h50m.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Any recipe key: train.ema=0.999")
    ] = None,
) -> None:
    """Train a model into a run folder, or go on with the run that is there.

    Ctrl-C, SIGTERM and --stop-after finish the step, save and exit with 0. The same command
    started again goes on exactly where the run was, also after a kill or a power cut.
    """
    options = {
        "data.root": data,
        "data.format": data_format,
        "data.size": size,
        "data.crop": crop,
        "model.name": model,
        "model.init": init,
        "model.freeze": freeze,
        "train.duration": duration,
        "train.batch_size": None if batch_size == "auto" else batch_size,
        "train.accumulate": accumulate,
        "train.lr": lr,
        "train.seed": seed,
        "train.workers": workers,
        "train.device": device,
        **_name_feature_cache(feature_cache),
    }
    asked = assemble_recipe(recipe, options, overrides or [])

    from atrous.cli.display import TrainingDisplay, print_training_result
    from atrous.training import train

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    with TrainingDisplay() as display:
        result = train(
            asked,
            out,
            stop_after=stop_after,
            auto_batch_size=batch_size == "auto",
            listener=display,
        )
    print_training_result(result)


def _name_feature_cache(choice: str | None) -> dict[str, str]:
    """Return the keys behind --feature-cache: whether there is one, and where."""
    if choice in (None, "auto", "off"):
        return {} if choice is None else {"train.feature_cache": choice}
    return {"train.feature_cache": "auto", "train.feature_cache_dir": choice}


def assemble_recipe(path: Path | None, options: dict[str, Any], overrides: list[str]) -> Recipe:
    """Lay the options over the recipe file, and `--set` over both."""
    values: Mapping[str, Any] = load_toml(path) if path else {}
    given = {key: value for key, value in options.items() if value is not None}
    for asked, other in (("data.size", "data.crop"), ("data.crop", "data.size")):
        if asked in given and other not in given:
            values = set_key(values, other, None)
    for key, value in given.items():
        values = set_key(values, key, value)
    return build_recipe(apply_overrides(values, overrides))
