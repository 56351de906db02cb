"""The corrected copy: training can read it, and the original is unchanged."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from damage import (
    CAMVID_COLORS,
    OWN_COLORS,
    VOC_COLORS,
    change_mask,
    change_masks,
    color_masks,
    masks,
    replace_image,
    sort_palette,
    tag,
    truncate,
)
from PIL import Image

from atrous.data import list_splits, open_dataset
from atrous.doctor import repair_dataset
from atrous.errors import DataError


def hash_tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        + str(path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def repair(check, tmp_path):
    """Check and repair; the copy must be readable as a whole, the original untouched."""

    def run(root: Path, **options):
        before = hash_tree(root)
        result = repair_dataset(check(root, **options), tmp_path / "repaired")
        assert hash_tree(root) == before
        for split in list_splits(result.folder):
            dataset = open_dataset(result.folder, split)
            for index in range(len(dataset)):
                dataset.load(index)
        left = {finding.code for finding in check(result.folder).findings}
        return result, left

    return run


def read(root: Path, name: str = "p00", split: str = "train") -> np.ndarray:
    dataset = open_dataset(root, split)
    return dataset.load(dataset.names.index(name)).mask.numpy()


@pytest.mark.parametrize("layout", ["pairs", "voc"])
def test_a_clean_set_is_copied_byte_for_byte(make_clean, repair, layout):
    root = make_clean(layout)
    result, left = repair(root)
    assert not left
    names = {name: digest[:64] for name, digest in hash_tree(root).items()}
    assert {name: digest[:64] for name, digest in hash_tree(result.folder).items()} == names


@pytest.mark.parametrize(
    ("colors", "indices", "names"),
    [
        (CAMVID_COLORS, [3, 1, 0, 10], ("sky", "building")),
        (VOC_COLORS, [0, 8, 12, 15], ("background", "aeroplane")),
        (OWN_COLORS, [0, 3, 1, 2], ("#000000", "#00ff00")),
    ],
)
def test_colours_become_indices(make_clean, repair, colors, indices, names):
    root = make_clean(classes_file=False)
    before = read(root)
    color_masks(root, colors)
    result, left = repair(root)
    assert not left & {"color-masks", "values", "value-gaps"}
    assert result.num_converted == 32
    assert np.array_equal(read(result.folder), np.array(indices)[before])
    classes = open_dataset(result.folder, "train").classes
    assert classes.names[:2] == names
    assert classes.colors[indices[3]] == colors[3]


def test_colours_beside_indices_follow_the_class_list(make_clean, repair):
    root = make_clean()
    before = read(root, "p05")
    for path in masks(root, "train")[4:8]:
        with Image.open(path) as mask:
            mask.convert("RGBA").save(path)
    result, left = repair(root)
    assert not left
    assert result.num_converted == 4
    assert np.array_equal(read(result.folder, "p05"), before)


def test_colours_beside_indices_without_a_class_list_are_left_out(make_clean, repair):
    root = make_clean(classes_file=False)
    with Image.open(masks(root)[0]) as mask:
        mask.convert("RGB").save(masks(root)[0])
    result, _ = repair(root)
    assert result.left_out == [("train/masks/p00.png", "colours that no table explains")]
    assert result.num_written == 31


def test_sorted_palettes_are_put_in_order(make_clean, repair):
    root = make_clean()
    before = read(root, "p28", "val")
    sort_palette(root / "val/masks/p28.png")
    result, left = repair(root)
    assert not left
    assert np.array_equal(read(result.folder, "p28", "val"), before)


def test_binary_masks_become_0_and_1(make_clean, repair):
    root = make_clean(classes_file=False)
    foreground = read(root) > 0
    change_masks(root, lambda mask: 255 * (mask > 0).astype(np.uint8))
    result, left = repair(root)
    assert not left
    assert np.array_equal(read(result.folder), foreground)
    assert open_dataset(result.folder, "val").classes.names == ("background", "foreground")


@pytest.mark.parametrize("suffix", [".tif", ".png", ".webp", ".jpg"])
def test_orientation_is_applied_to_both(make_clean, repair, suffix):
    root = make_clean()
    right, wrong = (replace_image(root, name, suffix) for name in ("p05", "p06"))
    before = [open_dataset(root, "train").load(index) for index in (5, 6)]
    tag(right, 6)  # the mask was drawn on what one sees
    tag(wrong, 6, store_turned=False)
    result, left = repair(root)
    assert not left
    assert (result.num_turned, result.num_converted) == (1, 0)
    with Image.open(result.folder / "train/images" / wrong.name) as image:
        assert image.size == (96, 112)
        assert image.getexif().get(0x0112, 1) == 1
    after = [open_dataset(result.folder, "train").load(index) for index in (5, 6)]
    for old, new, turns in zip(before, after, (0, -1), strict=True):
        assert np.array_equal(new.mask, np.rot90(old.mask, turns))
        difference = new.image.numpy().astype(int) - np.rot90(old.image, turns, (1, 2))
        assert np.abs(difference).mean() < (3 if suffix == ".jpg" else 0.01)


@pytest.mark.parametrize("layout", ["pairs", "voc"])
def test_names_are_paired_again_and_the_rest_is_left_out(make_clean, repair, layout):
    root = make_clean(layout)
    paths = masks(root, "train")
    paths[3].rename(paths[3].with_name("P03_Mask.png"))
    paths[4].unlink()
    truncate(paths[5])
    if layout == "voc":
        paths[6].rename(paths[6].with_name("p06.PNG"))
    result, left = repair(root)
    assert not left
    assert result.num_written == 30
    assert result.num_renamed == 1
    dataset = open_dataset(result.folder, "train")
    assert dataset.names[3:6] == ["p03", "p06", "p07"]
    assert sorted(reason for _, reason in result.left_out) == ["cannot be read", "has no partner"]


def test_what_cannot_be_repaired_is_named(make_clean, check, tmp_path):
    root = make_clean()
    change_mask(masks(root)[0], lambda mask: np.where(mask == 1, 99, mask))
    result = repair_dataset(check(root), tmp_path / "repaired")
    assert result.remaining == ["values"]
    assert result.num_written == 32


def test_places_that_are_refused(make_clean, check, tmp_path):
    root = make_clean()
    report = check(root)
    used = tmp_path / "used"
    used.mkdir()
    (used / "thesis.tex").touch()
    (tmp_path / "file").touch()
    before = hash_tree(tmp_path)
    for place, message in (
        (root / "repaired", "inside the dataset"),
        (root, "inside the dataset"),
        (tmp_path, "around it"),
        (used, "not empty"),
        (tmp_path / "file", "not empty"),
        (tmp_path / "file" / "below", "cannot be written"),
    ):
        with pytest.raises(DataError, match=message):
            repair_dataset(report, place)
    assert hash_tree(tmp_path) == before


def test_no_copy_is_left_if_nothing_can_be_repaired(make_clean, check, tmp_path):
    root = make_clean()
    for path in masks(root):
        path.write_text("no image")
    report = check(root)
    assert report.exit_code == 2
    with pytest.raises(DataError, match=r"would be empty: none of its 32 pairs can be repaired"):
        repair_dataset(report, tmp_path / "repaired")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
