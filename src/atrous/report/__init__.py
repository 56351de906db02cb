"""HTML pages of runs, comparisons and datasets, each a single file for offline use."""

from atrous.report.run_report import save_run_report

__all__ = ["save_run_report"]
