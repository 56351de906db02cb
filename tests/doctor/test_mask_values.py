"""What mask values mean: foreground 255, grey in colour files, objects that are numbered."""

import re

import numpy as np
import pytest
from damage import change_mask, change_masks, masks
from PIL import Image
from typer.testing import CliRunner

from atrous.classes import VOC_NAMES, voc_color
from atrous.cli.main import app
from atrous.data import check_foreground, compute_mask_statistics, open_dataset
from atrous.data.object_ids import are_object_colors, are_object_ids, find_scattered
from atrous.doctor import repair_dataset
from atrous.errors import DataError


@pytest.fixture
def find(check):
    """Check a folder; returns code → finding."""
    return lambda root, **options: {found.code: found for found in check(root, **options).findings}


def count_training(root) -> None:
    dataset = open_dataset(root, "train")
    check_foreground(dataset, compute_mask_statistics(dataset))


def save_as_rgb(path) -> None:
    with Image.open(path) as mask:
        Image.fromarray(np.stack([np.asarray(mask)] * 3, axis=2)).save(path)


def read(root, split="train") -> list[np.ndarray]:
    dataset = open_dataset(root, split)
    return [dataset.load(index).mask.numpy() for index in range(len(dataset))]


@pytest.mark.parametrize("is_rgb", [False, True])
@pytest.mark.parametrize("ignore_index", [128, 255])
def test_a_foreground_of_255(make_clean, check, find, tmp_path, is_rgb, ignore_index):
    root = make_clean(classes_file=False)
    grey = 128 if ignore_index == 128 else 0
    before = [np.array([0, 1, grey and 255, 0])[mask] for mask in read(root)]
    change_masks(root, lambda mask: np.array([0, 255, grey, 0], np.uint8)[mask])
    if is_rgb:
        for path in masks(root):
            save_as_rgb(path)
    text = f'names = ["ground", "thing"]\nignore_index = {ignore_index}\n'
    (root / "classes.toml").write_text(text)
    found = find(root)
    assert set(found) - {"class-unused"} == {"color-masks" if is_rgb else "binary-masks"}
    with pytest.raises(DataError, match="RGB mask" if is_rgb else r"255.*check .* --fix DIR"):
        count_training(root)
    repair_dataset(check(root), tmp_path / "repaired")
    assert np.array_equal(read(tmp_path / "repaired"), before)
    assert open_dataset(tmp_path / "repaired", "val").classes.names == ("ground", "thing")
    assert find(tmp_path / "repaired") == {}


def test_255_is_a_wrong_value_where_another_is_ignored(make_clean, check, find):
    root = make_clean()
    change_mask(masks(root)[0], lambda mask: np.where(mask == 3, 255, mask))
    assert find(root) == {}
    found = find(root, ignore_index=9)
    assert found["values"].data["values"] == [255]
    assert "--ignore-index 255" in found["values"].summary
    count = check(root, ignore_index=9).splits["train"]
    assert (count.ignored_share, count.classes[3].num_images) == (0, 23)


@pytest.mark.parametrize("ignore_index", [65535, -1, 70000])
def test_ignored_values_of_16_bits_and_more(make_clean, find, ignore_index):
    root = make_clean()
    for path in masks(root):
        with Image.open(path) as mask:
            indices = np.asarray(mask).astype(np.int32)
        Image.fromarray(np.where(indices == 3, ignore_index, indices)).save(
            path.with_suffix(".tif")
        )
        path.unlink()
    found = find(root)["values"]
    assert found.data["values"] == [ignore_index]
    advised = re.search(r"`(--ignore-index \S+)` in `atrous check`", found.summary)[1].split()
    arguments = ["check", str(root), "--crop", "96", "--workers", "1", *advised]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert int(advised[1]) == ignore_index
    dataset = open_dataset(root, "train", ignore_index=ignore_index)
    assert compute_mask_statistics(dataset).num_ignored > 0


@pytest.mark.parametrize("classes_file", [False, True])
def test_grey_as_rgb_beside_indices_is_read_as_indices(make_clean, check, tmp_path, classes_file):
    root = make_clean(classes_file=classes_file)
    before = read(root)
    for path in masks(root, "train")[3:6]:
        save_as_rgb(path)
    result = repair_dataset(check(root), tmp_path / "repaired")
    assert (result.num_written, result.num_converted, result.left_out) == (32, 3, [])
    assert np.array_equal(read(tmp_path / "repaired"), before)
    assert len(open_dataset(tmp_path / "repaired", "train").classes) == 4


def test_greys_with_wide_gaps_are_colours(make_clean, check, tmp_path):
    root = make_clean(classes_file=False)
    change_masks(root, lambda mask: np.array([0, 128, 255, 0], np.uint8)[mask])
    for path in masks(root):
        save_as_rgb(path)
    with pytest.raises(DataError, match=r"these colours: 0,0,0 \(8\d %\), 128,128,128"):
        repair_dataset(check(root), tmp_path / "repaired")


def draw_objects(rng: np.random.Generator, number: int) -> np.ndarray:
    """Draw squares, numbered from 1, on a grid of 8 × 7 places of the clean set's size."""
    mask = np.zeros((96, 112), np.int32)
    for index, place in enumerate(rng.choice(56, number, replace=False).tolist(), 1):
        y, x = 12 * (place // 8) + 8, 14 * (place % 8)
        mask[y : y + 9, x : x + 11] = index
    return mask


def write_objects(root, numbers, encode) -> None:
    rng = np.random.default_rng(0)
    for path, number in zip(masks(root), numbers, strict=False):
        Image.fromarray(encode(draw_objects(rng, int(number)), rng)).save(path)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("most", [5, 50])
def test_numbered_objects_are_no_classes(make_clean, check, find, tmp_path, kind, border, most):
    root = make_clean(classes_file=False)

    def encode(mask, rng):
        outline = (mask == 0) & (np.roll(mask, (1, 1), (0, 1)) > 0) if border else mask < 0
        return np.where(outline, 255, mask).astype(kind)

    write_objects(root, 1 + np.arange(32) % most, encode)
    report = check(root)
    found = find(root)
    assert (report.exit_code, found["object-ids"].num_files) == (1, 32)
    assert not {"class-only-in-val", "imbalance"} & set(found)
    assert "object-ids" in repair_dataset(report, tmp_path / "repaired").remaining
    assert not (tmp_path / "repaired/classes.toml").exists()


def test_named_values_are_no_object_ids(make_clean, check, find):
    root = make_clean(classes_file=False)
    write_objects(root, 1 + np.arange(32) % 5, lambda mask, rng: mask.astype(np.uint8))
    assert "atrous import DATA OUT --format instances" in find(root)["object-ids"].kind.fix
    for names, codes in ((list("012345"), {"object-ids"}), (list("abcdef"), set())):
        (root / "classes.toml").write_text(f"names = {names}")
        assert {"object-ids"} & set(find(root)) == codes


def test_object_numbers_that_never_come_twice(make_clean, find):
    root = make_clean(classes_file=False)
    numbers = iter(range(1, 200, 6))
    write_objects(root, [6] * 32, lambda m, rng: np.where(m, m + next(numbers), 0).astype(np.uint8))
    assert "object-ids" in find(root)


def paint_random(mask, rng):
    return rng.integers(0, 256, (57, 3))[mask] * (mask > 0)[..., None]


def paint_coco(mask, rng):  # a colour for each class, other objects near it
    base = np.array([[220, 20, 60], [119, 11, 32], [0, 0, 142]])[np.arange(57) % 3]
    return (base + rng.integers(-15, 16, (57, 3)) * (np.arange(57) > 3)[:, None]).clip(0, 255)[
        mask
    ] * (mask > 0)[..., None]


def paint_cityscapes(mask, rng):
    numbers = np.where(mask, 26000 + mask, 7)
    return np.stack([numbers % 256, numbers // 256, numbers * 0], axis=2)


def paint_grey(mask, rng):
    return np.stack([mask] * 3, axis=2)


def paint_series(mask, rng):
    return np.array([voc_color(index) for index in range(57)])[mask]


@pytest.mark.parametrize(
    "paint", [paint_random, paint_coco, paint_cityscapes, paint_grey, paint_series]
)
@pytest.mark.parametrize("num_files", [32, 5])
def test_colours_of_objects_have_no_table(make_clean, check, tmp_path, paint, num_files):
    root = make_clean(classes_file=False)
    for path in masks(root)[num_files:]:
        (path.parents[1] / "images" / f"{path.stem}.jpg").unlink()
        path.unlink()
    write_objects(root, 2 + np.arange(32) * 3 % 8, lambda m, rng: paint(m, rng).astype(np.uint8))
    report = check(root)
    finding = next(found for found in report.findings if found.code == "color-masks")
    assert finding.data["table"] is None
    assert "number objects" in finding.summary
    with pytest.raises(DataError, match="would be empty"):
        repair_dataset(report, tmp_path / "repaired")


def test_the_first_colours_of_vocs_palette_have_not_vocs_names(make_clean, check, tmp_path):
    root = make_clean(classes_file=False)
    before = read(root)
    for path in masks(root):
        change_mask(path, lambda mask: np.array([voc_color(i) for i in range(4)], np.uint8)[mask])
    repair_dataset(check(root), tmp_path / "repaired")
    assert np.array_equal(read(tmp_path / "repaired"), before)
    assert open_dataset(tmp_path / "repaired", "train").classes.names == ("0", "1", "2", "3")


def test_a_rock_in_vocs_folders_is_no_aeroplane(make_clean, check):
    root = make_clean("voc", classes_file=False)
    report = check(root)
    assert report.findings == []
    assert not set(VOC_NAMES) & set(report.survey.classes.names)


def test_classes_are_not_object_ids():
    rng = np.random.default_rng(0)
    organs = [set(rng.choice(np.arange(1, 14), 7, replace=False).tolist()) for _ in range(30)]
    regions = [set(range(1, 101))] * 10
    layers = [set(range(1, 5))] * 10
    for sets in (organs, regions, layers, [{1}, {1, 2}, {1, 2, 3}] * 5, [], [set()]):
        assert not are_object_ids([(values, set()) for values in sets])
    streets = [set(range(1, number)) for number in (5, 8, 9, 11)]
    assert are_object_ids([(values, set()) for values in streets])
    assert not are_object_ids([(values, {1, 2}) for values in streets])
    colors = [tuple(color) for color in rng.integers(0, 256, (12, 3)).tolist()]
    assert not are_object_colors([set(colors[place : place + 6]) for place in (0, 2, 3, 6)])
    mask = np.array([[0, 1, 0], [2, 1, 2], [0, 0, -1]])
    assert find_scattered(mask) == {2}
