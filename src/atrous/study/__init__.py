"""Tables of recipes under equal budgets: run, resumed, compared."""

from atrous.study.definition import Study, StudyRun, list_studies, load_study
from atrous.study.runner import RunOutcome, run_study
from atrous.study.summary import StudyRow, StudySummary, summarize

__all__ = [
    "RunOutcome",
    "Study",
    "StudyRow",
    "StudyRun",
    "StudySummary",
    "list_studies",
    "load_study",
    "run_study",
    "summarize",
]
