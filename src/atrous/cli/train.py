"""`atrous train`."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from atrous.model_options import DEFAULT_SYSTEM
from atrous.recipe import (
    Recipe,
    apply_overrides,
    build_recipe,
    flatten_values,
    load_toml,
    set_key,
)


def run_train(
    data: Annotated[
        str | None, typer.Argument(help="Dataset folder: a VOC devkit, or train/images, …")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Run folder; a run in it is resumed.")],
    model: Annotated[str | None, typer.Option(help="Model name, see `atrous models`.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Backbone, such as resnet50 or timm/convnext_tiny.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="Duration of the run: 20ep, 30000it or 55min.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file; options override it.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Resize images to this height and width in pixels.")
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Height and width of random crops in pixels.")
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="Images per batch; auto: the largest that fits in memory.")
    ] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches per optimizer step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Initial weights: none, imagenet, coco, a file or a run folder."),
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(help="Frozen part: none, backbone or all-but-classifier.")
    ] = None,
    feature_cache: Annotated[
        str | None,
        typer.Option(help="Feature cache of a frozen part: auto (in the run), off, or a folder."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes that read images.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")] = None,
    devices: Annotated[
        int, typer.Option(min=1, help="Number of processes that share each batch, one per GPU.")
    ] = 1,
    data_format: Annotated[
        str | None,
        typer.Option("--format", help="Dataset format: voc or pairs; detected by default."),
    ] = None,
    train_split: Annotated[str | None, typer.Option(help="Split to train on.")] = None,
    val_split: Annotated[str | None, typer.Option(help="Split to validate on.")] = None,
    ignore_index: Annotated[int | None, typer.Option(help="Mask value of ignored pixels.")] = None,
    stop_after: Annotated[
        str | None, typer.Option(help="Budget of this session, such as 3h50m.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a recipe key: train.ema=0.999")
    ] = None,
) -> None:
    """Train a model into a run folder, or resume the run in it.

    Ctrl-C, SIGTERM and --stop-after finish the step, save a checkpoint and exit with 0. Start the
    same command again to resume exactly, also after a kill or a power cut.
    """
    options = {
        "data.root": data,
        "data.format": data_format,
        "data.train_split": train_split,
        "data.val_split": val_split,
        "data.ignore_index": ignore_index,
        "data.size": size,
        "data.crop": crop,
        "model.name": f"{model or DEFAULT_SYSTEM}_{backbone}" if backbone else model,
        "model.init": init,
        "model.freeze": freeze,
        "train.duration": duration,
        "train.batch_size": None if batch_size == "auto" else batch_size,
        "train.accumulate": accumulate,
        "train.lr": lr,
        "train.seed": seed,
        "train.workers": workers,
        "train.device": device,
        **_parse_feature_cache(feature_cache),
    }
    base = load_toml(recipe) if recipe else _choose_recipe(options, overrides or [], out)
    built = assemble_recipe(base, options, overrides or [])

    from atrous.cli.display import TrainingDisplay, print_training_result
    from atrous.cli.processes import start_processes
    from atrous.training import train

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    with start_processes(devices), TrainingDisplay() as display:
        auto = batch_size == "auto"
        result = train(built, out, stop_after=stop_after, auto_batch_size=auto, listener=display)
    if os.environ.get("RANK", "0") == "0":
        print_training_result(result)


def _parse_feature_cache(choice: str | None) -> dict[str, str]:
    """Return the recipe keys of --feature-cache."""
    if choice in (None, "auto", "off"):
        return {} if choice is None else {"train.feature_cache": choice}
    return {"train.feature_cache": "auto", "train.feature_cache_dir": choice}


def _choose_recipe(options: dict[str, Any], overrides: list[str], out: Path) -> Mapping[str, Any]:
    """Return the values of a run without --recipe: those that it has, or that suit its data."""
    from atrous.run import RunFolder
    from atrous.training.suggest import suggest_recipe

    if (stored := RunFolder(out).recipe).is_file():
        return load_toml(stored)
    given = {key: value for key, value in options.items() if value is not None}
    given |= flatten_values(apply_overrides({}, overrides))
    if not given.get("data.root"):
        return {}
    values = suggest_recipe(
        given["data.root"],
        model=given.get("model.name"),
        init=given.get("model.init"),
        train_split=given.get("data.train_split", "train"),
        format=given.get("data.format", "auto"),
    )
    if given.get("data.size"):
        values["data"] = {}
    return values


def assemble_recipe(
    values: Mapping[str, Any], options: dict[str, Any], overrides: list[str]
) -> Recipe:
    """Build a recipe from the values of a file, options over them, and `--set` over both."""
    given = {key: value for key, value in options.items() if value is not None}
    for key, other in (("data.size", "data.crop"), ("data.crop", "data.size")):
        if key in given and other not in given:
            values = set_key(values, other, None)
    for key, value in given.items():
        values = set_key(values, key, value)
    return build_recipe(apply_overrides(values, overrides))
