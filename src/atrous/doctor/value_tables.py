"""What mask values mean as class indices from 0, for masks that count their classes otherwise."""

from collections.abc import Set
from dataclasses import dataclass

from atrous.classes import IGNORE_INDEX, Classes, build_classes, voc_color
from atrous.data.palettes import BLACK, CITYSCAPES, CITYSCAPES_IDS, MAX_CITYSCAPES_ID
from atrous.doctor.survey import Survey

_MAX_GREYS = 64
_MIN_GAP_RATIO = 2


@dataclass(frozen=True)
class ValueTable:
    """The class of each mask value."""

    code: str  # of the finding that it repairs
    indices: dict[int, int]  # by value; 255 for ignored pixels
    classes: Classes


def find_value_table(survey: Survey) -> ValueTable | None:
    """Return the table of masks of indices or grey colours whose values are not class indices.

    None if they are, number objects or mean nothing known. Grey colours alone that are class
    indices have the code `color-masks`.
    """
    table = None if survey.id_masks else _find_table(survey)
    if table is not None and survey.ignore_index not in table.indices:
        table.indices[survey.ignore_index] = IGNORE_INDEX
    return table


def _find_table(survey: Survey) -> ValueTable | None:
    given, has_grey = survey.given, bool(survey.grey_masks)
    if survey.binary_masks:
        names = ["background", "foreground"]
        classes = given or build_classes(names, [BLACK, (255, 255, 255)] if has_grey else None)
        return ValueTable("binary-masks", {0: 0, 1: 1, IGNORE_INDEX: 1}, classes)
    values, listed = survey.list_values(), survey.class_indices
    is_plain = all(value == index for value, index in listed.items())
    if not values or (is_plain and not 0 <= values[0] <= values[-1] < IGNORE_INDEX):
        return None
    if given is None:
        return _find_unnamed(survey, values, has_grey)
    if listed.keys() >= set(values):
        if is_plain and values[0] > 0 and survey.ignore_index == 0:
            rest = build_classes(given.names[1:], given.colors[1:])
            return ValueTable("class-unused", {v: v - 1 for v in range(1, len(given))}, rest)
        code = "color-masks" if is_plain else "value-gaps"
        return ValueTable(code, dict(listed), given) if has_grey or not is_plain else None
    if is_plain and values[0] > 0 and values[-1] == len(given):
        return ValueTable("counted-from-one", {v: v - 1 for v in range(1, len(given) + 1)}, given)
    return None


def _find_unnamed(survey: Survey, values: list[int], has_grey: bool) -> ValueTable | None:
    stems = [survey.pairs[index].mask_path.stem.lower() for index, _ in survey.index_masks]
    are_ids = bool(stems) and all(stem.endswith("_labelids") for stem in stems)
    if are_ids and values[-1] <= MAX_CITYSCAPES_ID:
        ignored = dict.fromkeys(range(-1, MAX_CITYSCAPES_ID + 1), IGNORE_INDEX)
        return ValueTable("label-ids", ignored | CITYSCAPES_IDS, CITYSCAPES)
    if len(values) > 1 and (values[0] > 0 or has_wide_gaps(set(values))):
        if has_grey and has_wide_gaps(set(values)):
            return None  # more likely colours
        classes = build_classes([str(v) for v in values], [voc_color(v) for v in values])
        return ValueTable("value-gaps", {v: i for i, v in enumerate(values)}, classes)
    num_classes = values[-1] + 1
    if not has_grey or num_classes > (IGNORE_INDEX if survey.index_masks else _MAX_GREYS):
        return None
    classes = build_classes([str(value) for value in range(num_classes)])
    return ValueTable("color-masks", {value: value for value in range(num_classes)}, classes)


def has_wide_gaps(labels: Set[int]) -> bool:
    """Return whether class numbers have such gaps that they are probably not class numbers."""
    return bool(labels) and max(labels) >= _MIN_GAP_RATIO * len(labels) + 1
