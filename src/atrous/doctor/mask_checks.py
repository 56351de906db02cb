"""Checks of what the masks hold: kinds of pixels, values, colours."""

from collections import Counter, defaultdict

from atrous.classes import IGNORE_INDEX, Color, voc_color
from atrous.data.mask_values import describe_wrong_values
from atrous.data.sample import shorten
from atrous.doctor.facts import MaskFacts
from atrous.doctor.file_checks import is_swapped
from atrous.doctor.findings import Finding, build_finding
from atrous.doctor.palettes import (
    BLACK,
    ColorTable,
    build_grey_table,
    build_table,
    match_table,
)
from atrous.doctor.survey import Survey

_MIN_RAMPS = 16
_RAMP_SHARE = 0.1
_MAX_LISTED = 24


def check_color_masks(survey: Survey) -> list[Finding]:
    """Find masks of colours, and the table that they follow."""
    files = []
    for index, mask in list_color_masks(survey):
        number = "more than 256" if mask.colors is None else len(mask.colors)
        files.append(survey.found_mask(index, f"{mask.mode}, {number} colours"))
    if not files:
        return []
    share = f"{len(files)} of {len(survey.pairs)} masks"
    table = find_color_table(survey)
    if table is None:
        return [
            build_finding("color-masks", f"{share}; {_explain_colors(survey)}", files, table=None)
        ]
    used = {color for _, mask in list_color_masks(survey) for color in mask.colors or {}}
    colors = {
        format_color(color): index
        for color, index in sorted(table.indices.items(), key=lambda item: item[1])
        if color in used
    }
    listed = shorten([f"{color} = {index}" for color, index in colors.items()], _MAX_LISTED)
    summary = f"{share}; the colours are those of {table.name}: {listed}."
    return [build_finding("color-masks", summary, files, table=table.name, colors=colors)]


def _explain_colors(survey: Survey) -> str:
    """Say why no table has the colours of the masks, and what is needed."""
    masks = [mask for _, mask in list_color_masks(survey)]
    if any(mask.colors is None for mask in masks):
        return "too many colours for a table: blurred or compressed."
    number = len({color for mask in masks for color in mask.colors or {}})
    return (
        f"no table explains their {number} colours. If they are classes, list them with their "
        "colours in classes.toml; if they number objects, as instance and panoptic ids do, write "
        "the class of each object instead, from the annotations beside the masks."
    )


def list_color_masks(survey: Survey) -> list[tuple[int, MaskFacts]]:
    """Return (pair, mask) of the masks of colours without loss."""
    return [
        (index, pair.mask)
        for index, pair in enumerate(survey.pairs)
        if pair.mask is not None
        and pair.mask.values is None
        and not pair.mask.is_jpeg
        and not is_swapped(pair)
    ]


def find_color_table(survey: Survey) -> ColorTable | None:
    """Return the table of the masks of colours, None if there is none that fits."""
    masks = [mask for _, mask in list_color_masks(survey) if mask.colors is not None]
    given = build_given_table(survey)
    greys = {value for mask in masks for value in mask.grey_values or {}}
    is_given = given is not None and all((v, v, v) in given.indices for v in greys)
    if greys and all(mask.grey_values is not None for mask in masks) and not is_given:
        if survey.id_masks:
            return None
        used = {value for _, mask in survey.index_masks for value in survey.list_classes(mask)}
        is_binary = bool(list_binary_masks(survey))
        table = build_grey_table(
            greys, used - {IGNORE_INDEX}, survey.ignore_index, survey.given, is_binary=is_binary
        )
        if table is not None or survey.index_masks:
            return table
    return match_table([mask.colors or {} for mask in masks], given) if masks else None


def build_given_table(survey: Survey) -> ColorTable | None:
    """Return the data set's own colours; what has none of them and is black or VOC's is void."""
    if survey.given is None or not survey.has_table:
        return None
    return build_table("the class list", survey.given, (BLACK, voc_color(IGNORE_INDEX)))


def check_palette_order(survey: Survey) -> list[Finding]:
    """Find palette masks whose colours are classes while their indices are not."""
    chosen = list_disordered_masks(survey)
    if not chosen:
        return []
    table = find_palette_table(survey)
    files = []
    for index, mask in chosen:
        colors = [f"{value} is {format_color(color)}" for value, color in mask.palette.items()]
        files.append(survey.found_mask(index, shorten(colors, 5)))
    follows = "no table that fits" if table is None else table.name
    summary = f"{len(files)} of {len(survey.pairs)} masks; their colours follow {follows}, their "
    summary += "indices do not."
    return [build_finding("palette-order", summary, files)]


def find_palette_table(survey: Survey) -> ColorTable | None:
    """Return the table of the palette masks whose indices are out of order."""
    masks = []
    for _, mask in list_disordered_masks(survey):
        colors: Counter[Color] = Counter()
        for value, color in mask.palette.items():
            colors[color] += (mask.values or {})[value]
        masks.append(colors)
    return match_table(masks, build_given_table(survey)) if masks else None


def list_disordered_masks(survey: Survey) -> list[tuple[int, MaskFacts]]:
    """Return (pair, mask) of the palette masks whose indices contradict their colours.

    Held against the data set's own colours where it has any; else all are out of order if one
    colour has several indices.
    """
    masks = [(index, mask) for index, mask in survey.index_masks if mask.palette]
    given = build_given_table(survey)
    if given is not None:
        return [(index, mask) for index, mask in masks if _contradicts(mask, given)]
    places: dict[Color, set[int]] = defaultdict(set)
    for _, mask in masks:
        for value, color in mask.palette.items():
            places[color].add(value)
    is_disordered = any(len(values) > 1 for color, values in places.items())
    return masks if is_disordered else []


def _contradicts(mask: MaskFacts, table: ColorTable) -> bool:
    known = {value: table.indices.get(color) for value, color in mask.palette.items()}
    if None in known.values():
        return False
    return any(index not in (value, IGNORE_INDEX) for value, index in known.items())


def check_jpeg_masks(survey: Survey) -> list[Finding]:
    """Find masks that were saved with loss."""
    files = [
        survey.found_mask(index)
        for index, pair in enumerate(survey.pairs)
        if pair.mask is not None and pair.mask.is_jpeg and not is_swapped(pair)
    ]
    if not files:
        return []
    return [build_finding("jpeg-masks", f"{len(files)} of {len(survey.pairs)} masks.", files)]


def check_binary_masks(survey: Survey) -> list[Finding]:
    """Find 0/255 masks, in which 255 is the foreground."""
    with_colors = {index for index, _ in survey.grey_masks}
    binary = [index for index in list_binary_masks(survey) if index not in with_colors]
    files = [survey.found_mask(index) for index in binary]
    if not files:
        return []
    summary = f"{len(files)} of {len(survey.pairs)} masks, with 255 for the foreground."
    return [build_finding("binary-masks", summary, files)]


def list_binary_masks(survey: Survey) -> list[int]:
    """Return the pairs whose 255 means the foreground, of indices or of grey colours.

    It does where no mask has any value but 0, 1, 255 and another ignore index, some have both 0 and
    255, and none has 1 and 255: 255 is nowhere beside the foreground, so it is the foreground.
    """
    kinds = {
        index: set(mask.values or mask.grey_values or {})
        - ({survey.ignore_index} - {0, 1, IGNORE_INDEX})
        for index, mask in [*survey.index_masks, *survey.grey_masks]
    }
    if any(
        not values <= {0, 1, IGNORE_INDEX} or {1, IGNORE_INDEX} <= values
        for values in kinds.values()
    ):
        return []
    if {0, IGNORE_INDEX} not in kinds.values():
        return []
    return [index for index, values in kinds.items() if IGNORE_INDEX in values]


def is_interpolated(mask: MaskFacts) -> bool:
    """Tell whether many edge pixels are ramps: 0 to 0.03 as drawn, 0.25 to 0.77 interpolated."""
    return mask.num_ramps >= max(_MIN_RAMPS, _RAMP_SHARE * mask.num_edges)


def check_interpolated(survey: Survey) -> list[Finding]:
    """Find masks that were resized as if they were images."""
    files = [
        survey.found_mask(index, f"{mask.num_ramps} edge pixels between two values")
        for index, mask in survey.index_masks
        if is_interpolated(mask) and not is_swapped(survey.pairs[index])
    ]
    if not files:
        return []
    return [build_finding("interpolated", f"{len(files)} of {len(survey.pairs)} masks.", files)]


def check_values(survey: Survey) -> list[Finding]:
    """Find masks with values that are neither a class nor ignored."""
    files, values, binary = [], set(), list_binary_masks(survey)
    for index, mask in survey.index_masks:
        wrong = [] if index in binary else survey.list_wrong_values(mask)
        if wrong and not is_interpolated(mask) and not is_swapped(survey.pairs[index]):
            values.update(wrong)
            files.append(survey.found_mask(index, shorten(wrong)))
    if not files:
        return []
    told = describe_wrong_values(sorted(values), len(survey.classes), survey.ignore_index)
    summary = f"{len(files)} of {len(survey.pairs)} masks: {told}"
    return [build_finding("values", summary, files, values=sorted(values))]


def check_object_ids(survey: Survey) -> list[Finding]:
    """Find masks that number objects, not classes."""
    files = []
    for index in survey.id_masks:
        mask = survey.pairs[index].mask
        assert mask is not None
        values = (mask.values or mask.grey_values or {}).keys() - {0, survey.ignore_index}
        files.append(survey.found_mask(index, f"{len(values)} values"))
    if not files:
        return []
    summary = f"{len(files)} of {len(survey.pairs)} masks: each value lies in one piece, and how "
    summary += "many there are differs from file to file."
    return [build_finding("object-ids", summary, files)]


def check_void(survey: Survey) -> list[Finding]:
    """Find masks without any class."""
    if list_binary_masks(survey):
        return []
    files = [
        survey.found_mask(index)
        for index, mask in survey.index_masks
        if set(mask.values or {}) <= {survey.ignore_index}
    ]
    if not files:
        return []
    return [build_finding("all-void", f"{len(files)} of {len(survey.pairs)} masks.", files)]


def format_color(color: Color) -> str:
    """Write a colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*color)
