"""The page of a study."""

from atrous.report.page import render_page
from atrous.study.summary import StudySummary


def render_study(summary: StudySummary) -> str:
    """Return a study as one HTML file that opens offline."""
    return render_page("study.html", summary=summary, study=summary.study)
