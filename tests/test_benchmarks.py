"""The benchmark of accelerators, at sizes for a CPU."""

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path, capsys):
    runpy.run_path(str(SCRIPT))["main"](["--small", "--workers", "0", "--out", str(tmp_path)])
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["resume"] == {"equal": True}
    assert {row["images_per_s"] > 0 for row in figures["steps"].values()} == {True}
    assert sum(figures["kernels"].values()) == pytest.approx(1, abs=0.1)
    table = (tmp_path / "figures.md").read_text()
    assert table == capsys.readouterr().out
    assert table.count("\n| atrous, stride") == 3
