"""Checks of mask contents: kind of pixels, values, colours."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from atrous.classes import IGNORE_INDEX, Color
from atrous.data.mask_values import describe_wrong_values
from atrous.data.palettes import ColorTable, format_color, list_own_colors, match_table
from atrous.doctor.facts import MaskFacts
from atrous.doctor.findings import Finding, build_findings
from atrous.doctor.survey import Survey
from atrous.doctor.value_tables import find_value_table
from atrous.errors import shorten

_MAX_LISTED = 24


def check_color_masks(survey: Survey) -> list[Finding]:
    """Find masks of colours, and the colour table that explains them."""
    files = []
    for index, mask in survey.color_masks:
        number = "more than 256" if mask.colors is None else len(mask.colors)
        files.append(survey.found_mask(index, f"{mask.mode}, {number} colours"))
    used = {color for _, mask in survey.color_masks for color in mask.colors or {}}
    summary = f"{len(files)} of {len(survey.pairs)} masks; "
    table = find_color_table(survey)
    if table is None:
        summary += _describe_no_table(survey, used)
        return build_findings("color-masks", summary, files, table=None)
    colors = {
        format_color(color): index
        for color, index in sorted(table.indices.items(), key=lambda item: item[1])
        if color in used
    }
    listed = shorten([f"{color} = {index}" for color, index in colors.items()], _MAX_LISTED)
    summary += f"the colours are those of {table.name}: {listed}."
    return build_findings("color-masks", summary, files, table=table.name, colors=colors)


def check_palette_order(survey: Survey) -> list[Finding]:
    """Find palette masks whose colours follow the classes, but whose indices do not."""
    files = []
    for index, mask in _list_disordered_masks(survey):
        colors = [f"{value} is {format_color(color)}" for value, color in mask.palette.items()]
        files.append(survey.found_mask(index, shorten(colors, 5)))
    table = find_color_table(survey)
    reason = ask_for_meaning(survey) or "their colours follow no table that fits."
    if table is not None:
        reason = f"their colours follow {table.name}, their indices do not."
    summary = f"{len(files)} of {len(survey.pairs)} masks; {reason}"
    return build_findings("palette-order", summary, files, table=table and table.name)


def _describe_no_table(survey: Survey, used: set[Color]) -> str:
    if question := ask_for_meaning(survey):
        return question
    if any(mask.colors is None for _, mask in survey.color_masks):
        return "too many colours for a table: blurred or compressed."
    return (
        f"no table explains their {len(used)} colours. If they are classes, list them in a file "
        "for --names; if they number objects, as instance and panoptic ids do, "
        f"`atrous import {survey.root} OUT --format instances --class NAME` makes one class of "
        "all objects."
    )


def ask_for_meaning(survey: Survey) -> str | None:
    """Return a text that asks what colours, or values, of masks mean; None if that is known.

    Object ids, and the many colours of blurred masks, have no meaning to ask for.
    """
    if survey.id_masks:
        return None
    unlisted = sorted(set(survey.list_values()) - survey.class_indices.keys())
    if survey.names is not None and unlisted and find_value_table(survey) is None:
        return f"the file of --names does not list the values {shorten(unlisted)}. Add them."
    masks = [] if find_color_table(survey) else list(list_colored_masks(survey).values())
    known = survey.color_table.indices if survey.color_table else {}
    colors = {c: share for c, share in list_own_colors(masks).items() if c not in known}
    listed = [f"{r},{g},{b} ({100 * share:.2g} %)" for (r, g, b), share in colors.items()]
    text = (
        f"no class list or known table has these colours: {shorten(listed, _MAX_LISTED)}. Write "
        "what they mean to a file, one line per class such as `road,128,64,128`, and give it: "
        f"`atrous check {survey.root} --names FILE --fix DIR`."
    )
    return text if colors else None


def find_color_table(survey: Survey) -> ColorTable | None:
    """Return the table of the masks whose colours are classes; None if no table fits.

    Without given classes, no table fits if there are masks of indices too: which index a colour
    has there is unknown.
    """
    masks = list_colored_masks(survey)
    if survey.grey_masks:
        table = find_value_table(survey)
        if table is not None:
            name = "black and white" if table.code == "binary-masks" else "grey values"
            indices = {(v, v, v): index for v, index in table.indices.items()}
            return ColorTable(name, indices, table.classes)
        if survey.id_masks:
            return None
    has_others = any(index not in masks for index, _ in survey.index_masks)
    if not masks or (has_others and survey.given is None):
        return None
    return match_table(list(masks.values()), survey.color_table)


def list_colored_masks(survey: Survey) -> dict[int, Mapping[Color, int]]:
    """Return the pixels of each colour, by pair, of masks whose colours are classes.

    These are the masks of colours, and palette masks whose indices are out of order.
    """
    masks: dict[int, Mapping[Color, int]] = {}
    for index, mask in survey.color_masks:
        if mask.colors is not None:
            masks[index] = mask.colors
    for index, mask in _list_disordered_masks(survey):
        colors = masks[index] = Counter[Color]()
        for value, color in mask.palette.items():
            colors[color] += (mask.values or {})[value]
    return masks


def _list_disordered_masks(survey: Survey) -> list[tuple[int, MaskFacts]]:
    """Return (pair index, mask) of the palette masks whose indices contradict the colour table.

    Without a table, all palette masks are out of order if any colour has several indices.
    """
    masks = [(index, mask) for index, mask in survey.index_masks if mask.palette]
    given = survey.color_table
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
    table = find_value_table(survey)
    known = {*survey.class_indices, survey.ignore_index, *(table.indices if table else ())}
    for index, mask in survey.index_masks:
        wrong = sorted((mask.values or {}).keys() - known)
        if wrong and not mask.is_interpolated and not survey.pairs[index].is_swapped:
            values.update(wrong)
            files.append(survey.found_mask(index, shorten(wrong)))
    if not files:
        return []
    num_classes = len(survey.classes)
    advice = ask_for_meaning(survey) or describe_wrong_values(
        sorted(values), num_classes, survey.ignore_index
    )
    summary = f"{len(files)} of {len(survey.pairs)} masks: {advice}"
    if values == {num_classes} and survey.ignore_index != 0:
        summary += (
            f" If 0 marks ignored pixels and the classes are 1 to {num_classes}, add "
            "`--ignore-index 0`, with which `--fix` moves the classes to 0."
        )
    return build_findings("values", summary, files, values=sorted(values))


def check_object_ids(survey: Survey) -> list[Finding]:
    """Find masks of object ids instead of classes."""
    files = []
    for index, mask in survey.masks:
        if index in survey.id_masks:
            values = (mask.values or mask.grey_values or {}).keys() - {0, survey.ignore_index}
            files.append(survey.found_mask(index, f"{len(values)} values"))
    summary = (
        f"{len(files)} of {len(survey.pairs)} masks: each value is one connected region, and the "
        "number of values differs from file to file."
    )
    return build_findings("object-ids", summary, files)
