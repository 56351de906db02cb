"""Folders of images and masks in many spellings; masks equal the drawn ones in every pixel."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from test_import import HEIGHT, WIDTH, draw, masks_of, put_image, put_mask

from atrous.data import open_dataset
from atrous.errors import ConfigError, DataError
from atrous.formats import import_dataset
from atrous.formats.source import SplitLists

NUM_IMAGES = 4
BINARY = ("background", "foreground")


def expect(number: int, index: int = 1) -> np.ndarray:
    """Return a mask that differs for every image."""
    left = 5 + 3 * number
    return draw([(left, 5), (left + 20, 5), (left + 20, 30), (left, 30)], index)


def put_array(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        savemat(path, {"inner": {"labels": pixels, "size": [1.5, 2.0]}, "comment": "x"})
    else:
        np.save(path, pixels)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("Images/{}.JPG", "Masks/{}.PNG"),
        ("image/{}.png", "mask/{}.png"),
        ("img/{}.tif", "label/{}.tif"),
        ("imgs/{}.jpg", "annotations/{}.bmp"),
        ("train/{}.png", "train_labels/{}.png"),
        ("train/{}.jpg", "train_masks/{}_mask.gif"),
        ("train/{}.png", "trainannot/{}.png"),
        ("images/train/{}.jpg", "masks/train/{}.png"),
        ("train/Images/{}.bmp", "train/Labels/{}.bmp"),
        ("Train/Images/{}.gif", "Train/Masks/{}.gif"),
        ("images_train/{}.jpg", "masks_train/{}.png"),
        ("TrainImages/{}.jpg", "TrainMasks/{}.png"),
        ("deep/er/train/img/{}.jpg", "deep/er/train/label/{}.png"),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
        ("original_images/{}.jpg", "label_images_semantic/{}.png"),
        ("{}.jpg", "{}_mask.png"),
        ("{}.png", "{}_label.png"),
        ("{}.jpg", "{}_seg.png"),
        ("{}.jpg", "{}_annotation.png"),
        ("a/{}.png", "a/{}_L.png"),
        ("{}_sat.jpg", "{}_mask.png"),
        ("image_{}.png", "mask_{}.png"),
        ("img/img_{}.png", "gt/gt_{}.png"),
        ("{}/image.png", "{}/mask.png"),
        ("{}.jpg", "{}.png"),
        ("images/{}_L.png", "masks/{}_L.png"),
        ("images/{}.png", "masks/{}.npy"),
        ("images/{}.png", "masks/{}.mat"),
        ("{}.jpg", "{}.npy"),
    ],
)
def test_folders_in_any_spelling(tmp_path, image, mask):
    root, expected = tmp_path / "src", {}
    for number in range(NUM_IMAGES):
        shown = put_image(root / image.format(f"street{number}"), number)
        path = root / mask.format(f"street{number}")
        put = put_array if path.suffix in (".npy", ".mat") else put_mask
        put(path, expect(number, 255))
        expected[shown.stem if shown.stem != "image" else f"street{number}"] = expect(number)
    report = import_dataset(root, tmp_path / "out", val=0.25)
    assert report.classes == BINARY
    assert report.num_images == {"train": 3, "val": 1}
    assert not sum(report.skipped.values())
    found = masks_of(tmp_path / "out", "train") | masks_of(tmp_path / "out", "val")
    found = {name.removesuffix("_image"): pixels for name, pixels in found.items()}
    assert found.keys() == expected.keys()
    for name, pixels in expected.items():
        assert np.array_equal(found[name], pixels)


COLORS = np.array([[0, 0, 0], [250, 50, 80], [10, 200, 30]], np.uint8)
NAMES = ("sky", "car", "tall tree")
TABLES = {
    "_classes.csv": "Pixel Value, Class\n0, sky\n1, car\n2, tall tree\n",
    "classes.txt": "sky\ncar\ntall tree\n",
    "codes.txt": "0 sky\n1 car\n2 tall tree\n",
    "data.yaml": "names: {0: sky, 1: car, 2: tall tree}\n",
    "classes.toml": 'names = ["sky", "car", "tall tree"]\n',
}
COLOR_TABLES = {
    "class_dict.csv": "name,r,g,b\nsky,0,0,0\ncar,250,50,80\ntall tree,10,200,30\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nsky:0,0,0::\ncar:250,50,80::\n"
    "tall tree:10,200,30::\n",
    "label_colors.txt": "0 0 0\tsky\n250 50 80\tcar\n10 200 30\ttall tree\n",
    "classes.csv": "id,name,red,green,blue\n0,sky,0,0,0\n1,car,250,50,80\n2,tall tree,10,200,30\n",
}


@pytest.mark.parametrize("table", [*TABLES, *COLOR_TABLES])
@pytest.mark.parametrize("kind", ["indices", "colours", "palette"])
def test_tables_of_names_beside_masks(tmp_path, table, kind):
    root = tmp_path / "src"
    has_colors = table in COLOR_TABLES
    mask = np.where(draw() == 1, 2, expect(6))
    put_image(root / "a.jpg")
    image = Image.fromarray(mask if kind == "indices" else COLORS[mask])
    (image.quantize(8) if kind == "palette" else image).save(root / "a_mask.png")
    (root / table).write_text((TABLES | COLOR_TABLES)[table])
    if kind != "indices" and not has_colors:
        return  # names without colours say nothing about colours
    report = import_dataset(root, tmp_path / "out", val=0)
    assert report.classes == NAMES
    assert np.array_equal(masks_of(tmp_path / "out", "train")["a"], mask)
    if has_colors:
        colors = open_dataset(tmp_path / "out", "train").classes.colors
        assert colors == tuple(map(tuple, COLORS.tolist()))


def write_numbered(root, encode) -> dict[str, np.ndarray]:
    """Write masks of 1 to 24 numbered squares; return where they are."""
    expected = {}
    for number, count in enumerate((24, 5, 11, 17, 3)):
        mask = np.zeros((HEIGHT, WIDTH), np.int64)
        for index in range(count):
            y, x = 8 * (index // 7), 8 * (index % 7)
            mask[y : y + 6, x : x + 6] = index + 1
        expected[f"p{number}"] = (mask > 0).astype(np.uint8)
        put_image(root / "images" / f"p{number}.png", number)
        put_mask(root / "masks" / f"p{number}.png", encode(mask, number))
    return expected


@pytest.mark.parametrize(
    ("format", "encode"),
    [
        ("auto", lambda mask, number: mask.astype(np.uint8)),
        ("auto", lambda mask, number: np.where(mask, mask + 300 * number, 0).astype(np.uint16)),
        ("instances", lambda mask, number: mask.astype(np.uint16)),
        ("instances", lambda mask, n: np.stack([mask, mask * 7, mask * 9], 2).astype(np.uint8)),
    ],
)
def test_numbered_objects_are_one_class(tmp_path, format, encode):
    expected = write_numbered(tmp_path / "src", encode)
    options = {"format": format, "val": 0, "class_name": "cell"}
    report = import_dataset(tmp_path / "src", tmp_path / "out", **options)
    assert report.classes == ("background", "cell")
    assert "numbers of objects" in report.notes[0]
    found = masks_of(tmp_path / "out", "train")
    assert all(np.array_equal(found[name], mask) for name, mask in expected.items())


def test_numbered_classes_are_no_objects(tmp_path):
    write_numbered(tmp_path / "src", lambda mask, number: mask.astype(np.uint8))
    (tmp_path / "src" / "classes.txt").write_text("\n".join(f"c{i}" for i in range(25)))
    report = import_dataset(tmp_path / "src", tmp_path / "out", val=0)
    assert len(report.classes) == 25


def test_a_mask_per_object(tmp_path):
    root = tmp_path / "src" / "stage1_train"
    for number in range(3):
        folder = root / f"id{number}"
        put_image(folder / "images" / f"id{number}.png", number)
        put_mask(folder / "masks" / "x.png", expect(number, 255))
        put_mask(folder / "masks" / "y.png", draw(index=255))
    put_image(root / "id9" / "images" / "id9.png")
    report = import_dataset(tmp_path / "src", tmp_path / "out", val=0.3)
    assert (report.classes, report.format) == (("background", "object"), "a mask per object")
    assert report.skipped["images without a mask"] == 1
    found = masks_of(tmp_path / "out", "train") | masks_of(tmp_path / "out", "val")
    for number in range(3):
        assert np.array_equal(found[f"id{number}"], expect(number) | draw())
    put_mask(root / "id0" / "masks" / "z.png", draw(hw=(9, 9)))
    with pytest.raises(DataError, match="of one image have different sizes"):
        import_dataset(tmp_path / "src", tmp_path / "out2")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("a.npy", np.array([{}, {}], object), "cannot be read: .* Python objects"),
        ("a.npy", np.zeros((HEIGHT, WIDTH), np.float32), "float32 of shape"),
        ("a.npy", np.zeros((HEIGHT, WIDTH, 5), np.uint8), "argmax"),
        ("a.mat", {"a": np.ones((9, 9), np.uint8), "b": np.ones((9, 9), np.uint8)}, "holds a, b"),
        ("a.mat", {"a": np.ones((9, 9)) / 3}, "holds none"),
    ],
)
def test_arrays_that_are_no_masks(tmp_path, name, array, message):
    put_image(tmp_path / "src" / "a.png")
    path = tmp_path / "src" / name
    savemat(path, array) if name.endswith(".mat") else np.save(path, array)
    with pytest.raises(DataError, match=message):
        import_dataset(tmp_path / "src", tmp_path / "out")


def test_masks_of_stored_pixels_are_turned_with_their_image(tmp_path):
    """Polygons are drawn on the upright image; mask files may be those of the stored one."""
    root, mask = tmp_path / "src", expect(3)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, pixels in (("stored", mask), ("upright", np.rot90(mask, -1))):
        put_image(root / "images" / f"{name}.jpg")
        with Image.open(root / "images" / f"{name}.jpg") as image:
            image.save(root / "images" / f"{name}.jpg", exif=exif)
        put_mask(root / "masks" / f"{name}.png", pixels)
    import_dataset(root, tmp_path / "out", val=0)
    found = masks_of(tmp_path / "out", "train")
    assert np.array_equal(found["stored"], np.rot90(mask, -1))
    assert np.array_equal(found["upright"], np.rot90(mask, -1))
    put_image(tmp_path / "labelme" / "a.jpg")
    with Image.open(tmp_path / "labelme" / "a.jpg") as image:
        image.save(tmp_path / "labelme" / "a.jpg", exif=exif)
    shape = {"label": "x", "points": [[0, 50], [9, 50], [9, 55], [0, 55]]}
    (tmp_path / "labelme" / "a.json").write_text(json.dumps({"imagePath": "", "shapes": [shape]}))
    import_dataset(tmp_path / "labelme", tmp_path / "out2", val=0)
    assert masks_of(tmp_path / "out2", "train")["a"][50:56, :10].all()


def test_class_names_only_one_class(tmp_path):
    put_image(tmp_path / "src" / "a.jpg")
    put_mask(tmp_path / "src" / "a_mask.png", np.where(draw() == 1, 2, expect(6)))
    with pytest.raises(ConfigError, match=r"--class cell names the only class .* has 0, 1, 2\."):
        import_dataset(tmp_path / "src", tmp_path / "out", class_name="cell")


def test_lists_of_names_are_splits(tmp_path):
    root = tmp_path / "src"
    for number in range(4):
        put_image(root / "JPEGImages" / f"a{number}.jpg", number)
        put_mask(root / "SegmentationClass" / f"a{number}.png", expect(number))
        put_mask(root / "SegmentationObject" / f"a{number}.png", expect(number))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a0\na1\n")
    (lists / "valid.txt").write_text("JPEGImages/a2.jpg SegmentationClass/a2.png\na3 1\n")
    (lists / "trainval.txt").write_text("a0\na1\na2\na3\n")
    report = import_dataset(root, tmp_path / "out")
    assert report.num_images == {"train": 2, "val": 2}
    assert set(masks_of(tmp_path / "out", "val")) == {"a2", "a3"}
    assert not sum(report.skipped.values())
    assert report.notes == ["'valid' of the source is the split 'val'."]


def test_names_in_lists_may_be_paths_and_have_spaces_and_dots(tmp_path):
    root, names = tmp_path / "src", ("a/0", "b/0", "street 1 a", "street.1")
    for number, name in enumerate(names):
        put_image(root / "images" / f"{name}.png", number)
        put_mask(root / "masks" / f"{name}.png", draw())
    (root / "train.txt").write_text("a/0\nstreet.1\nnowhere\n", encoding="utf-8-sig")
    (root / "val.txt").write_text("b/0\r\nstreet 1 a\r\n", encoding="utf-8-sig")
    lists = SplitLists()
    for split in ("train", "val"):
        lists.add(split, (root / f"{split}.txt").read_text("utf-8-sig").splitlines())
    found = [lists.find(root / "images" / f"{name}.png") for name in names]
    assert found == ["train", "val", "val", "train"]
    assert lists.find(root / "images/c/0.png") == ""  # it could be either
    report = import_dataset(root, tmp_path / "out")
    assert report.num_images == {"train": 2, "val": 2}
    (root / "val.txt").write_text("other\n")
    (root / "train.txt").write_text("none\n")
    notes = import_dataset(root, tmp_path / "random").notes
    assert "The lists of splits name no image." in notes


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("background\nroad\n", ("background", "road")),
        ("road\n", ("background", "road")),
        ("light: red\nlight: green\n", ("light: red", "light: green")),
    ],
)
def test_0_and_255_are_the_two_classes_of_a_table(tmp_path, names, classes):
    put_image(tmp_path / "src" / "a.jpg")
    put_mask(tmp_path / "src" / "a_mask.png", draw(index=255))
    (tmp_path / "src" / "classes.txt").write_text(names)
    report = import_dataset(tmp_path / "src", tmp_path / "out", val=0)
    assert report.classes == classes
    assert report.notes == [
        *["classes.txt names the mask values from 1; 0 is background."] * (names == "road\n"),
        f"The mask value 255 is {classes[1]}.",
    ]
    assert np.array_equal(masks_of(tmp_path / "out", "train")["a"], draw())
