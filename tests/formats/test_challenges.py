"""Formats of challenges, and LabelMe's VOC export; every pixel is compared."""

import json

import numpy as np
import pytest
import tifffile
from test_import import HEIGHT, WIDTH, draw, masks_of, put_image, put_mask

from atrous.errors import DataError
from atrous.formats import import_dataset


def write_panoptic(root):
    """Write two splits; segments 70,000 (cat), 300 (crowd), 5 (sky) and 9 (not listed)."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint32)
    ids[:10], ids[10:20], ids[20:25], ids[25:30] = 70_000, 300, 5, 9
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    segments = [(70_000, 17, 0), (300, 17, 1), (5, 187, 0)]
    for split, number in (("train2017", 1), ("val2017", 2)):
        put_image(root / split / f"{number:012}.png", number)
        put_mask(root / "annotations" / f"panoptic_{split}" / f"{number:012}.png", colors)
        content = {
            "images": [
                {"id": number, "file_name": f"{number:012}.png", "height": HEIGHT, "width": WIDTH}
            ],
            "annotations": [
                {
                    "image_id": number,
                    "file_name": f"{number:012}.png",
                    "segments_info": [
                        {"id": i, "category_id": c, "iscrowd": crowd} for i, c, crowd in segments
                    ],
                }
            ],
            "categories": [{"id": 17, "name": "cat"}, {"id": 187, "name": "sky", "isthing": 0}],
        }
        (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content))
    expected = np.full((HEIGHT, WIDTH), 255)
    expected[:10], expected[20:25] = 0, 1
    return expected


def test_coco_panoptic_ids_and_crowds(tmp_path):
    expected = write_panoptic(tmp_path / "src")
    report = import_dataset(tmp_path / "src", tmp_path / "out")
    assert (report.format, report.classes) == ("COCO panoptic", ("cat", "sky"))
    assert report.num_images == {"train": 1, "val": 1}
    assert not sum(report.skipped.values())
    assert np.array_equal(masks_of(tmp_path / "out", "val")["000000000002"], expected)


def write_nnunet(root, description, suffix=".png", num_channels=1):
    for number in range(4):
        for channel in range(num_channels):
            place = root / ("imagesTs" if number == 3 else "imagesTr")
            path = place / f"road_{number:03}_{channel:04}{suffix}"
            put_image(path, number)
            if num_channels > 1:
                depth = np.full((HEIGHT, WIDTH), 1000 * (channel + 1) + number, np.uint16)
                put_mask(path, depth)
        if number < 3:
            ids = draw(index=2)
            ids[:2] = 3
            put_mask(root / "labelsTr" / f"road_{number:03}{suffix}", ids)
    (root / "dataset.json").write_text(json.dumps(description))


V2 = {"channel_names": {"0": "R"}, "labels": {"background": 0, "car": 2, "ignore": 3}}
V1 = {"modality": {"0": "R"}, "labels": {"0": "background", "2": "car", "3": "ignore"}}


@pytest.mark.parametrize(("description", "suffix"), [(V2, ".png"), (V1, ".tif"), (V2, ".bmp")])
def test_nnunet_of_both_versions(tmp_path, description, suffix):
    write_nnunet(tmp_path / "src", description, suffix)
    report = import_dataset(tmp_path / "src", tmp_path / "out", val=0)
    assert (report.format, report.classes) == ("nnU-Net", ("background", "car"))
    assert report.num_images == {"train": 3}
    assert report.skipped == {"images without a mask": 1}
    expected = draw(index=1)
    expected[:2] = 255
    assert np.array_equal(masks_of(tmp_path / "out", "train")["road_001_0000"], expected)


def test_channels_of_nnunet_become_bands_of_one_tiff(tmp_path):
    root, out = tmp_path / "src", tmp_path / "out"
    write_nnunet(root, V2, num_channels=5)
    import_dataset(root, out, val=0)
    bands = tifffile.imread(out / "train" / "images" / "road_001_0000.tif")
    assert (bands.shape, bands.dtype) == ((5, HEIGHT, WIDTH), np.uint16)
    assert bands[:, 0, 0].tolist() == [1001, 2001, 3001, 4001, 5001]
    put_image(root / "imagesTr" / "road_001_0002.png")
    with pytest.raises(DataError, match=r"road_001_0002\.png has the shape"):
        import_dataset(root, tmp_path / "out2", val=0)
    (root / "imagesTr" / "road_001_0002.png").unlink()
    with pytest.raises(DataError, match="has 4 files of the case road_001, but should have"):
        import_dataset(root, tmp_path / "out2", val=0)


def test_nnunet_volumes_and_regions_are_explained(tmp_path):
    root = tmp_path / "src"
    write_nnunet(root, {"labels": {"background": 0, "whole": [1, 2]}})
    with pytest.raises(DataError, match="regions of several values cannot be imported"):
        import_dataset(root, tmp_path / "out")
    write_nnunet(root, {"labels": {"background": 0, "car": 2}})
    with pytest.raises(DataError, match=r"values that no label of dataset\.json names: 3"):
        import_dataset(root, tmp_path / "out")
    (root / "labelsTr" / "road_000.nii.gz").touch()
    with pytest.raises(DataError, match="Save the slices"):
        import_dataset(root, tmp_path / "out")


@pytest.mark.parametrize("is_new", [False, True])
def test_previews_and_arrays_of_labelme2voc_are_no_images(tmp_path, is_new):
    root = tmp_path / "src"
    ids = draw().astype(np.int32)
    ids[0] = -1
    pngs, arrays = ("", "Npy") if is_new else ("PNG", "")
    (root / f"SegmentationClass{arrays}").mkdir(parents=True)
    for number in range(2):
        put_image(root / "JPEGImages" / f"{number}.jpg", number)
        put_image(root / "SegmentationClassVisualization" / f"{number}.jpg", number)
        put_mask(root / f"SegmentationClass{pngs}" / f"{number}.png", ids.astype(np.uint8))
        np.save(root / f"SegmentationClass{arrays}" / f"{number}.npy", ids)
    (root / "class_names.txt").write_text("_background_\ncat")
    report = import_dataset(root, tmp_path / "out", val=0)
    assert (report.classes, report.num_images) == (("_background_", "cat"), {"train": 2})
    assert not report.skipped
    expected = np.where(ids < 0, 255, ids)
    assert np.array_equal(masks_of(tmp_path / "out", "train")["1"], expected)


def encode_runs(region) -> str:
    """Return Kaggle's run lengths, as the function of its discussion forums does."""
    pixels = np.concatenate([[0], np.asarray(region).T.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(map(str, runs))


TOP, DISC = np.zeros((HEIGHT, WIDTH), bool), draw() == 1
TOP[:5, 7:] = True
TABLES = {
    "Severstal": (
        "ImageId,ClassId,EncodedPixels",
        [
            ("a.jpg", 3, TOP),
            ("a.jpg", 1, DISC),
            ("a.jpg", 3, TOP.T[:HEIGHT].repeat(2, 1)[:, :WIDTH]),
        ],
        ("background", "class 1", "class 3"),
    ),
    "Severstal, joined": (
        "ImageId_ClassId,EncodedPixels",
        [("a.jpg_1", DISC), ("a.jpg_2", None), ("a.jpg_3", TOP)],
        ("background", "class 1", "class 2", "class 3"),
    ),
    "clouds": (
        "Image_Label,EncodedPixels",
        [("a.jpg_Fish", DISC), ("a.jpg_Sugar", TOP)],
        ("background", "Fish", "Sugar"),
    ),
    "DSB": ("ImageId,EncodedPixels", [("a", DISC), ("a", TOP)], ("background", "object")),
    "TGS": ("id,rle_mask", [("a", DISC)], ("background", "object")),
    "other": ("id,rle", [("a", "-1"), ("a", DISC)], ("background", "object")),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("place", ["train_images/a.jpg", "stage1_train/a/images/a.jpg"])
def test_tables_of_run_lengths(tmp_path, kind, place):
    header, rows, classes = TABLES[kind]
    put_image(tmp_path / "src" / place)
    put_mask(tmp_path / "src" / "masks" / "a.jpg", draw())
    put_image(tmp_path / "src" / "test_images" / "b.jpg")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    lines = [header]
    for *cells, region in rows:
        is_region = isinstance(region, np.ndarray)
        lines.append(
            ",".join([*map(str, cells), encode_runs(region) if is_region else region or ""])
        )
        names = [classes.index(name) for name in classes if name.endswith(str(cells[-1])[-1:])]
        expected[region if is_region else []] = names[0] if len(classes) > 2 else 1
    (tmp_path / "src" / "train.csv").write_text("\n".join([*lines, ""]))
    (tmp_path / "src" / "sample_submission.csv").write_text(f"{header}\nb.jpg,1 1\n")
    report = import_dataset(tmp_path / "src", tmp_path / "out", val=0)
    assert report.classes == classes
    assert report.skipped == {"images that the table does not list": 2}
    assert np.array_equal(masks_of(tmp_path / "out", "train")["a"], expected)


@pytest.mark.parametrize(
    "pixels",
    ["1", "0 5", "-1 5", "1 0", "2400 2", "1 2401", "1 x", "1.5 2", "9" * 30 + " 1",
     "1 " + "9" * 30, "1 2400 1 1", f"{2**62} {2**62}"],
)  # fmt: skip
def test_run_lengths_that_do_not_fit_are_counted(tmp_path, pixels):
    put_image(tmp_path / "src" / "a.jpg")
    put_image(tmp_path / "src" / "c.jpg", 1)
    text = f"ImageId,EncodedPixels\na.jpg,{pixels}\na.jpg\n../b.jpg,1 1\nc.jpg,1 1\n"
    (tmp_path / "src" / "a.csv").write_text(text)
    report = import_dataset(tmp_path / "src", tmp_path / "out", val=0)
    assert report.skipped == {
        "rows whose run lengths do not fit": 1,
        "rows with too few columns": 1,
        "images without a file": 1,
    }
    assert not masks_of(tmp_path / "out", "train")["a"].any()
