"""Prediction on a Ray cluster of two nodes; Ray is in the extra `cluster`, not in `dev`."""

import socket

import numpy as np
import pytest
from PIL import Image

from atrous.errors import ConfigError
from atrous.prediction import predict

pytestmark = pytest.mark.slow  # starts a cluster
SAVE = ["mask", "overlay", "shares"]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (700 + number, 800, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=1)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def cluster():
    utils = pytest.importorskip("ray.cluster_utils", reason="needs the extra cluster")
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster
    cluster.shutdown()


def read_files(folder):
    paths = (path for path in folder.iterdir() if path.suffix not in (".jsonl", ".tmp"))
    return {path.name: path.read_bytes() for path in paths}


def test_two_nodes_write_what_one_process_writes_also_if_one_is_lost(
    cluster, color_model, images, tmp_path
):
    whole = predict(color_model, images, tmp_path / "whole", save=SAVE)
    second, seen = cluster.add_node(num_cpus=1), []

    def progress(done, total):
        if done and not seen:
            cluster.remove_node(second, allow_graceful=False)
        seen.extend([done] if done else [])

    out, address = tmp_path / "out", cluster.address
    report = predict(color_model, images, out, save=SAVE, ray=address, progress=progress)
    assert (report.failed, report.merged_px) == (whole.failed, whole.merged_px)
    assert sorted(report.written) == sorted(out / path.name for path in whole.written)
    assert read_files(out) == read_files(tmp_path / "whole")
    assert seen == sorted(seen)
    (images / "broken.png").unlink()
    again = predict(color_model, images, out, save=SAVE, ray=address, resume=True)
    assert len(again.resumed) == 24


def test_a_cluster_that_is_not_there(color_model, images, tmp_path):
    pytest.importorskip("ray", reason="needs the extra cluster")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"'{address}' cannot be reached"):
            predict(color_model, images, tmp_path / "out", ray=address)
    assert not (tmp_path / "out").exists()
