"""Export of trained models to other runtimes, with a check against the original."""

from atrous.export.export_model import ExportReport, export_model
from atrous.export.gate import GateResult, run_gate

__all__ = ["ExportReport", "GateResult", "export_model", "run_gate"]
