"""`atrous check --folds`: every image is ranked by a model that has not seen it."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from atrous.data import open_dataset
from atrous.errors import ConfigError, DataError
from atrous.recipe import format_recipe
from atrous.training import session
from atrous.training.folds import split_folds, train_folds


def ignore(event):
    pass


@pytest.fixture
def write_pairs(tmp_path):
    """Write the training images of a dataset, with sharp blobs that no two share."""

    def write(names, seeds=None):
        for seed, name in zip(seeds or range(len(names)), names, strict=True):
            rng = np.random.default_rng(seed)
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            for part, array in (("images", pixels), ("masks", pixels[..., 0] // 128)):
                path = tmp_path / "data" / "train" / part / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
        return open_dataset(tmp_path / "data", "train")

    return write


def test_each_image_is_ranked_by_the_model_that_has_not_seen_it(
    write_pairs, make_recipe, tmp_path, atrous, monkeypatch
):
    monkeypatch.setattr(session, "save_loss_curves", ignore)
    monkeypatch.chdir(tmp_path)
    dataset = write_pairs(['quo"te', "ünï", "line\nbreak", " space "])
    recipe = make_recipe(train__duration="1it", data__crop=32, data__root="data")
    (tmp_path / "r.toml").write_text(format_recipe(recipe))
    call = ("check", "--folds", 2, "--recipe", "r.toml", "--json", "-", "--html", "labels.html")
    code, printed = atrous(*call)
    assert code == 0, printed
    files = {row["file"] for row in json.loads(printed.out)["images"]}
    assert files == {f"train/images/{name}.png" for name in dataset.names}
    assert "2 × deeplabv3plus_mobilenet_v3_large" in (tmp_path / "labels.html").read_text()
    out = tmp_path / "data-folds"
    weights = [path.read_bytes() for path in sorted(out.glob("*/last.safetensors"))]

    folds = train_folds(recipe, 2, out, listener=ignore)
    parts = [part.names for _, part in folds.parts]
    assert sorted(parts[0] + parts[1]) == sorted(dataset.names)
    for number, (path, part) in enumerate(folds.parts, start=1):
        seen = open_dataset(out / "data", f"without-{number}")
        originals = {path.resolve() for path in seen.image_paths + seen.mask_paths}
        assert len(originals) == 4
        assert not originals & {path.resolve() for path in part.image_paths + part.mask_paths}
        assert path.read_bytes() == weights[number - 1]  # not trained again
    assert 1.0 not in [engine.temperature for engine, _ in folds]
    with pytest.raises(ConfigError, match="holds other folds"):
        train_folds(recipe, 3, out, listener=ignore)
    os.truncate(dataset.mask_paths[0], dataset.mask_paths[0].stat().st_size - 1)
    with pytest.raises(DataError, match="not the one this run started with"):
        train_folds(recipe, 2, out, listener=ignore)


def test_copies_and_near_duplicates_are_in_one_fold(write_pairs):
    names = [f"{name}.rf.{copy}" for name in "abc" for copy in "xy"] + ["d", "e"]
    dataset = write_pairs(names, [0, 1, 2, 3, 4, 5, 6, 6])
    folds = split_folds(dataset, 4, ignore)
    groups = [{dataset.names[index] for index in fold} for fold in folds]
    assert {frozenset(group) for group in groups} == {
        frozenset({"a.rf.x", "a.rf.y"}), frozenset({"b.rf.x", "b.rf.y"}),
        frozenset({"c.rf.x", "c.rf.y"}), frozenset({"d", "e"}),
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"needs 5 images that are not related.* has 4"):
        split_folds(dataset, 5, ignore)
    with pytest.raises(ConfigError, match="leaves no images to train on"):
        split_folds(dataset, 1, ignore)
