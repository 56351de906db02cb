"""HTML pages of runs, comparisons and data sets, each one file that opens offline."""

from atrous.report.run_report import save_run_report

__all__ = ["save_run_report"]
