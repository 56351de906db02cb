"""Splits of an import: those of the source, drawn shares, related images together."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_import import draw, masks_of, put_image, put_mask

from atrous.classes import ClassSelection
from atrous.errors import ConfigError
from atrous.formats import import_dataset
from atrous.formats.source import Item
from atrous.formats.splits import _draw, assign_splits, list_missing


def write_source(root: Path, names) -> None:
    for number, name in enumerate(names):
        put_image(root / "images" / f"{name}.png", number)
        put_mask(root / "masks" / f"{name}.png", draw())


def write_video(path: Path, scene: int, frame: int) -> None:
    """Write a frame of a scene: smooth, moving by 6 pixels per frame."""
    cells = np.random.default_rng(scene).integers(0, 256, (5, 40), dtype=np.uint8)
    strip = Image.fromarray(cells).resize((640, 80), Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    strip.crop((6 * frame, 0, 6 * frame + 120, 80)).save(path)


def assign(images, *, val=0.2, test=0.0, group=None, splits=None, root=Path("/")):
    splits = splits or [None] * len(images)
    items = [Item(i, split, lambda _: None, ()) for i, split in zip(images, splits, strict=True)]
    return assign_splits(items, root, list_missing(items, val, test), group, 0)


@pytest.mark.parametrize(
    ("sizes", "target", "total"),
    [
        ([1] * 10, 2, 2), ([12, 10, 9], 19, 19), ([50, 30, 20], 20, 20), ([3, 3, 3], 4, 3),
        ([99, 1], 20, 1), ([5], 1, 0), ([5, 5], 1, 5), ([7, 2, 2], 10, 9),
    ],
)  # fmt: skip
def test_shares_are_as_near_as_groups_allow(sizes, target, total):
    assert sum(sizes[number] for number in _draw(sizes, target)) == total


def test_shares_of_images_and_a_seed(tmp_path):
    root = tmp_path / "src"
    write_source(root, [f"IMG_{number:03}" for number in range(20)])
    options = {"val": 0.2, "test": 0.1}
    report = import_dataset(root, tmp_path / "a", **options)
    assert report.num_images == {"test": 2, "train": 14, "val": 4}
    assert any("'val' is not in the source; 4 of 20" in note for note in report.notes)
    import_dataset(root, tmp_path / "b", **options)
    import_dataset(root, tmp_path / "c", **options, seed=1)
    val = [set(masks_of(tmp_path / name, "val")) for name in "abc"]
    assert val[0] == val[1] != val[2]
    again = import_dataset(root, tmp_path / "a", **options)
    assert again.is_old
    assert (again.num_images, again.notes) == (report.num_images, report.notes)
    for wrong in ({"val": 0.9, "test": 0.1}, {"val": -0.1}, {"val": float("nan")}):
        with pytest.raises(ConfigError, match="shares of the images"):
            import_dataset(root, tmp_path / "d", **wrong)


def test_videos_stay_together_and_numbered_photographs_do_not(tmp_path):
    frames = [tmp_path / f"seq{s}_{f:04}.png" for s in range(6) for f in range(10)]
    for index, path in enumerate(frames):
        write_video(path, index // 10, index % 10)
    splits, notes = assign(frames)
    assert splits.count("val") == 10
    assert (
        len({path.stem[:4] for path, one in zip(frames, splits, strict=True) if one == "val"}) == 1
    )
    assert any(
        "6 numbered series of names (seq0, seq1, seq2, seq3, …) are kept" in n for n in notes
    )
    photographs = [put_image(tmp_path / f"class{i % 6}_{i}.png", i) for i in range(60)]
    splits, notes = assign(photographs)
    assert splits.count("val") == 12
    assert any("are divided: successive images look no more alike" in note for note in notes)


def test_one_series_is_drawn_from(tmp_path):
    frames = [tmp_path / f"img_{frame:03}.png" for frame in range(20)]
    for frame, path in enumerate(frames):
        write_video(path, 0, frame)
    splits, notes = assign(frames)
    assert splits.count("val") == 4
    assert not any("series" in note for note in notes)


def test_near_duplicates_stay_together_unless_nearly_all_are(tmp_path):
    images = []
    for number in range(20):
        write_video(tmp_path / f"{'abcdefghij'[number // 2]}{number % 2}x.png", number // 2, 0)
        images.append(tmp_path / f"{'abcdefghij'[number // 2]}{number % 2}x.png")
        with Image.open(images[-1]) as image:
            image.point(lambda value, n=number: min(255, value + n % 2)).save(images[-1])
    splits, notes = assign(images, group=r"\.png")
    assert splits.count("val") == 0
    assert any("all of them belong together" in note for note in notes)
    splits, notes = assign(images)
    assert splits.count("val") == 4
    assert splits[0::2] == splits[1::2]
    assert any("20 images that look nearly like others are kept" in note for note in notes)
    for number, path in enumerate(images):
        write_video(path, 0, 0) if number else write_video(path, 1, 0)
    splits, notes = assign(images)
    assert splits.count("val") == 4
    assert any("Too many images look alike" in note for note in notes)


def test_groups_of_an_expression(tmp_path):
    images = [
        put_image(tmp_path / f"patient{i // 4}" / f"{'ab'[i % 2]}{i}.png", i) for i in range(20)
    ]
    splits, notes = assign(images, group=r"(patient\d+)/", root=tmp_path)
    folders = {path.parent.name for path, one in zip(images, splits, strict=True) if one == "val"}
    assert (splits.count("val"), len(folders)) == (4, 1)
    assert any("images of 5 groups together" in note for note in notes)
    splits, _ = assign(images, group="^[ab]", root=tmp_path)
    assert splits.count("val") == 10
    with pytest.raises(ConfigError, match=r"matches no image; the names are like a0\.png"):
        assign(images, group="clip")
    with pytest.raises(ConfigError, match="no regular expression"):
        assign(images, group="(")


def test_splits_of_the_source_have_many_names(tmp_path):
    images = [put_image(tmp_path / f"{number}.png", number) for number in range(10)]
    splits, notes = assign(images, splits=["training"] * 7 + ["dev"] * 2 + ["testing"])
    assert splits == ["train"] * 7 + ["val"] * 2 + ["test"]
    assert "'dev' of the source is the split 'val'." in notes
    splits, notes = assign(images, splits=["train"] * 5 + ["test"] * 5)
    assert (splits.count("val"), splits[5:]) == (1, ["test"] * 5)
    assert any("'test' stays as it is: to validate on it" in note for note in notes)
    splits, _ = assign(images, val=0, splits=["train"] * 5 + ["test"] * 5)
    assert splits == ["train"] * 5 + ["test"] * 5
    assert assign(images[:1])[0] == ["train"]
    assert assign(images, splits=["test"] * 10)[0] == ["test"] * 10


def write_classes(root: Path) -> np.ndarray:
    put_image(root / "a.jpg")
    mask = np.arange(40 * 60).reshape(40, 60) % 5
    put_mask(root / "a_mask.png", np.where(mask == 4, 255, mask).astype(np.uint8))
    (root / "classes.txt").write_text("background\ncar\nbus\ntree\n")
    return mask


@pytest.mark.parametrize(
    ("selection", "names", "values"),
    [
        (
            ClassSelection(merge={"vehicle": ("car", "bus")}),
            "background vehicle tree",
            (0, 1, 1, 2),
        ),
        (ClassSelection(("bus",)), "background bus", (0, 0, 1, 0)),
        (ClassSelection(("bus", "background")), "bus background", (1, 255, 0, 255)),
        (ClassSelection(("bus",), "rest"), "rest bus", (0, 0, 1, 0)),
        (ClassSelection(ignore=("tree", "background")), "car bus", (255, 0, 1, 255)),
    ],
)
def test_classes_are_chosen_as_in_training(tmp_path, selection, names, values):
    mask = write_classes(tmp_path / "src")
    report = import_dataset(tmp_path / "src", tmp_path / "out", val=0, selection=selection)
    assert report.classes == tuple(names.split())
    expected = np.array([*values, 255], np.uint8)[mask]
    assert np.array_equal(masks_of(tmp_path / "out", "train")["a"], expected)
    assert import_dataset(tmp_path / "src", tmp_path / "out", val=0, selection=selection).is_old
    with pytest.raises(ConfigError, match="with other options"):
        import_dataset(tmp_path / "src", tmp_path / "out", val=0)


def test_the_command_chooses_classes_and_splits(tmp_path, atrous):
    write_classes(tmp_path / "src")
    call = ("import", tmp_path / "src", tmp_path / "out")
    code, output = atrous(*call, "--merge", "vehicle=car, bus", "--ignore", "tree")
    assert code == 0
    assert "2 classes: background, vehicle." in output
    for options, message in (
        (("--merge", "vehicle"), "--merge takes NAME=A,B"),
        (("--classes", "a,,b"), "--classes takes different names"),
        (("--other", "x"), "--other needs --classes"),
        (("--ignore", "tre"), "ignore: the dataset has no class 'tre'. Did you mean 'tree'?"),
    ):
        code, output = atrous(*call, *options)
        assert code == 2
        assert message in output
