"""Dataset checks and repair."""

from atrous.doctor.doctor import CheckReport, check_dataset
from atrous.doctor.findings import Finding
from atrous.doctor.kinds import KINDS
from atrous.doctor.repair import RepairReport, repair_dataset

__all__ = ["KINDS", "CheckReport", "Finding", "RepairReport", "check_dataset", "repair_dataset"]
