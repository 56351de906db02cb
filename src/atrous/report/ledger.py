"""The ledger: the nearest published figure, and what each departure from it costs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.classes import VOC_NAMES
from atrous.models.zoo import find_variant
from atrous.recipe import Recipe
from atrous.report import published
from atrous.report.loaded_run import find_output_stride
from atrous.report.published import PUBLISHED, RELATED, Measured, Published, Setup

_CAMVID_NAMES = {
    "sky", "building", "pole", "road", "pavement", "sidewalk", "tree", "sign", "sign symbol",
    "signsymbol", "fence", "car", "pedestrian", "bicyclist",
}  # fmt: skip
_CITYSCAPES_NAMES = {
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
}  # fmt: skip
_INITS = {"none": "none", "imagenet": "ImageNet", "coco": "COCO"}
_NORMS = {
    "trained": "batch norm, trained",
    "frozen": "batch norm, frozen",
    "group": "group norm",
}


@dataclass(frozen=True)
class Departure:
    """One way in which a run differs from a published one.

    Attributes:
        what: The choice.
        there, here: Its values in the paper and in the run.
        points: Points of mIoU that the paper measured it to cost (negative) or gain; None if it
            did not measure this.
        remark: On what, or beside what, it was measured; or why nothing can be said.
        source: Table of the measurement.
    """

    what: str
    there: str
    here: str
    points: float | None = None
    remark: str = ""
    source: str = ""


@dataclass(frozen=True)
class LedgerEntry:
    """A published figure and how a run departs from it.

    Attributes:
        nearest_in: `model and data`, `data` or `model`.
    """

    nearest_in: str
    figure: Published
    departures: tuple[Departure, ...]


def build_ledger(
    recipe: Recipe, plan: dict[str, Any], scores: dict[str, Any], class_names: Sequence[str]
) -> list[LedgerEntry]:
    """Find the published figures nearest to a run, and compare.

    Args:
        recipe: What was asked for.
        plan: Content of `plan.json`, or {}.
        scores: Content of the evaluation's JSON, or {} before there is one.
        class_names: Classes of the data.

    Returns:
        One entry if a figure is of the same system on the same data; otherwise the nearest on the
        same data and the nearest of the same system, as far as there are such.
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
    """Return the system that a variant belongs to, in the paper's spelling."""
    prefixes = (
        ("deeplabv3_report", published.REPORT),
        ("deeplabv3plus_", published.DEEPLABV3PLUS),
        ("deeplabv3_", published.DEEPLABV3),
    )
    return next((name for prefix, name in prefixes if model_name.startswith(prefix)), model_name)


def find_data(class_names: Sequence[str]) -> str | None:
    """Tell VOC, CamVid and Cityscapes by their classes; None for other data."""
    names = {name.lower().replace("_", " ").replace("-", " ") for name in class_names}
    if len(class_names) == len(VOC_NAMES) and names == set(VOC_NAMES):
        return published.VOC
    if len(class_names) == 11 and names <= _CAMVID_NAMES:
        return published.CAMVID
    return published.CITYSCAPES if names == _CITYSCAPES_NAMES else None


def describe_run(recipe: Recipe, plan: dict[str, Any], scores: dict[str, Any]) -> Setup:
    """Say in a paper's terms how a run was trained and scored."""
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
        views=_find_views(scores),
        class_weights=recipe.loss.class_weights,
        course=f"{train.optimizer}, {train.schedule} from {train.lr:g}",
        num_steps=plan.get("total_steps"),
    )


def _find_views(scores: dict[str, Any]) -> frozenset[str] | None:
    views = scores.get("views")
    if not views:
        return None
    several = len(views.get("scales") or ()) > 1 or list(views.get("scales") or ()) != [1.0]
    kinds = {
        "scales": several,
        "flip": views.get("flip"),
        "windows": views.get("window_px"),
        "samples": views.get("samples", 1) > 1,
    }
    return frozenset(kind for kind, is_used in kinds.items() if is_used)


def _list_departures(
    figure: Published, system: str, data: str | None, recipe: Recipe, here: Setup
) -> Iterator[Departure]:
    there = figure.setup
    if data != figure.data:
        named = data or "other classes"
        remark = f"another task; the costs below hold for {figure.data}"
        yield Departure("data", figure.data, named, None, remark)
    if system != figure.system:
        backbone = f" with {here.backbone}" if here.backbone else ""
        yield Departure("model", figure.system, system + backbone)
    elif there.backbone != here.backbone:
        yield _cost("backbone", there.backbone, here.backbone, published.BACKBONE, figure.system)
    yield from _compare_pictures(figure, data, here)
    for what, key, measured in (
        ("initial weights", "init", published.INIT),
        ("crop, px", "crop", published.CROP),
        ("batch size", "batch_size", published.BATCH_SIZE),
        ("normalisation", "norm", published.NORM),
        ("output stride, training / evaluation", "strides", published.STRIDES.get(figure.system)),
        ("multi-grid", "multi_grid", published.MULTI_GRID),
        ("decoder channels", "decoder_channels", published.DECODER_CHANNELS),
        ("views", "views", _choose_views(figure, here)),
        ("class weights", "class_weights", published.CLASS_WEIGHTS),
        ("optimizer and rate", "course", None),
        ("steps", "num_steps", None),
    ):
        values = getattr(there, key), getattr(here, key)
        if None not in values and "" not in values and values[0] != values[1]:
            yield _cost(what, *values, measured, figure.system)
    yield from _list_extras(recipe)


def _compare_pictures(figure: Published, data: str | None, here: Setup) -> Iterator[Departure]:
    there = figure.setup
    if data != figure.data:
        return
    if here.num_train and there.num_train and here.num_train != there.num_train:
        remark = ""
        if data == published.VOC and here.num_train <= 1464:
            remark = "without SBD's extra annotations"
        yield Departure(
            "training pictures", f"{there.num_train:,}", f"{here.num_train:,}", None, remark
        )
    if here.num_scored and there.num_scored and here.num_scored != there.num_scored:
        yield Departure(
            "pictures scored",
            f"{there.num_scored:,} ({figure.split})",
            f"{here.num_scored:,}",
            None,
            "other pictures: the two scores cannot be held against each other",
        )


def _choose_views(figure: Published, here: Setup) -> Measured | None:
    stride = here.strides[1] if here.strides else 16
    of_system = {
        key[1]: measured for key, measured in published.VIEWS.items() if key[0] == figure.system
    }
    return of_system.get(stride) or next(iter(of_system.values()), None)


def _list_extras(recipe: Recipe) -> Iterator[Departure]:
    """Yield what these papers do not have at all."""
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


def _cost(what: str, there: Any, here: Any, measured: Measured | None, system: str) -> Departure:
    words = _format(there), _format(here)
    if measured is None:
        return Departure(what, *words)
    for measured_system in RELATED.get(system, (system,)):
        values = measured.systems.get(measured_system, {})
        if there not in values:
            continue
        beside = [measured.remark] if measured.remark else []
        if measured_system != system:
            beside.append(f"on {measured_system}")
        if here in values:
            points = round(100 * (values[here] - values[there]), 2)
            return Departure(what, *words, points, "; ".join(beside), measured.source)
        if near := _describe_neighbours(values, there, here):
            return Departure(what, *words, None, "; ".join([near, *beside]), measured.source)
    return Departure(what, *words)


def _describe_neighbours(values: Any, there: Any, here: Any) -> str:
    """Say what was measured next to a number that was not."""
    if not isinstance(here, int) or not isinstance(there, int):
        return ""
    near = (
        max((value for value in values if value < here), default=None),
        min((value for value in values if value > here), default=None),
    )
    costs = [
        f"{value}, {_format_points(values[value] - values[there])}"
        for value in near
        if value is not None and value != there
    ]
    return f"nearest measured: {'; '.join(costs)}" if costs else ""


def _format_points(difference: float) -> str:
    """Write a difference of scores in points, with its sign."""
    return f"{100 * difference:+.2f}".replace("-", "−")


def _format(value: Any) -> str:
    if isinstance(value, frozenset):
        return " and ".join(sorted(value, reverse=True)) or "one"
    if isinstance(value, tuple):
        return (" / " if len(value) == 2 else ", ").join(map(str, value))
    if isinstance(value, int):
        return f"{value:,}"
    return _NORMS.get(value, str(value).replace("_", " "))
