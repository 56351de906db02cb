import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from atrous.classes import VOC_NAMES, voc_color
from atrous.data import list_splits, open_dataset
from atrous.data.layouts import find_owner
from atrous.errors import ConfigError, DataError

INDICES = np.array([[0, 1, 1], [2, 255, 0]], dtype=np.uint8)


def put(path: Path, pixels: np.ndarray = INDICES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def put_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_pairs(root: Path, stems: Iterable[str] = "ab", split: str = "train") -> Path:
    for stem in stems:
        put(root / split / "images" / f"{stem}.png", np.zeros((2, 3, 3), np.uint8))
        put(root / split / "masks" / f"{stem}.png")
    return root


def make_voc(devkit: Path, stems: Iterable[str] = "ba", split: str = "train") -> Path:
    for stem in stems:
        put(devkit / "JPEGImages" / f"{stem}.jpg", np.zeros((2, 3, 3), np.uint8))
        put(devkit / "SegmentationClass" / f"{stem}.png")
    lists = devkit / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("\n".join(stems) + "\n\n")
    return devkit


@pytest.mark.parametrize("below", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_a_devkit_is_found_from_each_of_its_folders(tmp_path, below):
    make_voc(tmp_path / below, names := ["2008_000002", "2007_000032"])
    dataset = open_dataset(tmp_path, "train")
    assert (dataset.format, dataset.names) == ("voc", names)
    assert dataset.classes.names == tuple(VOC_NAMES)
    assert dataset.classes.colors[1] == voc_color(1)
    assert np.array_equal(dataset.load(0).mask.numpy(), INDICES)


@pytest.mark.parametrize("names", ["ab", ["000001", "000002"], ["2021_000001"]])
def test_other_data_does_not_get_vocs_class_names(tmp_path, names):
    make_voc(tmp_path / "VOC2007", names)
    assert open_dataset(tmp_path, "train").classes.names == ("0", "1", "2")


def test_voc2007_is_detected_by_its_annotations(tmp_path):
    make_voc(tmp_path / "VOC2007", ["000032"])
    put_text(
        tmp_path / "VOC2007/Annotations/000032.xml", "<database>The VOC2007 Database</database>"
    )
    assert open_dataset(tmp_path, "train").classes.names == tuple(VOC_NAMES)


def test_of_several_years_the_newest_is_taken_unless_one_is_named(tmp_path):
    make_voc(tmp_path / "VOCdevkit" / "VOC2007", "s")
    make_voc(tmp_path / "VOCdevkit" / "VOC2012", "t")
    (tmp_path / "VOCdevkit" / "VOC2099").mkdir()  # without segmentation
    assert open_dataset(tmp_path, "train").names == ["t"]
    assert open_dataset(tmp_path / "VOCdevkit" / "VOC2007", "train").names == ["s"]


def test_pairs_take_any_suffix_in_any_case(tmp_path):
    for number, suffix in enumerate(("jpg", "JPEG", "png", "webp", "TIF", "tiff", "bmp")):
        put(tmp_path / "val" / "images" / f"p{number}.{suffix}", np.zeros((2, 3, 3), np.uint8))
        put(tmp_path / "val" / "masks" / f"p{number}.PNG")
    (tmp_path / "val" / "images" / "notes.txt").touch()
    (tmp_path / "val" / "images" / "._p0.jpg").touch()
    dataset = open_dataset(tmp_path, "val")
    assert dataset.names == [f"p{number}" for number in range(7)]
    assert [dataset.load(index).name for index in range(7)] == dataset.names


def test_classes_are_numbered_from_the_masks_of_all_splits(tmp_path):
    make_pairs(tmp_path)
    put(tmp_path / "val" / "images" / "c.png")
    put(tmp_path / "val" / "masks" / "c.png", np.full((2, 3), 5, np.uint8))
    with pytest.raises(
        DataError, match=r"Cannot number .*train/masks/a.png: 255, .* foreground of"
    ):
        open_dataset(tmp_path, "val", ignore_index=5)
    for stem in "ab":
        put(tmp_path / "train" / "masks" / f"{stem}.png", np.minimum(INDICES, 2))
    assert open_dataset(tmp_path, "train").classes.names == ("0", "1", "2", "3", "4", "5")
    dataset = open_dataset(tmp_path, "val", ignore_index=5)
    assert (len(dataset.classes), dataset.ignore_index) == (3, 5)
    assert (dataset.load(0).mask == 255).all()


@pytest.mark.parametrize("make", [make_pairs, make_voc])
def test_classes_toml_beside_the_data(tmp_path, make):
    make(tmp_path)
    (tmp_path / "classes.toml").write_text(
        'ignore_index = 2\nnames = ["sky", "sea"]\ncolors = [[1, 2, 3], [4, 5, 6]]\n'
    )
    dataset = open_dataset(tmp_path, "train")
    assert dataset.classes.names == ("sky", "sea")
    assert dataset.classes.colors == ((1, 2, 3), (4, 5, 6))
    for path in dataset.mask_paths:
        put(path, np.minimum(INDICES, 2))
    assert dataset.load(0).mask.unique().tolist() == [0, 1, 255]
    assert open_dataset(tmp_path, "train", ignore_index=7).ignore_index == 7


def test_the_fingerprint_follows_the_files(tmp_path):
    dataset = open_dataset(make_pairs(tmp_path), "train")
    before = dataset.fingerprint()
    assert pickle.loads(pickle.dumps(dataset)).fingerprint() == before
    put(dataset.mask_paths[0], np.zeros((64, 64), np.uint8))
    assert dataset.fingerprint() != before


def rename_a_mask(root: Path) -> None:
    make_pairs(root, "abc")
    (root / "train/masks/b.png").rename(root / "train/masks/x.png")


def remove_masks(root: Path) -> None:
    make_pairs(root, "abc")
    for path in (root / "train/masks").iterdir():
        path.unlink()


def remove_an_image(root: Path) -> None:
    make_pairs(root)
    (root / "train/images/a.png").unlink()


def double_a_stem(root: Path) -> None:
    make_pairs(root)
    put(root / "train/images/a.bmp")


def leave_out_of_voc(folder: str):
    def make(root: Path) -> None:
        make_voc(root, "abc")
        next((root / folder).glob("b.*")).unlink()

    return make


def list_twice(root: Path) -> None:
    make_voc(root, "ab")
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\na\n")


def save_masks_as_gif(root: Path) -> None:
    make_pairs(root)
    for path in (root / "train/masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.gif"))


def sort_into_folders(root: Path) -> None:
    make_pairs(root)
    for folder in ("images", "masks"):
        (root / "train" / folder).rename(root / "berlin")
        (root / "train" / folder).mkdir()
        (root / "berlin").rename(root / "train" / folder / "berlin")


def leave_only_ignored(root: Path) -> None:
    make_pairs(root, "a")
    put(root / "train/masks/a.png", np.full((2, 3), 255, np.uint8))


@pytest.mark.parametrize(
    ("make", "split", "message"),
    [
        (lambda root: root.rmdir(), "train", "There is no folder"),
        (lambda root: None, "train", "it holds nothing. Three layouts are known. VOC devkit: "),
        (lambda root: (root / "images").mkdir(), "train", "it holds images. Three layouts"),
        (make_pairs, "trian", "no split 'trian' in .* Did you mean 'train'"),
        (make_pairs, "zzz", "no split 'zzz' in .* Known: train"),
        (make_voc, "test", "no split 'test' in .* Known: train"),
        (lambda root: make_voc(root, ""), "train", "split 'train' of .* is empty"),
        (
            lambda root: (root / "train/images").mkdir(parents=True),
            "train",
            "split 'train' of .* is empty",
        ),
        (rename_a_mask, "train", "1 of the 4 names of split 'train' have no mask .* b. Add"),
        (remove_masks, "train", "3 of the 3 names .* have no mask .* a, b, c. Add"),
        (remove_an_image, "train", "1 of the 2 names .* have no image .* a. Add"),
        (double_a_stem, "train", "Two files with the same stem in .*: a.bmp and a.png"),
        (
            leave_out_of_voc("JPEGImages"),
            "train",
            "1 of the 3 names of split 'train' have no image .* b",
        ),
        (leave_out_of_voc("SegmentationClass"), "train", "1 of the 3 names .* have no mask .* b"),
        (list_twice, "train", "lists 1 images twice: a"),
        (save_masks_as_gif, "train", "have no mask .*train/masks contains 2 .gif files"),
        (sort_into_folders, "train", "empty: .*train/images contains the sub-folders berlin"),
        (leave_only_ignored, "train", "Cannot number the classes"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, make, split, message):
    make(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(tmp_path, split)
    assert str(tmp_path) in str(caught.value)


def test_an_image_and_mask_of_different_size(tmp_path):
    make_pairs(tmp_path, "a")
    put(tmp_path / "train/masks/a.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(DataError, match=r"a.png is 3 × 2 .*masks/a.png is 5 × 4"):
        open_dataset(tmp_path, "train").load(0)


@pytest.mark.parametrize("split_list", ["{}", '"{}"', "{}  1", "{} -1", '"{}" 0', "{}\r"])
@pytest.mark.parametrize(
    "name",
    ["street scene 1", "img (2)", "north/a/0", "größe", "a.b", "a\u2003b\u00a0", "c\x85d\u2028"],
)
def test_names_in_voc_lists_are_whole_lines(tmp_path, name, split_list):
    for stem in (name, name.split()[0], name.split("/")[-1]):  # the others are not on the list
        put(tmp_path / "JPEGImages" / f"{stem}.JPG", np.zeros((2, 3, 3), np.uint8))
        put(tmp_path / "SegmentationClass" / f"{stem}.png")
    path = tmp_path / "ImageSets/Segmentation/train.txt"
    path.parent.mkdir(parents=True)
    path.write_text(split_list.format(name) + "\n\n", newline="")
    dataset = open_dataset(tmp_path, "train")
    assert dataset.names == [name]
    assert dataset.image_paths == [tmp_path / "JPEGImages" / f"{name}.JPG"]
    assert dataset.mask_paths == [tmp_path / "SegmentationClass" / f"{name}.png"]


def test_of_several_suffixes_vocs_own_is_taken_and_lists_stay_inside(tmp_path):
    make_voc(tmp_path / "voc", "a")
    for path in ("voc/JPEGImages/a.bmp", "voc/JPEGImages/b.png", "x.jpg", "voc/x.png"):
        put(tmp_path / path)
    put(tmp_path / "voc/SegmentationClass/b.png")
    split_list = tmp_path / "voc/ImageSets/Segmentation/train.txt"
    split_list.write_text("a\nb\n")
    paths = open_dataset(tmp_path / "voc", "train").image_paths
    assert [path.name for path in paths] == ["a.jpg", "b.png"]
    split_list.write_text("a\n../../x\n")
    with pytest.raises(DataError, match=r"1 of the 2 names .* have no image .*: ../../x"):
        open_dataset(tmp_path / "voc", "train")
    split_list.write_text(f"a\n{'x' * 300}/b\n")
    with pytest.raises(DataError, match=r"1 of the 2 names .* have no image"):
        open_dataset(tmp_path / "voc", "train")


@pytest.mark.parametrize("make", [make_pairs, make_voc])
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_names_match_in_every_unicode_form(tmp_path, make, forms):
    name = normalize("NFC", "größe")
    make(tmp_path, [normalize("NFD", name)])
    for path in [path for path in tmp_path.rglob("gr*") if path.is_file()]:
        is_mask = path.parent.name in ("masks", "SegmentationClass")
        path.rename(path.with_name(normalize(forms[is_mask], path.name)))
    dataset = open_dataset(tmp_path, "train")
    assert dataset.names == [name]
    assert dataset.load(0).image.shape == (3, 2, 3)


@pytest.mark.parametrize("make", [make_pairs, make_voc])
def test_names_that_are_not_utf8_are_read(tmp_path, make):
    name = os.fsdecode(b"stra\xdfe")
    make(tmp_path, "ab")
    for path in [*tmp_path.rglob("a.*")]:
        path.rename(path.with_name(name + path.suffix))
    for path in tmp_path.rglob("train.txt"):
        path.write_bytes(b"b\r\nstra\xdfe\r\n")
    dataset = open_dataset(tmp_path, "train")
    assert dataset.names == ["b", name]
    assert dataset.load(1).name == name
    assert dataset.fingerprint() == open_dataset(tmp_path, "train").fingerprint()


def test_a_list_that_is_not_text_is_an_error(tmp_path):
    make_voc(tmp_path)
    path = tmp_path / "ImageSets/Segmentation/train.txt"
    path.write_bytes("a\nb\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"split list .*train.txt: .* Write it as text in UTF-8"):
        open_dataset(tmp_path, "train")


@pytest.mark.parametrize("make", [make_pairs, make_voc])
@pytest.mark.parametrize("kind", ["[iJ]*mages", "[mS]*as*s"])
def test_links_to_nothing_are_a_clear_error(tmp_path, make, kind):
    make(tmp_path)
    path = next(path for path in tmp_path.rglob("b.*") if path.match(f"{kind}/*"))
    path.unlink()
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"1 files of split 'train' are links to .*/b\."):
        open_dataset(tmp_path, "train")


def test_folders_of_a_dataset_are_known(tmp_path):
    make_pairs(tmp_path / "pairs")
    make_voc(tmp_path / "voc")
    (tmp_path / "new/images").mkdir(parents=True)
    for folder, owner in (
        ("pairs/train/masks", "pairs/train/masks"),
        ("pairs/train/images/sub", "pairs/train/images"),
        ("voc/SegmentationClass", "voc/SegmentationClass"),
        ("voc/JPEGImages", "voc/JPEGImages"),
        ("pairs/train", None),
        ("voc", None),
        ("new/masks", None),
    ):
        assert find_owner(tmp_path / folder) == (owner and tmp_path / owner)


def test_options_out_of_range(tmp_path):
    make_pairs(tmp_path)
    with pytest.raises(ConfigError, match="Did you mean 'pairs'"):
        open_dataset(tmp_path, "train", format="pair")
    with pytest.raises(DataError, match="no layout that can be read"):
        open_dataset(tmp_path, "train", format="voc")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names = [", "Cannot read .*classes.toml"),
        ('name = ["a"]', "unknown key 'name'. Did you mean 'names'"),
        ("ignore_index = 3", "needs `names`"),
        ('names = ["a", "a"]', "needs `names`"),
        ("names = []", "needs `names`"),
        ("names = [1]", "needs `names`"),
        ('names = "a"', "needs `names`"),
        ('names = ["a", "b"]\ncolors = [[0, 0, 0]]', "2 names but 1 colors"),
        ('names = ["a"]\ncolors = [[0, 0, 256]]', "must be a list of .red, green, blue"),
        ('names = ["a"]\ncolors = [[0, 0]]', "must be a list of .red, green, blue"),
        ('names = ["a"]\nignore_index = "1"', "`ignore_index` in .* it is '1'"),
        ('names = ["a"]\nignore_index = true', "`ignore_index` in .* it is True"),
    ],
)
def test_classes_toml_with_mistakes(tmp_path, content, message):
    make_pairs(tmp_path)
    (tmp_path / "classes.toml").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(tmp_path, "train")
    assert str(tmp_path / "classes.toml") in str(caught.value)


def test_real_folders(real_data):
    camvid = {split: len(open_dataset(real_data / "camvid", split)) for split in ("train", "val")}
    assert camvid == {"train": 367, "val": 101}
    dataset = open_dataset(real_data / "camvid", "val")
    assert (dataset.format, len(dataset.classes), dataset.ignore_index) == ("pairs", 11, 11)
    sample = dataset.load(0)
    assert (sample.image.shape, sample.mask.shape) == ((3, 360, 480), (360, 480))
    assert set(sample.mask.unique().tolist()) <= {*range(11), 255}

    animals = real_data / "voc-animals"
    assert list_splits(animals) == ["train", "trainaug", "val"]
    lengths = [len(open_dataset(animals, split)) for split in list_splits(animals)]
    assert lengths == [437, 3131, 325]
    sample = open_dataset(animals, "val").load(3)
    assert set(sample.mask.unique().tolist()) <= {*range(21), 255}
