"""Checks of images that are not 8-bit grey or RGB: bands, levels, pixels without data."""

from collections import defaultdict

import numpy as np

from atrous.data.band_statistics import compute_band_statistics, find_band_problems
from atrous.doctor.findings import Finding, build_findings
from atrous.doctor.survey import Survey
from atrous.images.arrays import describe_bands

_EIGHT_BIT = describe_bands(None)


def check_bands(survey: Survey) -> list[Finding]:
    """Find bands that differ between files, are constant or use few levels, and missing pixels."""
    by_kind: dict[str, list[int]] = defaultdict(list)
    for index, image in survey.images:
        by_kind[image.bands.kind if image.bands else _EIGHT_BIT].append(index)
    if set(by_kind) <= {_EIGHT_BIT}:
        return []
    facts = {index: image.bands for index, image in survey.images if image.bands}
    missing = {index: one.share_missing for index, one in facts.items() if one.share_missing}
    files = [survey.found_image(i, f"{share:.1%} of its pixels") for i, share in missing.items()]
    findings = build_findings("nodata", f"{len(files)} of {len(facts)} images.", files)
    if len(by_kind) > 1:
        common = max(by_kind, key=lambda kind: len(by_kind[kind]))
        others = {kind: indices for kind, indices in by_kind.items() if kind != common}
        files = [survey.found_image(i, kind) for kind in others for i in others[kind]]
        summary = (
            f"{len(by_kind[common])} of {len(survey.images)} images have {common}; others not."
        )
        return findings + build_findings("bands-differ", summary, files)
    trained = survey.list_members(survey.train_splits) or set(facts)
    samples = np.concatenate([one.samples for index, one in facts.items() if index in trained])
    if not len(samples):
        return findings
    given = survey.ranges if survey.ranges and len(survey.ranges) == samples.shape[1] else None
    ranges = compute_band_statistics(samples, given).ranges
    problems: dict[str, list[str]] = defaultdict(list)
    for code, sentence in find_band_problems(samples, ranges):
        problems[code].append(sentence)
    for code, sentences in problems.items():
        findings += build_findings(code, " ".join(sentences))
    return findings
