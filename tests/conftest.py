"""Shared by all tests: where the real pictures are, if they are here at all."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets; the test is skipped on a machine that has none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ATROUS_DATA", default))
    if not (folder / "camvid").is_dir():
        pytest.skip(f"no real data at {folder}; set ATROUS_DATA to the folder that holds camvid")
    return folder
