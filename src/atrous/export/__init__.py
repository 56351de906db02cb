"""Trained models as files for other runtimes, each checked against its original."""

from atrous.export.export_model import ExportReport, export_model
from atrous.export.parity import GateResult, run_gate

__all__ = ["ExportReport", "GateResult", "export_model", "run_gate"]
