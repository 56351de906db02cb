"""Videos that run through training and validation, told by numbered names and by looks."""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from atrous.doctor.findings import Finding, FoundFile, build_findings, join_parts
from atrous.doctor.prints import compute_likeness
from atrous.doctor.survey import Survey

_NUMBERED = re.compile(r"(.*?)(\d+)")
_MIN_SCORED = 10
_MIN_LIKENESS = 0.5
_MIN_DEVIATIONS = 3.0


def check_shared_series(survey: Survey) -> list[Finding]:
    """Find numbered series, such as frames of one video, of which both kinds of split have a part.

    Numbers alone do not make a video. So it is held against looks: where order means nothing, the
    training image with the nearest number is as often among the likelier half as not. A series is
    reported if it is that clearly more often (by 3 standard deviations of chance) and the two are
    typically alike (correlation of 0.5). In CamVid that is 82 of 101 images, in VOC every second.
    """
    findings = []
    trained = _group_by_series(survey, survey.train_splits)
    for split in survey.held_out_splits:
        parts: list[str] = []
        files: list[FoundFile] = []
        for series, scored in _group_by_series(survey, [split]).items():
            neighbours = trained.get(series, {})
            if len(scored) < _MIN_SCORED or len(neighbours) < _MIN_SCORED:
                continue
            nearest = _find_nearest(survey, scored, neighbours)
            if nearest:
                name = f"'{series}'" if series else "Names that are numbers"
                parts.append(f"{name}: {len(scored)} of '{split}', {len(neighbours)} trained on")
                files += nearest
        findings += build_findings("series-across", join_parts(parts), files)
    return findings


def _group_by_series(survey: Survey, splits: list[str]) -> dict[str, dict[int, int]]:
    """Return series → number → pair, of the images whose names end in a number."""
    series: dict[str, dict[int, int]] = defaultdict(dict)
    for index in survey.list_members(splits):
        image = survey.pairs[index].image
        match = _NUMBERED.fullmatch(Path(survey.pairs[index].image_path).stem)
        if match and image is not None and not image.is_constant:
            series[match[1].rstrip("_- ")][int(match[2])] = index
    return series


def _find_nearest(
    survey: Survey, scored: dict[int, int], neighbours: dict[int, int]
) -> list[FoundFile]:
    """Return each scored image with its neighbour by number, or nothing if it is no video."""
    numbers = np.array(sorted(neighbours))
    likeness = compute_likeness(
        _list_thumbnails(survey, list(scored.values())),
        _list_thumbnails(survey, [neighbours[number] for number in numbers.tolist()]),
    )
    nearest = np.abs(numbers[None] - np.array(list(scored))[:, None]).argmin(axis=1)
    found = likeness[np.arange(len(nearest)), nearest]
    num_liker = int((found > np.median(likeness, axis=1)).sum())
    deviations = (num_liker - len(found) / 2) / (np.sqrt(len(found)) / 2)
    if deviations < _MIN_DEVIATIONS or np.median(found) < _MIN_LIKENESS:
        return []
    others = [neighbours[number] for number in numbers[nearest].tolist()]
    return [
        survey.found_image(
            index, f"next to {survey.relative(survey.pairs[other].image_path)}", other
        )
        for index, other in zip(scored.values(), others, strict=True)
    ]


def _list_thumbnails(survey: Survey, indices: list[int]) -> list[bytes]:
    images = (survey.pairs[index].image for index in indices)
    return [image.thumbnail for image in images if image is not None]
