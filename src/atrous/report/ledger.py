"""Ledger: the nearest published figure, and the measured effect of each difference to it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.classes import VOC_NAMES
from atrous.data.palettes import CITYSCAPES
from atrous.engines import TTA
from atrous.models.zoo import find_variant
from atrous.recipe import Recipe
from atrous.report import published
from atrous.report.published import PUBLISHED, RELATED, Measured, Published, Setup

_CAMVID_NAMES = {
    "sky", "building", "pole", "road", "pavement", "sidewalk", "tree", "sign", "sign symbol",
    "signsymbol", "fence", "car", "pedestrian", "bicyclist",
}  # fmt: skip
_INITS = {"none": "none", "imagenet": "ImageNet", "coco": "COCO"}
_NORMS = {"trained": "batch norm, trained", "frozen": "batch norm, frozen", "group": "group norm"}


@dataclass(frozen=True)
class Departure:
    """One setting that differs between a paper and a run.

    `points` is its effect on mIoU as measured in the table `source`, None if it was not measured,
    and `remark` names conditions or a caveat.
    """

    what: str
    paper: str
    run: str
    points: float | None = None
    remark: str = ""
    source: str = ""


@dataclass(frozen=True)
class LedgerEntry:
    """A published figure nearest in `model and data`, `data` or `model`, and what differs."""

    nearest_in: str
    figure: Published
    departures: tuple[Departure, ...]


def build_ledger(
    recipe: Recipe, plan: dict[str, Any], scores: dict[str, Any], class_names: Sequence[str]
) -> list[LedgerEntry]:
    """Compare a run with the nearest published figures.

    Returns:
        One entry if a figure is of the same system on the same data; otherwise up to two: a figure
        on the same data and one of the same system.
    """
    system, data = find_system(recipe.model.name), find_data(class_names)
    setup = describe_run(recipe, plan, scores)
    same_system = [figure for figure in PUBLISHED if figure.system == system]
    same_data = [figure for figure in PUBLISHED if figure.data == data]
    both = [figure for figure in same_system if figure in same_data]
    if both:
        chosen = [("model and data", both[0])]
    else:
        chosen = [("data", figure) for figure in same_data[:1]]
        chosen += [("model", figure) for figure in same_system[:1]]
    return [
        LedgerEntry(
            nearest_in, figure, tuple(_list_departures(figure, system, data, recipe, setup))
        )
        for nearest_in, figure in chosen
    ]


def find_system(model_name: str) -> str:
    """Return the system of a variant, as the paper spells it."""
    prefixes = (
        ("deeplabv3_report", published.REPORT),
        ("deeplabv3plus_", published.DEEPLABV3PLUS),
        ("deeplabv3_", published.DEEPLABV3),
    )
    return next((name for prefix, name in prefixes if model_name.startswith(prefix)), model_name)


def find_data(class_names: Sequence[str]) -> str | None:
    """Recognize VOC, CamVid and Cityscapes by their classes; None for other datasets."""
    names = {name.lower().replace("_", " ").replace("-", " ") for name in class_names}
    if len(class_names) == len(VOC_NAMES) and names == set(VOC_NAMES):
        return published.VOC
    if len(class_names) == 11 and names <= _CAMVID_NAMES:
        return published.CAMVID
    return published.CITYSCAPES if names == set(CITYSCAPES.names) else None


def describe_run(recipe: Recipe, plan: dict[str, Any], scores: dict[str, Any]) -> Setup:
    """Describe the training and evaluation of a run in the terms of papers."""
    model, data, train = recipe.model, recipe.data, recipe.train
    backbone, stride = find_variant(model.name).backbone, find_output_stride(recipe)
    norm = "group" if model.norm == "group" else "frozen" if model.freeze_norm else "trained"
    is_resnet = backbone.startswith("resnet")
    return Setup(
        backbone=f"ResNet-{backbone[6:]}" if is_resnet else backbone,
        num_train=plan.get("num_train"),
        num_scored=scores.get("num_images"),
        init=_INITS.get(model.init) or f"those of {Path(model.init).name}",
        crop=data.crop or f"whole, resized to {data.size}×{data.size}",
        batch_size=train.batch_size,
        strides=None if stride is None else (stride, scores.get("output_stride") or stride),
        norm=norm,
        multi_grid=model.multi_grid if is_resnet else None,
        decoder_channels=model.decoder_channels,
        tta=_find_views(scores),
        class_weights=recipe.loss.class_weights,
        optimization=f"{train.optimizer}, {train.schedule} from {train.lr:g}",
        num_steps=plan.get("total_steps"),
    )


def _find_views(scores: dict[str, Any]) -> frozenset[str] | None:
    if not scores.get("tta"):
        return None
    tta = TTA.from_json(scores["tta"])
    kinds = {"scales": tta.scales != (1.0,), "flip": tta.flip, "windows": tta.window_px}
    kinds["samples"] = tta.samples > 1
    return frozenset(kind for kind, is_used in kinds.items() if is_used)


def _list_departures(
    figure: Published, system: str, data: str | None, recipe: Recipe, run: Setup
) -> Iterator[Departure]:
    paper = figure.setup
    if data != figure.data:
        remark = f"another task; the effects below hold for {figure.data}"
        yield Departure("data", figure.data, data or "other classes", None, remark)
    if system != figure.system:
        backbone = f" with {run.backbone}" if run.backbone else ""
        yield Departure("model", figure.system, system + backbone)
    elif paper.backbone != run.backbone:
        names = paper.backbone, run.backbone
        yield _compare("backbone", *names, published.BACKBONE, figure.system)
    if data == figure.data:
        yield from _compare_images(figure, run)
    for what, key, measured in (
        ("initial weights", "init", published.INIT),
        ("crop, px", "crop", published.CROP),
        ("batch size", "batch_size", published.BATCH_SIZE),
        ("normalisation", "norm", published.NORM),
        ("output stride, training / evaluation", "strides", published.STRIDES.get(figure.system)),
        ("multi-grid", "multi_grid", published.MULTI_GRID),
        ("decoder channels", "decoder_channels", published.DECODER_CHANNELS),
        ("test-time augmentation", "tta", _choose_tta(figure, run)),
        ("class weights", "class_weights", published.CLASS_WEIGHTS),
        ("optimizer and learning rate", "optimization", None),
        ("steps", "num_steps", None),
    ):
        values = getattr(paper, key), getattr(run, key)
        if None not in values and "" not in values and values[0] != values[1]:
            yield _compare(what, *values, measured, figure.system)
    yield from _list_extras(recipe)


def _compare_images(figure: Published, run: Setup) -> Iterator[Departure]:
    paper = figure.setup
    if run.num_train and paper.num_train and run.num_train != paper.num_train:
        without_sbd = figure.data == published.VOC and run.num_train <= 1464
        remark = "without SBD's extra annotations" if without_sbd else ""
        counts = f"{paper.num_train:,}", f"{run.num_train:,}"
        yield Departure("training images", *counts, None, remark)
    if run.num_scored and paper.num_scored and run.num_scored != paper.num_scored:
        counts = f"{paper.num_scored:,} ({figure.split})", f"{run.num_scored:,}"
        remark = "other images: the two scores are not comparable"
        yield Departure("evaluated images", *counts, None, remark)


def _choose_tta(figure: Published, run: Setup) -> Measured | None:
    stride = run.strides[1] if run.strides else 16
    of_system = {key[1]: one for key, one in published.VIEWS.items() if key[0] == figure.system}
    return of_system.get(stride) or next(iter(of_system.values()), None)


def _list_extras(recipe: Recipe) -> Iterator[Departure]:
    """Yield settings that the papers do not have."""
    loss, data, train = recipe.loss, recipe.data, recipe.train
    terms = ("focal", "dice", "lovasz")
    added = [f"{name} × {getattr(loss, name):g}" for name in terms if getattr(loss, name)]
    if added:
        yield Departure("loss", "cross entropy", f"with {', '.join(added)}")
    jitter = ("brightness", "contrast", "saturation", "hue")
    if any(getattr(data, name) for name in jitter):
        yield Departure("colour augmentation", "none", "yes")
    if train.ema:
        yield Departure("moving average of the weights", "none", f"{train.ema:g}")
    if recipe.model.auxiliary:
        yield Departure("auxiliary head", "none", f"loss × {loss.auxiliary:g}")


def _compare(what: str, paper: Any, run: Any, measured: Measured | None, system: str) -> Departure:
    values = _format(paper), _format(run)
    if measured is None:
        return Departure(what, *values)
    for measured_system in RELATED.get(system, (system,)):
        mious = measured.systems.get(measured_system, {})
        if paper not in mious:
            continue
        conditions = [measured.remark] if measured.remark else []
        if measured_system != system:
            conditions.append(f"on {measured_system}")
        if run in mious:
            points = round(100 * (mious[run] - mious[paper]), 2)
            return Departure(what, *values, points, "; ".join(conditions), measured.source)
        if near := _describe_neighbours(mious, paper, run):
            return Departure(what, *values, None, "; ".join([near, *conditions]), measured.source)
    return Departure(what, *values)


def _describe_neighbours(mious: Any, paper: Any, run: Any) -> str:
    """Describe the nearest measurements to a number that was not measured."""
    if not isinstance(run, int) or not isinstance(paper, int):
        return ""
    near = [
        *sorted(value for value in mious if value < run)[-1:],
        *sorted(value for value in mious if value > run)[:1],
    ]
    effects = [
        f"{value}, {100 * (mious[value] - mious[paper]):+.2f}".replace("-", "−")
        for value in near
        if value != paper
    ]
    return f"nearest measured: {'; '.join(effects)}" if effects else ""


def _format(value: Any) -> str:
    if isinstance(value, frozenset):
        return " and ".join(sorted(value, reverse=True)) or "none"
    if isinstance(value, tuple):
        return (" / " if len(value) == 2 else ", ").join(map(str, value))
    if isinstance(value, int):
        return f"{value:,}"
    return _NORMS.get(value, str(value).replace("_", " "))


def find_output_stride(recipe: Recipe) -> int | None:
    """Return the output stride of training; None for a model without this option."""
    options = find_variant(recipe.model.name).options
    return recipe.model.output_stride if "output_stride" in options else None
