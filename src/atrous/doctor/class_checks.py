"""Checks of the classes: in which splits they occur, and how often."""

from collections.abc import Iterable

from atrous.data.sample import shorten
from atrous.doctor.findings import Finding, build_finding, build_findings
from atrous.doctor.palettes import has_wide_gaps
from atrous.doctor.survey import Survey

_MIN_IMBALANCE = 200


def check_value_gaps(survey: Survey) -> list[Finding]:
    """Find class numbers with wide gaps, where no class list says how many classes there are."""
    used = _list_used(survey, survey.splits)
    if not _is_sparse(survey, used):
        return []
    summary = f"{len(used)} values occur, {shorten(used, 12)}; that makes {used[-1] + 1} classes."
    if any(survey.ignore_index in (mask.values or {}) for _, mask in survey.index_masks):
        summary += f" {survey.ignore_index} occurs too and is ignored."
    return [build_finding("value-gaps", summary, values=used)]


def check_single_class(survey: Survey) -> list[Finding]:
    """Find datasets in which only one class occurs."""
    used = _list_used(survey, survey.splits)
    if len(used) != 1 or survey.binary_masks:
        return []
    return [build_finding("single-class", f"Only '{survey.classes.names[used[0]]}' occurs.")]


def check_absent_classes(survey: Survey) -> list[Finding]:
    """Find classes that occur only in training, only in validation, or nowhere."""
    used = _list_used(survey, survey.splits)
    if not used or survey.binary_masks or survey.id_masks or _is_sparse(survey, used):
        return []
    findings = []
    held_out = set(_list_used(survey, survey.held_out_splits))
    parts, missing = [], set()
    for split in survey.train_splits:
        if only := held_out - set(_list_used(survey, [split])):
            missing |= only
            parts.append(f"'{split}' never shows {_name(survey, only)}")
    chosen = set(survey.list_members(survey.held_out_splits))
    files = [
        survey.found_mask(index, _name(survey, here))
        for index, mask in survey.index_masks
        if index in chosen and (here := missing & set(mask.values or {}))
    ]
    findings += build_findings("class-only-in-val", "; ".join(parts) + ".", files)
    trained = set(_list_used(survey, survey.train_splits))
    parts = [
        f"'{split}' has no {_name(survey, never)}"
        for split in survey.held_out_splits
        if survey.members[split] and (never := trained - set(_list_used(survey, [split])))
    ]
    if parts:
        findings.append(build_finding("class-not-in-val", "; ".join(parts) + "."))
    if unused := set(range(len(survey.classes))) - set(used):
        findings.append(build_finding("class-unused", f"{_name(survey, unused)}."))
    return findings


def check_imbalance(survey: Survey) -> list[Finding]:
    """Find training splits in which one class has far more pixels than another."""
    parts = []
    for split in survey.train_splits if not survey.id_masks else ():
        pixels = survey.count_pixels([split]).pixels
        ratio = compute_imbalance(pixels)
        if ratio is not None and ratio >= _MIN_IMBALANCE:
            most = _name(survey, [pixels.index(max(pixels))])
            rarest = _name(survey, [pixels.index(min(filter(None, pixels)))])
            parts.append(f"'{split}': {most} has {ratio:,.0f} times the pixels of {rarest}")
    return [build_finding("imbalance", "; ".join(parts) + ".")] if parts else []


def compute_imbalance(pixels: list[int]) -> float | None:
    """Return most over fewest pixels of the classes that occur; None below two classes."""
    present = [count for count in pixels if count]
    return max(present) / min(present) if len(present) > 1 else None


def _list_used(survey: Survey, splits: Iterable[str]) -> list[int]:
    """Return the sorted classes that occur in some splits; interpolated masks do not count."""
    chosen = set(survey.list_members(splits))
    return sorted(
        {
            value
            for index, mask in survey.index_masks
            if index in chosen and not mask.is_interpolated
            for value in survey.list_classes(mask)
            if value < len(survey.classes)
        }
    )


def _is_sparse(survey: Survey, used: list[int]) -> bool:
    return survey.given is None and has_wide_gaps(set(used))


def _name(survey: Survey, classes: Iterable[int]) -> str:
    return shorten([survey.classes.names[index] for index in sorted(classes)], 24)
