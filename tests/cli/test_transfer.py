"""Transfer from the command line, and what it prints."""

import pytest

from atrous.data.shapes import write_shapes

pytestmark = pytest.mark.slow  # trains

TINY = [
    "--model", "deeplabv3plus_mobilenet_v3_large", "--for", "2it", "--size", "48",
    "--batch-size", "2", "--workers", "0", "--set", "model.decoder_channels=8",
]  # fmt: skip


def test_freezing_and_features_are_printed(atrous, tmp_path):
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
