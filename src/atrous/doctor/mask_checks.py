"""Checks of mask contents: kind of pixels, values, colours."""

from collections import Counter, defaultdict

from atrous.classes import IGNORE_INDEX, Color, voc_color
from atrous.data.mask_values import describe_wrong_values
from atrous.data.palettes import (
    BLACK,
    ColorTable,
    build_grey_table,
    build_table,
    format_color,
    match_table,
)
from atrous.data.sample import shorten
from atrous.doctor.facts import MaskFacts
from atrous.doctor.findings import Finding, build_findings
from atrous.doctor.survey import Survey

_MAX_LISTED = 24


def check_color_masks(survey: Survey) -> list[Finding]:
    """Find masks of colours, and the colour table that explains them."""
    files = []
    for index, mask in survey.color_masks:
        number = "more than 256" if mask.colors is None else len(mask.colors)
        files.append(survey.found_mask(index, f"{mask.mode}, {number} colours"))
    if not files:
        return []
    summary = f"{len(files)} of {len(survey.pairs)} masks; "
    used = {color for _, mask in survey.color_masks for color in mask.colors or {}}
    table = find_color_table(survey)
    if table is None:
        if any(mask.colors is None for _, mask in survey.color_masks):
            summary += "too many colours for a table: blurred or compressed."
        else:
            summary += (
                f"no table explains their {len(used)} colours. If they are classes, list them with "
                "their colours in classes.toml; if they number objects, as instance and panoptic "
                "ids do, write the class of each object instead, from the annotations beside the "
                "masks."
            )
        return build_findings("color-masks", summary, files, table=None)
    colors = {
        format_color(color): index
        for color, index in sorted(table.indices.items(), key=lambda item: item[1])
        if color in used
    }
    listed = shorten([f"{color} = {index}" for color, index in colors.items()], _MAX_LISTED)
    summary += f"the colours are those of {table.name}: {listed}."
    return build_findings("color-masks", summary, files, table=table.name, colors=colors)


def find_color_table(survey: Survey) -> ColorTable | None:
    """Return the table of the masks of colours; None if no table fits."""
    masks = [mask for _, mask in survey.color_masks if mask.colors is not None]
    given = _build_given_table(survey)
    greys = {value for mask in masks for value in mask.grey_values or {}}
    is_given = given is not None and all((v, v, v) in given.indices for v in greys)
    if greys and all(mask.grey_values is not None for mask in masks) and not is_given:
        if survey.id_masks:
            return None
        used = {value for _, mask in survey.index_masks for value in survey.list_classes(mask)}
        is_binary = bool(survey.binary_masks)
        table = build_grey_table(
            greys, used, survey.ignore_index, survey.given, is_binary=is_binary
        )
        if table is not None or survey.index_masks:
            return table
    return match_table([mask.colors or {} for mask in masks], given) if masks else None


def _build_given_table(survey: Survey) -> ColorTable | None:
    """Return the table of the dataset's own colours; black and VOC's void colour are ignored."""
    if survey.given is None or not survey.has_table:
        return None
    return build_table("the class list", survey.given, (BLACK, voc_color(IGNORE_INDEX)))


def check_palette_order(survey: Survey) -> list[Finding]:
    """Find palette masks whose colours follow the classes, but whose indices do not."""
    files = []
    for index, mask in list_disordered_masks(survey):
        colors = [f"{value} is {format_color(color)}" for value, color in mask.palette.items()]
        files.append(survey.found_mask(index, shorten(colors, 5)))
    table = find_palette_table(survey)
    summary = (
        f"{len(files)} of {len(survey.pairs)} masks; their colours follow "
        f"{'no table that fits' if table is None else table.name}, their indices do not."
    )
    return build_findings("palette-order", summary, files)


def find_palette_table(survey: Survey) -> ColorTable | None:
    """Return the table of the palette masks whose indices are out of order; None if none fits."""
    masks = []
    for _, mask in list_disordered_masks(survey):
        colors: Counter[Color] = Counter()
        for value, color in mask.palette.items():
            colors[color] += (mask.values or {})[value]
        masks.append(colors)
    return match_table(masks, _build_given_table(survey)) if masks else None


def list_disordered_masks(survey: Survey) -> list[tuple[int, MaskFacts]]:
    """Return (pair index, mask) of the palette masks whose indices contradict their colours.

    The reference is the dataset's own colour table. Without one, all palette masks are out of
    order if any colour has several indices.
    """
    masks = [(index, mask) for index, mask in survey.index_masks if mask.palette]
    given = _build_given_table(survey)
    if given is not None:
        return [(index, mask) for index, mask in masks if _contradicts(mask, given)]
    indices: dict[Color, set[int]] = defaultdict(set)
    for _, mask in masks:
        for value, color in mask.palette.items():
            indices[color].add(value)
    return masks if any(len(values) > 1 for values in indices.values()) else []


def _contradicts(mask: MaskFacts, table: ColorTable) -> bool:
    known = {value: table.indices.get(color) for value, color in mask.palette.items()}
    if None in known.values():
        return False
    return any(index not in (value, IGNORE_INDEX) for value, index in known.items())


def check_binary_masks(survey: Survey) -> list[Finding]:
    """Find 0/255 masks, in which 255 is the foreground."""
    binary = survey.binary_masks - {index for index, _ in survey.color_masks}
    files = [survey.found_mask(index) for index in sorted(binary)]
    summary = f"{len(files)} of {len(survey.pairs)} masks, with 255 for the foreground."
    return build_findings("binary-masks", summary, files)


def check_values(survey: Survey) -> list[Finding]:
    """Find masks with values that are neither a class nor ignored."""
    files, values = [], set()
    for index, mask in survey.index_masks:
        wrong = [] if index in survey.binary_masks else survey.list_wrong_values(mask)
        if wrong and not mask.is_interpolated and not survey.pairs[index].is_swapped:
            values.update(wrong)
            files.append(survey.found_mask(index, shorten(wrong)))
    if not files:
        return []
    advice = describe_wrong_values(sorted(values), len(survey.classes), survey.ignore_index)
    summary = f"{len(files)} of {len(survey.pairs)} masks: {advice}"
    return build_findings("values", summary, files, values=sorted(values))


def check_object_ids(survey: Survey) -> list[Finding]:
    """Find masks of object ids instead of classes."""
    files = []
    for index in survey.id_masks:
        mask = survey.pairs[index].mask
        assert mask is not None
        values = (mask.values or mask.grey_values or {}).keys() - {0, survey.ignore_index}
        files.append(survey.found_mask(index, f"{len(values)} values"))
    summary = (
        f"{len(files)} of {len(survey.pairs)} masks: each value is one connected region, and the "
        "number of values differs from file to file."
    )
    return build_findings("object-ids", summary, files)
