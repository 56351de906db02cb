"""HTML page of `atrous check`: findings with examples, and the classes of each split."""

from pathlib import Path
from typing import Any

from atrous.doctor import KINDS, CheckReport, Finding
from atrous.doctor.doctor import SplitCount
from atrous.doctor.examples import render_examples
from atrous.doctor.file_checks import describe_crop
from atrous.doctor.survey import Survey
from atrous.report.html import render_page

_MAX_FILES = 200
_MAX_SPLITS = 20


def render_check_page(report: CheckReport) -> str:
    """Return the report as a self-contained HTML page."""
    survey = report.survey
    found = {finding.code for finding in report.findings}
    splits = list(report.splits.items())
    return render_page(
        "check.html",
        name=Path(survey.root).resolve().name,
        verdict=report.describe_verdict(),
        facts=[
            ("Layout", survey.layout),
            ("Pairs", f"{report.num_pairs:,}"),
            ("Classes", len(survey.learned)),
            ("Ignore index", survey.ignore_index),
            ("Training", describe_crop(survey.data)),
            ("Time", f"{report.seconds:.0f} s"),
        ],
        selection=survey.describe_selection(),
        findings=[_describe(finding, survey) for finding in report.findings],
        splits=[_describe_split(name, count) for name, count in splits[:_MAX_SPLITS]],
        num_more_splits=max(0, len(splits) - _MAX_SPLITS),
        absent=[kind.title for code, kind in KINDS.items() if code not in found],
    )


def _describe(finding: Finding, survey: Survey) -> dict[str, Any]:
    return finding.to_json() | {
        "repaired": finding.kind.repaired,
        "files": finding.files[:_MAX_FILES],
        "examples": render_examples(finding, survey),
    }


def _describe_split(name: str, count: SplitCount) -> dict[str, Any]:
    summary = f"{count.num_images:,} pairs, {100 * count.ignored_share:.1f} % of the pixels ignored"
    if count.imbalance is not None:
        summary += f"; the most frequent class has {count.imbalance:,.0f} times as many pixels "
        summary += "as the rarest class that occurs"
    largest = max((entry.share for entry in count.classes), default=0) or 1
    return {
        "name": name,
        "summary": summary + ".",
        "classes": [
            vars(entry)
            | {"text": f"{100 * entry.share:.2f} %", "width": round(100 * entry.share / largest, 1)}
            for entry in count.classes
        ],
    }
