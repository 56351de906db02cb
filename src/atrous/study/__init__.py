"""Studies: tables of recipes trained with equal budgets and compared."""

from atrous.study.definition import Study, StudyRun, list_studies, load_study
from atrous.study.runner import RunOutcome, run_study
from atrous.study.summary import StudyRow, StudySummary, render_study_page, summarize

__all__ = [
    "RunOutcome",
    "Study",
    "StudyRow",
    "StudyRun",
    "StudySummary",
    "list_studies",
    "load_study",
    "render_study_page",
    "run_study",
    "summarize",
]
