"""`atrous train`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from atrous.cli.options import (
    Crop,
    IgnoreIndex,
    OwnFormat,
    RecipeFile,
    TrainSplit,
    ValSplit,
    choose_recipe,
)
from atrous.model_options import DEFAULT_SYSTEM
from atrous.run import RunFolder


def run_train(
    data: Annotated[
        str | None,
        typer.Argument(help="Dataset: a VOC devkit, train/images, …, or shards, also a URL."),
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
    recipe: RecipeFile = None,
    size: Annotated[
        int | None, typer.Option(help="Resize images to this height and width in pixels.")
    ] = None,
    crop: Crop = None,
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
    nodes: Annotated[
        int,
        typer.Option(min=1, help="Number of machines that run this command, each with --devices."),
    ] = 1,
    data_format: OwnFormat = None,
    train_split: TrainSplit = None,
    val_split: ValSplit = None,
    ignore_index: IgnoreIndex = None,
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
    stored = RunFolder(out).recipe
    file = recipe or (stored if stored.is_file() else None)
    built = choose_recipe(file, options, overrides or [], suggest=suggest_training)
    max_batch_size = sys.maxsize if batch_size == "auto" else None
    is_set = batch_size or any(one.startswith("train.batch_size") for one in overrides or [])
    if file is None and not is_set:
        max_batch_size = built.train.batch_size

    from atrous.cli.display import TrainingDisplay, print_training_result
    from atrous.cli.processes import start_processes
    from atrous.training import train

    with start_processes(devices, nodes), TrainingDisplay() as display:
        result = train(
            built, out, stop_after=stop_after, max_batch_size=max_batch_size, listener=display
        )
    if os.environ.get("RANK", "0") == "0":
        print_training_result(result)


def _parse_feature_cache(choice: str | None) -> dict[str, str]:
    """Return the recipe keys of --feature-cache."""
    if choice in (None, "auto", "off"):
        return {} if choice is None else {"train.feature_cache": choice}
    return {"train.feature_cache": "auto", "train.feature_cache_dir": choice}


def suggest_training(given: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a run without --recipe, from those given by key."""
    from atrous.training.suggest import suggest_recipe

    return suggest_recipe(
        given["data.root"],
        model=given.get("model.name"),
        init=given.get("model.init"),
        train_split=given.get("data.train_split", "train"),
        format=given.get("data.format", "auto"),
    )
