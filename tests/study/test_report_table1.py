"""The report's table 1 on real images, with stand-ins for the published weights."""

import json

import pytest
import torch
import torchvision
from typer.testing import CliRunner

from atrous.cli.main import app


@pytest.fixture
def few_animals(real_data, tmp_path):
    """A VOC folder of six images to train on and three to validate."""
    whole = real_data / "voc-animals" / "VOCdevkit" / "VOC2012"
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name in ("JPEGImages", "SegmentationClass"):
        (folder / name).symlink_to(whole / name)
    for split, number in (("train", 6), ("val", 3)):
        names = (whole / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
        (lists / f"{split}.txt").write_text("\n".join(names[:number]))
    return tmp_path


@pytest.mark.slow
def test_the_table_is_one_command(few_animals, tmp_path):
    torch.manual_seed(0)
    imagenet, coco = tmp_path / "resnet50.pth", tmp_path / "deeplabv3.pth"
    torch.save(torchvision.models.resnet50().state_dict(), imagenet)
    build = torchvision.models.segmentation.deeplabv3_resnet50
    whole = build(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    torch.save(whole.state_dict(), coco)
    out = tmp_path / "table1"
    result = CliRunner().invoke(
        app,
        [
            *("study", "report-table1", "--data", str(few_animals), "--out", str(out)),
            *("--for", "2it", "--no-cost", "--device", "cpu"),
            *("--set", f"variant:model.init={imagenet}", "--set", f"coco-frozen:model.init={coco}"),
            *("--set", "train.batch_size=2", "--set", "data.size=64", "--set", "train.workers=0"),
        ],
        env={"COLUMNS": "150"},
    )
    assert result.exit_code == 0, result.output
    assert "98.9 / 98.9 / 98.3" in result.output
    rows = json.loads((out / "study.json").read_text())["rows"]
    assert [row["paper"]["miou"] for row in rows] == [54.8, 64.6]
    plans = [json.loads((out / f"{row['name']}-0" / "plan.json").read_text()) for row in rows]
    assert [plan["frozen_sha256"] is None for plan in plans] == [True, False]
    assert list((out / "coco-frozen-0" / "features").iterdir())
    page = (out / "study.html").read_text()
    assert page.count('<figure class="row') == 3
    assert "0/0 is 1" in page
