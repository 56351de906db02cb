"""The corrected copy: training can read it, and the original is unchanged."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import (
    CAMVID_COLORS,
    COLORS,
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
        shutil.rmtree(tmp_path / "repaired", ignore_errors=True)
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


def write_list(root: Path, name: str) -> Path:
    """Write what OWN_COLORS mean in the form of a labelling tool."""
    names, path = ("ground", "disc", "box", "bar"), root.parent / name
    line = "{0}:{1},{2},{3}::" if path.suffix == ".txt" else "{0};{1};{2};{3}"
    lines = [line.format(n, *color) for n, color in zip(names, OWN_COLORS, strict=True)]
    if path.suffix == ".toml":
        lines = [f"names = {list(names)}", f"colors = {[list(color) for color in OWN_COLORS]}"]
    heading = {".txt": "# label:color_rgb:parts:actions", ".csv": "name;r;g;b", ".toml": ""}
    path.write_text("\n".join([heading[path.suffix], *lines]) + "\n")
    return path


@pytest.mark.parametrize("name", ["class_dict.csv", "labelmap.txt", "names.toml"])
def test_colours_that_no_table_explains_are_asked_for(make_clean, check, repair, tmp_path, name):
    root = make_clean(classes_file=False)
    before = read(root)
    color_masks(root, OWN_COLORS)
    question = (
        r"these colours: 0,0,0 \(8\d %\), 0,255,0 .* as `road,128,64,128`.* --names FILE --fix"
    )
    with pytest.raises(DataError, match=question):
        repair_dataset(check(root), tmp_path / "repaired")
    assert not (tmp_path / "repaired").exists()
    result, left = repair(root, names=write_list(root, name))
    assert not left
    assert np.array_equal(read(result.folder), before)
    assert open_dataset(result.folder, "val").classes.names == ("ground", "disc", "box", "bar")


def test_a_list_that_lacks_a_colour(make_clean, check, tmp_path):
    root = make_clean(classes_file=False)
    color_masks(root, OWN_COLORS)
    path = write_list(root, "a.csv")
    path.write_text(path.read_text().replace("box;0;255;0\n", ""))
    report = check(root, names=path)
    assert ": 0,255,0 (" in report.findings[0].summary
    with pytest.raises(DataError, match=r": 0,255,0 \(\d.* %\)\."):
        repair_dataset(report, tmp_path / "repaired")


def test_colours_beside_indices_without_a_class_list_are_asked_for(make_clean, check, repair):
    root = make_clean(classes_file=False)
    before = read(root)
    with Image.open(masks(root)[0]) as mask:
        mask.convert("RGB").save(masks(root)[0])
    with pytest.raises(DataError, match="no class list or known table has these colours: 0,0,0"):
        repair_dataset(check(root), root.parent / "repaired")
    path = root.parent / "names.csv"
    path.write_text("".join(f"{i},{r},{g},{b}\n" for i, (r, g, b) in enumerate(COLORS)))
    result, left = repair(root, names=path)
    assert (left, result.num_converted) == (set(), 1)
    assert np.array_equal(read(result.folder), before)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file is neither"),
        ("name,r,g,b\n", "'name,r,g,b' is neither"),
        ("a,1,2,3\nb,1,2,300\n", "'b,1,2,300' is neither"),
        ("a,1,2,3\nb,1,2,3\n", "twice"),
        ("0,a\n1,a\n", "twice"),
        ("0,a\nb,1,2,3\n", "all by value or all by colour"),
        ("a\u202eb,1,2,3\n", "control character"),
    ],
)
def test_lists_that_mean_nothing(make_clean, check, tmp_path, text, message):
    (tmp_path / "names.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        check(make_clean(), names=tmp_path / "names.csv")


def shift(indices: list[int]):
    return lambda mask: np.array(indices, np.uint8)[mask]


def name_label_ids(root: Path) -> None:
    for path in masks(root):
        path.rename(path.with_name(f"{path.stem}_gtFine_labelIds.png"))


RENUMBERED = {
    "gaps": ("value-gaps", [0, 3, 7, 20], None, {}, [0, 1, 2, 3], ("0", "3", "7", "20")),
    "from one": ("value-gaps", [1, 2, 3, 4], None, {}, [0, 1, 2, 3], ("1", "2", "3", "4")),
    "from one, with ignored pixels": (
        "value-gaps", [255, 1, 2, 3], None, {}, [255, 0, 1, 2], ("1", "2", "3")
    ),
    "zero ignored": (
        "value-gaps", [0, 1, 2, 3], None, {"ignore_index": 0}, [255, 0, 1, 2], ("1", "2", "3")
    ),
    "names from one": ("counted-from-one", [1, 2, 3, 4], "abcd", {}, [0, 1, 2, 3], tuple("abcd")),
    "names from one, zero ignored": (
        "counted-from-one", [0, 1, 2, 3], "abc", {"ignore_index": 0}, [255, 0, 1, 2], tuple("abc")
    ),
    "a name for zero, ignored": (
        "class-unused", [0, 1, 2, 3], "abcd", {"ignore_index": 0}, [255, 0, 1, 2], tuple("bcd")
    ),
    "names of values": (
        "value-gaps", [0, 3, 7, 20], "0,a\n3,b\n7,c\n20,d\n", {}, [0, 1, 2, 3], tuple("abcd")
    ),
    "binary": (
        "binary-masks", [0, 255, 255, 255], None, {}, [0, 1, 1, 1], ("background", "foreground")
    ),
    "label ids": ("label-ids", [3, 7, 26, 33], None, {}, [255, 0, 13, 18], ("road", "sidewalk")),
}  # fmt: skip


@pytest.mark.parametrize("case", RENUMBERED)
def test_classes_are_renumbered(make_clean, check, repair, tmp_path, case):
    code, values, listed, options, indices, names = RENUMBERED[case]
    root = make_clean(classes_file=False)
    before = [read(root, f"p{number:02}") for number in range(24)]
    change_masks(root, shift(values))
    if listed and "," in listed:
        (tmp_path / "names.csv").write_text(listed)
        options = {"names": tmp_path / "names.csv"}
    elif listed:
        (root / "classes.toml").write_text(f"names = {list(listed)}\n")
    if code == "label-ids":
        name_label_ids(root)
    assert code in {finding.code for finding in check(root, **options).findings}
    result, left = repair(root, **options)
    assert not left & {"value-gaps", "counted-from-one", "label-ids", "values"}
    assert (result.num_converted, result.left_out, result.remaining) == (32, [], [])
    for number, mask in enumerate(before):
        assert np.array_equal(read(result.folder, f"p{number:02}"), shift(indices)(mask))
    assert open_dataset(result.folder, "train").classes.names[: len(names)] == names
    again = repair_dataset(check(result.folder), tmp_path / "again")
    assert again.num_converted == 0
    names = {name: digest[:64] for name, digest in hash_tree(result.folder).items()}
    assert {name: digest[:64] for name, digest in hash_tree(again.folder).items()} == names


def test_a_list_of_values(make_clean, check, repair, tmp_path):
    root = make_clean(classes_file=False)
    before = read(root)
    change_masks(root, shift([0, 128, 255, 64]))
    path = tmp_path / "names.csv"
    path.write_text("0,ground\n128,disc\n255,box\n")
    report = check(root, names=path)
    assert "does not list the values 64." in report.findings[0].summary
    with pytest.raises(DataError, match="values 64"):
        repair_dataset(report, tmp_path / "repaired")
    path.write_text(path.read_text() + "64,bar\n")
    result, left = repair(root, names=path)
    assert not left
    assert np.array_equal(read(result.folder), before)
    assert open_dataset(result.folder, "train").classes.names == ("ground", "disc", "box", "bar")


def test_large_values_are_renumbered_by_a_list(make_clean, check, repair, tmp_path):
    root = make_clean(classes_file=False)
    before = read(root)
    change_masks(root, lambda mask: np.array([0, 300, 700, 65535], np.uint16)[mask])
    finding = next(f for f in check(root).findings if f.code == "values")
    assert "--names FILE --fix DIR" in finding.summary
    (tmp_path / "names.csv").write_text("0,ground\n300,disc\n700,box\n65535,bar\n")
    result, left = repair(root, names=tmp_path / "names.csv")
    assert not left
    assert np.array_equal(read(result.folder), before)


def test_values_that_may_be_ignored_are_asked_for(make_clean, check):
    root = make_clean()
    change_masks(root, shift([0, 1, 2, 4]))
    finding = next(f for f in check(root).findings if f.code == "values")
    assert "If 0 marks ignored pixels" in finding.summary


def test_an_interrupted_repair_leaves_nothing(make_clean, check, tmp_path):
    root = make_clean()

    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair_dataset(check(root), tmp_path / "repaired", interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_sorted_palettes_are_put_in_order(make_clean, repair):
    root = make_clean()
    before = read(root, "p28", "val")
    sort_palette(root / "val/masks/p28.png")
    result, left = repair(root)
    assert not left
    assert np.array_equal(read(result.folder, "p28", "val"), before)


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
