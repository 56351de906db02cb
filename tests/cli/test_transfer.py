"""Transfer as a person asks for it, and what is printed."""

import sys

import pytest

from atrous.cli.main import run
from atrous.data.shapes import write_shapes

TINY = [
    "--model", "deeplabv3plus_mobilenet_v3_large", "--for", "2it", "--size", "48",
    "--batch-size", "2", "--workers", "0", "--set", "model.decoder_channels=8",
]  # fmt: skip


@pytest.fixture
def atrous(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["atrous", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((captured.out + captured.err).split())

    return call


def test_freezing_and_features_are_said(atrous, tmp_path):
    write_shapes(tmp_path / "data", num_train=4, num_val=1, size_px=64)
    first = ["train", tmp_path / "data", *TINY]
    assert atrous(*first, "--out", tmp_path / "run")[0] == 0
    frozen = [*first, "--init", tmp_path / "run", "--freeze", "all-but-classifier"]
    code, output = atrous(*frozen, "--out", tmp_path / "frozen")
    assert code == 0
    assert "loaded backbone (" in output
    assert "Features of 4 images and their mirror images (all before the classifier)" in output
    assert "frozen/features, computed once" in output
    assert "Frozen part unchanged: sha256 " in output
    assert "(may be deleted now)" in output
    code, output = atrous(
        *frozen, "--out", tmp_path / "kept", "--feature-cache", tmp_path / "frozen/features"
    )
    assert code == 0
    assert "computed before" in output
    code, output = atrous(*first, "--out", tmp_path / "all", "--freeze", "all")
    assert code == 2
    assert "model.freeze = 'all': input should be" in output
    assert not (tmp_path / "all").exists()
