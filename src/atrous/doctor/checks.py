"""All checks, in the order in which a report has their findings within a level."""

from collections.abc import Callable

from atrous.doctor import (
    class_checks,
    file_checks,
    look_checks,
    mask_checks,
    series_checks,
    split_checks,
)
from atrous.doctor.findings import Finding
from atrous.doctor.kinds import LEVELS
from atrous.doctor.survey import Survey

CHECKS: tuple[Callable[[Survey], list[Finding]], ...] = (
    split_checks.check_refused_splits,
    split_checks.check_unpaired,
    split_checks.check_same_stem,
    split_checks.check_listed_twice,
    file_checks.check_unreadable,
    file_checks.check_damaged_jpegs,
    file_checks.check_notes,
    file_checks.check_swapped,
    file_checks.check_sizes,
    file_checks.check_orientation,
    mask_checks.check_color_masks,
    mask_checks.check_palette_order,
    mask_checks.check_jpeg_masks,
    mask_checks.check_binary_masks,
    mask_checks.check_interpolated,
    mask_checks.check_object_ids,
    mask_checks.check_values,
    class_checks.check_value_gaps,
    class_checks.check_single_class,
    mask_checks.check_void,
    class_checks.check_absent_classes,
    split_checks.check_split_overlap,
    look_checks.check_duplicates,
    look_checks.check_near_duplicates,
    series_checks.check_shared_series,
    look_checks.check_alignment,
    look_checks.check_constant_images,
    look_checks.check_nearly_black,
    look_checks.check_sizes_for_crop,
    class_checks.check_imbalance,
    split_checks.check_unlabelled,
)


def run_checks(survey: Survey) -> list[Finding]:
    """Return the findings of all checks, errors first."""
    findings = [finding for check in CHECKS for finding in check(survey)]
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))
