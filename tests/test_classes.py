"""The selection of classes: subset, others, merged."""

import numpy as np
import pytest
from PIL import Image

from atrous.classes import IGNORE_INDEX, ClassSelection, build_classes
from atrous.data import compute_mask_statistics, open_dataset
from atrous.errors import ConfigError

CLASSES = build_classes(
    ["road", "car", "bus", "tree"], [[9, 9, 9], [1, 0, 0], [2, 0, 0], [0, 3, 0]]
)
MERGE = {"vehicle": ("car", "bus")}


@pytest.mark.parametrize(
    ("selection", "names", "indices"),
    [
        (ClassSelection(), ("road", "car", "bus", "tree"), (0, 1, 2, 3)),
        (ClassSelection(("tree", "road")), ("tree", "road"), (1, IGNORE_INDEX, IGNORE_INDEX, 0)),
        (ClassSelection(("road", "tree"), other="tree"), ("road", "tree"), (0, 1, 1, 1)),
        (ClassSelection(("road",), other="rest"), ("rest", "road"), (1, 0, 0, 0)),
        (ClassSelection(("road", "rest"), other="rest"), ("road", "rest"), (0, 1, 1, 1)),
        (ClassSelection(merge=MERGE), ("road", "vehicle", "tree"), (0, 1, 1, 2)),
        (ClassSelection(merge={"car": ("car", "bus")}), ("road", "car", "tree"), (0, 1, 1, 2)),
        (ClassSelection(("vehicle",), "rest", MERGE), ("rest", "vehicle"), (0, 1, 1, 0)),
        (ClassSelection(ignore=("car",)), ("road", "bus", "tree"), (0, IGNORE_INDEX, 1, 2)),
        (
            ClassSelection(("tree",), "rest", MERGE, ("vehicle",)),
            ("rest", "tree"),
            (0, IGNORE_INDEX, IGNORE_INDEX, 1),
        ),
    ],
)
def test_classes_are_selected_merged_and_renumbered(selection, names, indices):
    selected, found = selection.apply(CLASSES)
    assert (selected.names, found) == (names, indices)
    for name, index in zip(CLASSES.names, indices, strict=True):
        if name in names:
            assert selected.colors[index] == CLASSES.colors[CLASSES.names.index(name)]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (ClassSelection(("raod",)), "^classes: the dataset has no class 'raod'.* mean 'road'"),
        (ClassSelection(("car",), merge=MERGE), "^classes: the dataset has no class 'car'"),
        (
            ClassSelection(merge={"x": ("cra",)}),
            "^merge: .* no class 'cra'.* mean 'car'",
        ),
        (ClassSelection(merge={"x": ("car",), "y": ("car",)}), "'car' in both 'x' and 'y'"),
        (ClassSelection(merge={"tree": ("car", "bus")}), "without the class of that name"),
        (ClassSelection(ignore=("cra",)), "^ignore: the dataset has no class 'cra'.* mean 'car'"),
        (ClassSelection(("car",), ignore=("car",)), "both selected and ignored"),
        (ClassSelection(ignore=CLASSES.names), "All classes are ignored"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(selection, message):
    with pytest.raises(ConfigError, match=message):
        selection.apply(CLASSES)


def test_masks_hold_the_selected_classes_and_only_the_files_keep_theirs(tmp_path):
    mask = np.array([[0, 1, 2], [3, 7, 0]], dtype=np.uint8)
    for kind, pixels in (("images", np.zeros((2, 3, 3), np.uint8)), ("masks", mask)):
        (tmp_path / "train" / kind).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "train" / kind / "a.png")
    names = ", ".join(f'"{name}"' for name in CLASSES.names)
    (tmp_path / "classes.toml").write_text(f"names = [{names}]\nignore_index = 7\n")
    whole = open_dataset(tmp_path, "train")
    assert whole.select(ClassSelection()) is whole
    selected = whole.select(ClassSelection(("vehicle", "road"), merge=MERGE))
    assert selected.load(0).mask.tolist() == [[1, 0, 0], [255, 255, 1]]
    statistics = compute_mask_statistics(selected)
    assert (statistics.pixels, statistics.num_ignored) == ([2, 2], 2)
    assert selected.fingerprint() != whole.fingerprint()
