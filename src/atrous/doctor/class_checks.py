"""Checks of the classes: in which splits they occur, and how often."""

from collections.abc import Iterable

from atrous.classes import IGNORE_INDEX
from atrous.data.palettes import CITYSCAPES_IDS
from atrous.doctor.findings import Finding, build_findings
from atrous.doctor.survey import Survey
from atrous.doctor.value_tables import ValueTable, find_value_table
from atrous.errors import shorten

_MIN_IMBALANCE = 200
_RENUMBERED = ("value-gaps", "label-ids", "counted-from-one")


def check_classes(survey: Survey) -> list[Finding]:
    """Find class numbers with gaps, and classes that occur in some splits only, or nowhere."""
    used = _list_used(survey, survey.splits)
    table = find_value_table(survey)
    findings = []
    if len(used) == 1 and not survey.binary_masks:
        findings += build_findings("single-class", f"Only '{_name(survey, used)}' occurs.")
    if table is not None and table.code in _RENUMBERED:
        return findings + _describe_values(survey, table)
    if not used or survey.binary_masks or survey.id_masks:
        return findings
    if unused := set(range(len(survey.learned))) - used:
        ignored = f"; {survey.ignore_index} is the ignore index" * (survey.ignore_index in unused)
        findings += build_findings("class-unused", f"{_name(survey, unused)}{ignored}.")
    return findings + _find_missing_classes(survey)


def _describe_values(survey: Survey, table: ValueTable) -> list[Finding]:
    values = survey.list_values()
    summary = f"{len(values)} values occur ({shorten(values, 12)}); "
    if table.code == "label-ids":
        summary += f"{len(set(values) & CITYSCAPES_IDS.keys())} of them are among the 19 classes."
    elif survey.given is not None:
        summary += f"the {len(table.classes)} classes are {shorten(table.classes.names)}."
    else:
        summary += f"that makes {values[-1] + 1} classes."
    if any(survey.ignore_index in (mask.values or {}) for _, mask in survey.index_masks):
        summary += f" {survey.ignore_index} occurs too and is ignored."
    return build_findings(table.code, summary, values=values)


def _find_missing_classes(survey: Survey) -> list[Finding]:
    """Find classes that occur only in training or only in held-out splits."""
    held_out = _list_used(survey, survey.held_out_splits)
    parts, missing = [], set()
    for split in survey.train_splits:
        if only := held_out - _list_used(survey, [split]):
            missing |= only
            parts.append(f"'{split}' never shows {_name(survey, only)}")
    chosen = survey.list_members(survey.held_out_splits)
    files = [
        survey.found_mask(index, _name(survey, here))
        for index, pixels in survey.class_pixels
        if index in chosen and (here := missing & pixels.keys())
    ]
    findings = build_findings("class-only-in-val", "; ".join(parts) + ".", files)
    trained = _list_used(survey, survey.train_splits)
    parts = [
        f"'{split}' has no {_name(survey, never)}"
        for split in survey.held_out_splits
        if survey.members[split] and (never := trained - _list_used(survey, [split]))
    ]
    return findings + (build_findings("class-not-in-val", "; ".join(parts) + ".") if parts else [])


def check_imbalance(survey: Survey) -> list[Finding]:
    """Find training splits in which one class has far more pixels than another."""
    parts = []
    for split in survey.train_splits if not survey.id_masks else ():
        pixels = survey.count_pixels([split]).pixels
        if (ratio := compute_imbalance(pixels) or 0) >= _MIN_IMBALANCE:
            most = _name(survey, [pixels.index(max(pixels))])
            rarest = _name(survey, [pixels.index(min(filter(None, pixels)))])
            parts.append(f"'{split}': {most} has {ratio:,.0f} times the pixels of {rarest}")
    return build_findings("imbalance", "; ".join(parts) + ".") if parts else []


def compute_imbalance(pixels: list[int]) -> float | None:
    """Return most over fewest pixels of the classes that occur; None below two classes."""
    present = [count for count in pixels if count]
    return max(present) / min(present) if len(present) > 1 else None


def _list_used(survey: Survey, splits: Iterable[str]) -> set[int]:
    """Return the classes that occur in some splits; interpolated masks do not count."""
    clean = {index for index, mask in survey.index_masks if not mask.is_interpolated}
    clean &= survey.list_members(splits)
    found = set().union(*(pixels for index, pixels in survey.class_pixels if index in clean))
    return found - {IGNORE_INDEX}


def _name(survey: Survey, classes: Iterable[int]) -> str:
    return shorten([survey.learned.names[index] for index in sorted(classes)], 24)
