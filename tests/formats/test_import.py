"""Exports of labelling tools become datasets; masks equal those of a reference decoder."""

import base64
import json
import os
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as MplPath
from PIL import Image, ImageDraw

from atrous.data import open_dataset
from atrous.doctor import check_dataset
from atrous.errors import ConfigError, DataError
from atrous.formats import import_dataset
from atrous.formats.canvas import Canvas

HEIGHT, WIDTH = 40, 60
SQUARE = [(10, 10), (30, 10), (30, 30), (10, 30)]


def put_image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def put_mask(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path)


def draw(points=SQUARE, index=1, hw=(HEIGHT, WIDTH)) -> np.ndarray:
    image = Image.new("L", hw[::-1])
    ImageDraw.Draw(image).polygon(points, fill=index, outline=index)
    return np.array(image)


def fill(points=SQUARE, index=1) -> np.ndarray:
    """Pixels whose centres are inside a polygon, by matplotlib."""
    centers = np.dstack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))).reshape(-1, 2) + 0.5
    return index * MplPath(points).contains_points(centers).reshape(HEIGHT, WIDTH).astype(np.uint8)


def masks_of(out: Path, split: str) -> dict[str, np.ndarray]:
    dataset = open_dataset(out, split)
    return {name: dataset.load(i).mask.numpy() for i, name in enumerate(dataset.names)}


def write_coco(root: Path) -> dict[str, np.ndarray]:
    """Write two splits as Roboflow does, with polygons, both run lengths, a crowd and a gap."""
    coco = pytest.importorskip("pycocotools.mask")
    disc = np.zeros((HEIGHT, WIDTH), np.uint8)
    disc[20:35, 25:50] = 1
    compressed = coco.encode(np.asfortranarray(disc))
    flat = disc.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    polygon = [float(value) for point in SQUARE for value in point]
    expected = {}
    for split, number in (("train", 0), ("valid", 1), ("train", 2)):
        put_image(root / split / f"{number}.jpg", number)
    rows = [
        (1, 7, [polygon], 0), (1, 9, {"size": [HEIGHT, WIDTH], "counts": counts}, 0),
        (2, 9, {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()}, 1),
    ]  # fmt: skip
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "segmentation": region, "iscrowd": c}
        for i, (image, category, region, c) in enumerate(rows)
    ]
    categories = [
        {"id": 0, "name": "things", "supercategory": "none"},
        {"id": 7, "name": "cat", "supercategory": "things"},
        {"id": 9, "name": "dog", "supercategory": "things"},
    ]
    for split, images in (("train", {1: "0.jpg", 3: "2.jpg"}), ("valid", {2: "1.jpg"})):
        content = {
            "info": {},
            "images": [
                {"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH}
                for i, name in images.items()
            ],
            "annotations": [row for row in annotations if row["image_id"] in images],
            "categories": categories,
        }
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    square = coco.decode(coco.merge(coco.frPyObjects([polygon], HEIGHT, WIDTH)))
    expected["0"] = np.where(square, 1, disc * 2) if square.sum() < disc.sum() else None
    if expected["0"] is None:
        expected["0"] = np.where(disc, 2, square)
    expected["1"] = disc * 255
    expected["2"] = np.zeros_like(disc)
    return expected


def test_coco_polygons_run_lengths_and_crowds(tmp_path):
    expected = write_coco(tmp_path / "src")
    report = import_dataset(tmp_path / "src", tmp_path / "out")
    assert report.classes == ("background", "cat", "dog")
    assert report.num_images == {"train": 2, "val": 1}
    found = {**masks_of(tmp_path / "out", "train"), **masks_of(tmp_path / "out", "val")}
    for name, mask in expected.items():
        assert np.array_equal(found[name], mask), name


def test_yolo_polygons_lie_on_a_background(tmp_path):
    pytest.importorskip("yaml")
    root = tmp_path / "src"
    for split in ("train", "val"):
        put_image(root / "images" / split / "a.png")
        points = " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in SQUARE)
        label = root / "labels" / split / "a.txt"
        label.parent.mkdir(parents=True)
        label.write_text(f"1 {points}\n0 0.5 nan 0 0 1 1\n9 0 0 1 1 0 1\n0 0.5 0.5 1 1\n")
    (root / "data.yaml").write_text("names: {0: car, 1: tree}\ntrain: images/train\n")
    report = import_dataset(root, tmp_path / "out")
    assert report.classes == ("background", "car", "tree")
    assert report.skipped == {
        "lines that are no polygon of a known class": 4,
        "boxes without a polygon": 2,
    }
    assert np.array_equal(masks_of(tmp_path / "out", "val")["a"], draw(index=2))


def test_an_export_of_boxes_is_refused(tmp_path):
    pytest.importorskip("yaml")
    root = tmp_path / "src"
    put_image(root / "images/train/a.png")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 1 1\n0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("names: [car]\n")
    expected = "none of the 1 images has .*boxes without a polygon: 2.*Export polygons or masks"
    with pytest.raises(DataError, match=expected):
        import_dataset(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_filled_pixels_are_those_whose_centres_are_inside():
    rng = np.random.default_rng(0)
    for num_points in [3, 4, 8] * 20:
        points = rng.uniform(-20, 80, (num_points, 2))
        x, y = (points - points.mean(axis=0)).T  # in order around their centre, they do not cross
        points = points[np.arctan2(y, x).argsort()].tolist()
        canvas = Canvas(HEIGHT, WIDTH)
        assert canvas.fill_polygon(points, 1)
        assert np.array_equal(canvas.to_mask(), fill(points))


def test_labelme_shapes_of_every_type(tmp_path):
    root = tmp_path / "src"
    put_image(root / "a.png")
    region = BytesIO()
    Image.new("L", (6, 5), 1).save(region, "PNG")
    shapes = [
        {"label": "b", "shape_type": "polygon", "points": SQUARE},
        {"label": "a", "shape_type": "rectangle", "points": [[2, 3], [6, 8]]},
        {"label": "a", "shape_type": "mask", "points": [[40, 5], [45, 9]],
         "mask": base64.b64encode(region.getvalue()).decode()},
        {"label": "__ignore__", "shape_type": "rectangle", "points": [[50, 30], [55, 35]]},
        {"label": "a", "shape_type": "point", "points": [[1, 1]]},
        {"label": "a", "shape_type": "polygon", "points": [[1, 1], [2, float("nan")], [3, 3]]},
    ]  # fmt: skip
    (root / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    report = import_dataset(root, tmp_path / "out", val=0)
    assert report.classes == ("background", "a", "b")
    assert sum(report.skipped.values()) == 2
    expected = draw(index=2)
    expected[3:9, 2:7] = 1
    expected[5:10, 40:46] = 1
    expected[30:36, 50:56] = 255
    assert np.array_equal(masks_of(tmp_path / "out", "train")["a"], expected)


def test_cvat_shapes_of_every_type(tmp_path):
    root = tmp_path / "src"
    put_image(root / "images" / "val" / "a.png")
    (root / "annotations.xml").write_text(
        """<?xml version="1.0"?><annotations><version>1.1</version><meta><task><labels>
        <label><name>b</name></label><label><name>a</name></label></labels></task></meta>
        <image id="0" name="a.png" subset="val" width="60" height="40">
        <box label="a" xtl="2" ytl="3" xbr="6" ybr="8" z_order="0"/>
        <mask label="a" rle="2,3,1,4,5" left="40" top="5" width="5" height="3" z_order="1"/>
        <polygon label="a" points="10,10;30,10;30,30;10,30" z_order="1"/>
        <polygon label="b" points="10,10;30,10;30,30;10,30" z_order="2"/>
        <mask label="a" rle="2,3" left="40" top="5" width="5" height="3" z_order="1"/>
        <polygon label="b" points="1,nan;2,2;3,3" z_order="1"/>
        <points label="b" points="1,1"/></image>
        <image id="1" name="gone.png" width="6" height="6"/></annotations>"""
    )
    report = import_dataset(root, tmp_path / "out")
    assert report.classes == ("background", "b", "a")
    assert sum(report.skipped.values()) == 4
    expected = fill(index=1)
    expected[3:8, 2:6] = 2
    expected[5:8, 40:45] = 2 * np.array([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    assert np.array_equal(masks_of(tmp_path / "out", "val")["a"], expected)


def test_supervisely_bitmaps_and_polygons_with_holes(tmp_path):
    root = tmp_path / "src"
    put_image(root / "ds" / "img" / "a.png")
    stencil = np.zeros((5, 6, 4), np.uint8)
    stencil[1:, 2:, 3] = 255
    png = BytesIO()
    Image.fromarray(stencil).save(png, "PNG")
    data = base64.b64encode(zlib.compress(png.getvalue())).decode()
    hole = [[15, 15], [20, 15], [20, 20], [15, 20]]
    objects = [
        {"classTitle": "a", "geometryType": "polygon",
         "points": {"exterior": [list(point) for point in SQUARE], "interior": [hole]}},
        {"classTitle": "b", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [40, 5]}},
        {"classTitle": "b", "geometryType": "bitmap", "bitmap": {"data": "!", "origin": [4, 5]}},
        {"classTitle": "a", "geometryType": "point", "points": {"exterior": [[1, 1]]}},
    ]  # fmt: skip
    (root / "ds" / "ann").mkdir()
    (root / "ds" / "ann" / "a.png.json").write_text(json.dumps({"objects": objects}))
    (root / "meta.json").write_text('{"classes": [{"title": "a"}, {"title": "b"}]}')
    report = import_dataset(root, tmp_path / "out", val=0)
    assert (report.classes, sum(report.skipped.values())) == (("background", "a", "b"), 2)
    expected = draw(index=1) * (1 - draw(hole))
    expected[6:10, 42:46] = 2
    assert np.array_equal(masks_of(tmp_path / "out", "train")["a"], expected)


def test_cityscapes_has_its_19_classes(tmp_path):
    root, ids = tmp_path / "src", draw(index=26)
    ids[:2], ids[2:4] = 7, 33
    for split in ("train", "val"):
        stem = "bonn_000000_000019"
        put_image(root / "leftImg8bit" / split / "bonn" / f"{stem}_leftImg8bit.png")
        for kind in ("labelIds", "color", "instanceIds"):
            put_mask(root / "gtFine" / split / "bonn" / f"{stem}_gtFine_{kind}.png", ids)
    report = import_dataset(root, tmp_path / "out")
    assert report.num_images == {"train": 1, "val": 1}
    mask = masks_of(tmp_path / "out", "val")["bonn_000000_000019_leftImg8bit"]
    names = [report.classes[index] for index in np.unique(mask) if index < 255]
    assert (len(report.classes), names) == (19, ["road", "car", "bicycle"])
    assert (mask == 255).sum() == (ids == 0).sum()


def test_ade20k_starts_counting_at_1(tmp_path):
    root = tmp_path / "src"
    for split in ("training", "validation"):
        put_image(root / "images" / split / "ADE_1.jpg")
        put_mask(root / "annotations" / split / "ADE_1.png", draw(index=150))
    report = import_dataset(root, tmp_path / "out")
    assert report.num_images == {"train": 1, "val": 1}
    mask = masks_of(tmp_path / "out", "val")["ADE_1"]
    assert np.array_equal(mask, np.where(draw() == 1, 149, 255))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("train/Images/{}.jpg", "train/Masks/{}.png"),
        ("images/train/{}.jpg", "annotations/train/{}.png"),
        ("train/{}.png", "train_labels/{}_L.png"),
        ("train/{}.png", "trainannot/{}.png"),
        ("{}.jpg", "{}_mask.png"),
        ("Train/Images/{}.gif", "Train/Labels/{}.gif"),
        ("deep/er/train/img/{}.jpg", "deep/er/train/label/{}.png"),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    ],
)
def test_folders_in_any_spelling(tmp_path, image, mask):
    root = tmp_path / "src"
    for number in range(4):
        put_image(root / image.format(number), number)
        put_mask(root / mask.format(number), draw(index=255))
    report = import_dataset(root, tmp_path / "out", val=0.25)
    assert report.classes == ("background", "foreground")
    assert report.num_images == {"train": 3, "val": 1}
    for found in masks_of(tmp_path / "out", "train").values():
        assert np.array_equal(found, draw(index=1))
    assert not [f for f in check_dataset(tmp_path / "out").findings if f.level == "error"]


@pytest.mark.parametrize("as_palette", [False, True])
def test_colours_are_named_by_the_table_beside_them(tmp_path, as_palette):
    root, colors = tmp_path / "src", np.array([[0, 0, 0], [250, 50, 80]], np.uint8)
    for split in ("train", "valid"):
        put_image(root / split / "a.jpg")
        pixels = Image.fromarray(colors[draw()])
        pixels = pixels.quantize(8) if as_palette else pixels
        pixels.save(root / split / "a_mask.png")
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ntumour:250,50,80::\n"
    )
    report = import_dataset(root, tmp_path / "out")
    assert report.classes == ("background", "tumour")
    assert np.array_equal(masks_of(tmp_path / "out", "val")["a"], draw())
    assert open_dataset(tmp_path / "out", "val").classes.colors[1] == (250, 50, 80)


def test_classes_toml_holds_for_indices(tmp_path):
    root = tmp_path / "src"
    put_image(root / "images" / "a.png")
    put_mask(root / "masks" / "a.png", draw(index=2))
    (root / "classes.toml").write_text('names = ["sky", "car"]\nignore_index = 2\n')
    report = import_dataset(root, tmp_path / "out", val=0)
    assert report.classes == ("sky", "car")
    assert np.array_equal(masks_of(tmp_path / "out", "train")["a"], draw(index=255))


def test_bands_and_range_of_classes_toml_are_kept(tmp_path):
    root, out = tmp_path / "src", tmp_path / "out"
    put_image(root / "images" / "a.png")
    put_mask(root / "masks" / "a.png", draw())
    text = 'names = ["sky", "car"]\nbands = 4\nrange = {}\n'
    (root / "classes.toml").write_text(text.format("[0, 4095]"))
    import_dataset(root, out, val=0)
    dataset = open_dataset(out, "train")
    assert (dataset.bands, dataset.ranges) == (4, ((0.0, 4095.0),) * 4)
    assert import_dataset(root, out, val=0).is_old
    (root / "classes.toml").write_text(text.format("[0, 255]"))
    with pytest.raises(ConfigError, match="holds another import"):
        import_dataset(root, out, val=0)
    (root / "classes.toml").write_text(text.format("9"))
    with pytest.raises(DataError, match="must be two numbers, the lower first"):
        import_dataset(root, tmp_path / "other", val=0)


def test_roboflow_masks_keep_copies_of_an_image_together(tmp_path):
    root = tmp_path / "src"
    for number in range(10):
        stem = f"street_{number // 2}_jpg.rf.{number}abc"
        put_image(root / "train" / f"{stem}.jpg", number)
        put_mask(root / "train" / f"{stem}_mask.png", draw(index=2))
    (root / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, none\n1, car\n2, tree\n")
    report = import_dataset(root, tmp_path / "out", val=0.4)
    assert report.classes == ("none", "car", "tree")
    assert report.num_images == {"train": 6, "val": 4}
    names = {split: set(masks_of(tmp_path / "out", split)) for split in ("train", "val")}
    groups = [{name.split(".rf.")[0] for name in one} for one in names.values()]
    assert not groups[0] & groups[1]


def test_a_second_run_changes_nothing_and_a_failed_one_leaves_nothing(tmp_path, monkeypatch):
    root, out = tmp_path / "src", tmp_path / "out"
    for number in range(3):
        put_image(root / "images" / f"{number}.png", number)
        put_mask(root / "masks" / f"{number}.png", draw())

    def fail(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset(root, out, progress=fail)
    assert os.listdir(tmp_path) == ["src"]
    assert not import_dataset(root, out).is_old
    assert os.path.samefile(root / "images" / "0.png", next(out.glob("*/images/0.png")))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert import_dataset(root, out).is_old
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    with pytest.raises(ConfigError, match="is inside of"):
        import_dataset(root, root / "out")
    with pytest.raises(ConfigError, match="another import"):
        import_dataset(root, out, val=0.5)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ConfigError, match="other files"):
        import_dataset(root, tmp_path / "full")
    with pytest.raises(ConfigError, match="is a file"):
        import_dataset(root, tmp_path / "full" / "x")
    with pytest.raises(DataError, match="cannot be written"):
        import_dataset(root, tmp_path / "full" / "x" / "out")
    (out / "import.json").write_text('{"images": 3}')
    with pytest.raises(ConfigError, match=r"import\.json cannot be read"):
        import_dataset(root, out)


BROKEN_COCO = {
    "unknown category": ("annotations", {"category_id": 99}),
    "unknown image": ("annotations", {"image_id": 99}),
    "no segmentation": ("annotations", {"segmentation": None}),
    "odd polygon": ("annotations", {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}),
    "short polygon": ("annotations", {"segmentation": [[1, 2]]}),
    "nan": ("annotations", {"segmentation": [[1, 2, float("nan"), 4, 5, 6]]}),
    "short runs": ("annotations", {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [5]}}),
    "long runs": ("annotations", {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [9999]}}),
    "other size": ("annotations", {"segmentation": {"size": [4, 4], "counts": [16]}}),
    "bad text": ("annotations", {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "\x7f" * 9}}),
    "text": ("annotations", {"segmentation": "polygon"}),
    "missing image": ("images", {"file_name": "none.jpg"}),
    "outside": ("images", {"file_name": "../../secret.jpg"}),
    "no size": ("images", {"height": None}),
}


@pytest.mark.parametrize("kind", BROKEN_COCO)
def test_malformed_coco_is_skipped_and_counted(tmp_path, kind):
    pytest.importorskip("pycocotools")
    rows, changes = BROKEN_COCO[kind]
    root = tmp_path / "src"
    for number in (1, 2):
        put_image(root / f"{number}.jpg", number)
    put_image(tmp_path / "secret.jpg")
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in (1, 2)
        ],
        "annotations": [
            {"image_id": i, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]} for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    content[rows][0] |= changes
    (root / "a.json").write_text(json.dumps(content))
    report = import_dataset(root, tmp_path / "out", val=0)
    assert sum(report.skipped.values()) >= 1
    assert "2" in masks_of(tmp_path / "out", "train")


def test_coco_ids_may_be_floats_and_a_category_its_own_supercategory(tmp_path):
    pytest.importorskip("pycocotools")
    put_image(tmp_path / "src" / "a.png")
    polygon = [float(value) for point in SQUARE for value in point]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"image_id": 1.0, "category_id": 2.0, "segmentation": [polygon]}],
        "categories": [
            {"id": i, "name": n, "supercategory": n} for i, n in ((1, "cat"), (2, "dog"))
        ],
    }
    path = tmp_path / "src" / "a.json"
    path.write_text(json.dumps(content))
    report = import_dataset(tmp_path / "src", tmp_path / "out", val=0)
    assert report.classes == ("background", "cat", "dog")
    assert np.array_equal(masks_of(tmp_path / "out", "train")["a"], fill(index=2))
    content["annotations"][0]["image_id"] = "x"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"None of the 1 annotations in .*a\.json has"):
        import_dataset(tmp_path / "src", tmp_path / "none", val=0)


def test_yolo_splits_are_those_of_its_lists(tmp_path):
    pytest.importorskip("yaml")
    root = tmp_path / "src"
    for number in range(4):
        put_image(root / "images" / f"{number}.jpg", number)
        (root / "labels").mkdir(exist_ok=True)
        (root / f"labels/{number}.txt").write_text("0 0 0 1 0 1 1\n", encoding="utf-8-sig")
    (root / "labels/orphan.txt").write_text("0 0 0 1 0 1 1\n")
    (root / "data.yaml").write_text("names: [car]\ntrain: train.txt\nval: lists/val.txt\n")
    (root / "train.txt").write_text("./images/0.jpg\n./images/1.jpg\n")
    (root / "lists").mkdir()
    (root / "lists/val.txt").write_text("./images/2.jpg\n./images/3.jpg\n")
    report = import_dataset(root, tmp_path / "out")
    assert report.num_images == {"train": 2, "val": 2}
    assert report.skipped == {"label files without an image": 1}
    assert masks_of(tmp_path / "out", "val")["2"].any()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.json",
            '{"shapes": [{"label": "", "points": []}], "imageHeight": 80, "imageWidth": 120}',
        ),
        ("a.xml", '<annotations><image name="a.png" width="120" height="80"/></annotations>'),
    ],
)
def test_labels_of_an_image_of_another_size_are_refused(tmp_path, name, text):
    put_image(tmp_path / "src" / "a.png")
    (tmp_path / "src" / name).write_text(text)
    with pytest.raises(DataError, match=r"an image of 120 × 80 pixels, but .* has 60 × 40"):
        import_dataset(tmp_path / "src", tmp_path / "out", val=0)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no known format; it holds no files"),
        ({"a.csv": "x", "b.csv": "x"}, "it holds 2 files of .csv"),
        ({"a.json": '{"images": [], "annotations": [], "categories": []}'}, "no image of it"),
        ({"a.json": '{"images": 1, "annotations": [], "categories": [{"id": "x"}]}'}, "integer id"),
        ({"data.yaml": "names: 3\n"}, "needs class names under 'names'"),
        ({"data.yaml": "names: {0: a, 2: b}\n"}, "one name for each number from 0"),
        ({"a.xml": "<annotations><track id='0'/></annotations>"}, "export as .CVAT for video"),
        ({"a.json": '{"shapes": 3}'}, "no list of 'shapes'"),
    ],
)
def test_a_source_that_cannot_be_read_is_an_error(tmp_path, files, message):
    (tmp_path / "src").mkdir()
    for name, text in files.items():
        (tmp_path / "src" / name).write_text(text)
    with pytest.raises(DataError, match=message):
        import_dataset(tmp_path / "src", tmp_path / "out")
    assert os.listdir(tmp_path) == ["src"]


def test_masks_of_another_size_or_too_many_colours_are_named(tmp_path):
    put_image(tmp_path / "src" / "images" / "a.png")
    put_mask(tmp_path / "src" / "masks" / "a.png", draw(hw=(30, 30)))
    with pytest.raises(DataError, match=r"a\.png is 60 × 40 pixels.*labels are for 30 × 30"):
        import_dataset(tmp_path / "src", tmp_path / "out")
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    put_mask(tmp_path / "src" / "masks" / "a.png", noise)
    with pytest.raises(DataError, match=r"colours of the masks .* have no name"):
        import_dataset(tmp_path / "src", tmp_path / "out")


def test_the_command_says_what_it_did(tmp_path, atrous):
    put_image(tmp_path / "src" / "images" / "a.png")
    put_mask(tmp_path / "src" / "masks" / "a.png", draw())
    put_image(tmp_path / "src" / "images" / "b.png")
    code, output = atrous("import", tmp_path / "src", tmp_path / "out")
    assert code == 0
    assert "folders of images and masks: train 1 imported into" in output
    assert "left out: images without a mask: 1" in output
    assert atrous("import", tmp_path / "nowhere", tmp_path / "out2")[0] == 2
