"""Labels for annotation tools: imported again, they are the predicted masks."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools.coco import COCO
from scipy import ndimage

from atrous.classes import build_classes
from atrous.data import open_dataset
from atrous.errors import ConfigError
from atrous.formats import import_dataset
from atrous.formats.canvas import Canvas
from atrous.prediction import predict, predict_stream, regions
from atrous.prediction.regions import (
    compute_area,
    find_regions,
    merge_small_regions,
    simplify_region,
    trace_regions,
)

COLORS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)


@pytest.fixture
def model(color_model):
    """Predicts each pixel by its colour; the class names are not in alphabetical order."""
    color_model.card = replace(
        color_model.card, classes=build_classes(["Background", "tree & <bush>", "cär"])
    )
    return color_model


@pytest.fixture
def masks(tmp_path):
    """Masks with holes, specks, thin parts and regions at every border, and their images."""
    masks = {}
    for seed, (height, width) in enumerate([(61, 83), (40, 37), (9, 70), (30, 30)]):
        noise = np.random.default_rng(seed).normal(size=(height, width))
        values = ndimage.gaussian_filter(noise, 2.5)
        mask = np.digitize(values, np.quantile(values, [0.4, 0.7])).astype(np.uint8)
        masks[f"im age{seed}"] = np.zeros_like(mask) if seed == 3 else mask
    (tmp_path / "data" / "images").mkdir(parents=True)
    for name, mask in masks.items():
        Image.fromarray(COLORS[mask]).save(tmp_path / "data" / "images" / f"{name}.png")
    return {name: merge_small_regions(mask) for name, mask in masks.items()}


def touches_border(mask):
    framed = np.pad(mask, 1, constant_values=255)
    is_border = ndimage.maximum_filter(framed, 3) != ndimage.minimum_filter(framed, 3)
    return is_border[1:-1, 1:-1]


@pytest.mark.parametrize("kind", ["coco", "cvat", "labelme", "yolo"])
def test_imported_labels_are_the_predicted_masks(model, masks, tmp_path, kind):
    data = tmp_path / "data"
    out = data / "images" if kind == "labelme" else data
    kinds = [kind] if kind == "labelme" else [kind, "mask"]  # masks are named as the images
    report = predict(model, data / "images", out, save=kinds)
    assert not report.failed
    assert report.merged_px > 0
    found = import_dataset(out, tmp_path / "dataset", val=0)
    assert found.classes == ("background", "tree & <bush>", "cär")
    assert not found.skipped
    dataset = open_dataset(tmp_path / "dataset", "train")
    samples = [dataset.load(index) for index in range(len(dataset.names))]
    assert all(sample.image.max() == 255 for sample in samples)  # not a mask with VOC's colours
    imported = {
        name: sample.mask.numpy() for name, sample in zip(dataset.names, samples, strict=True)
    }
    assert imported.keys() == masks.keys()
    for name, mask in masks.items():
        differs = imported[name] != mask
        assert not (differs & ~touches_border(mask)).any()
        assert differs.mean() <= (0 if kind in ("coco", "cvat") else 0.25)


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1))
)
@settings(deadline=None)
def test_a_line_that_is_not_moved_encloses_exactly_its_region(mask):
    found = {
        (region.left, region.top, region.pixels.sum()): region for region in find_regions(mask, [1])
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "TOLERANCE_PX", 0)
        for _, rings in trace_regions(mask, mask == 1):
            left, top = np.min(rings[0], axis=0)
            region = found[left, top, compute_area(rings)]
            canvas, expected = Canvas(*mask.shape), np.zeros_like(mask)
            canvas.draw_polygon(simplify_region(rings).tolist(), 1)
            expected[top:, left:][: len(region.pixels), : region.pixels.shape[1]] = region.pixels
            differs = canvas.to_mask() != expected
            assert not differs.any() or (1 in region.pixels.shape and not expected[differs].any())


def test_coco_regions_are_connected_apart_and_measured(model, masks, tmp_path):
    predict(model, tmp_path / "data" / "images", tmp_path / "out", save=["coco"])
    coco = COCO(tmp_path / "out" / "predictions.json")
    assert [row["name"] for row in coco.loadCats(coco.getCatIds())] == ["tree & <bush>", "cär"]
    for image in coco.loadImgs(coco.getImgIds()):
        mask = np.zeros((image["height"], image["width"]), int)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            region = coco.annToMask(annotation)
            rows, columns = np.nonzero(region)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert (annotation["bbox"], annotation["area"]) == (box, region.sum())
            assert ndimage.label(region)[1] == 1
            mask += region * annotation["category_id"]
        assert np.array_equal(mask, masks[image["file_name"].removesuffix(".png")])


def test_an_interrupted_run_goes_on_to_the_same_files(model, masks, tmp_path):
    images, out = tmp_path / "data" / "images", tmp_path / "out"
    kinds = ["coco", "cvat", "labelme", "yolo"]
    names = ("predictions.json", "predictions.xml", "data.yaml", "labels.txt")

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, images, out, save=kinds, progress=interrupt)
    assert not any((out / name).exists() for name in names)
    report = predict(model, images, out, save=kinds, resume=True)
    assert report.resumed
    whole = predict(model, images, tmp_path / "whole", save=kinds)
    assert report.merged_px == whole.merged_px
    for name in (*names, *(f"labels/{stem}.txt" for stem in masks)):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_labels_that_exist_are_kept(model, masks, tmp_path):
    images = tmp_path / "data" / "images"
    corrected = images / "im age1.json"
    corrected.write_text("the work of an annotator")
    report = predict(model, images, images, save=["labelme"])
    assert report.kept == [str(images / "im age1.png")]
    assert len(report.written) == len(masks) - 1
    assert len(predict(model, images, images, save=["labelme"]).kept) == len(masks)
    assert corrected.read_text() == "the work of an annotator"
    content = json.loads((images / "im age0.json").read_text())
    assert (content["imagePath"], content["imageData"]) == ("im age0.png", None)
    (tmp_path / "data" / "data.yaml").write_text("names: [cat]")
    with pytest.raises(ConfigError, match=r"data\.yaml exists, and differs"):
        predict(model, images, tmp_path / "data", save=["yolo"])


def test_labels_link_to_their_images(model, masks, tmp_path):
    pattern = tmp_path / "data" / "**" / "im age0.png"
    predict(model, str(pattern), tmp_path / "out", save=["labelme", "cvat"])
    content = json.loads((tmp_path / "out" / "images" / "im age0.json").read_text())
    assert content["imagePath"] == "../../data/images/im age0.png"
    assert ' name="images/im age0.png" ' in (tmp_path / "out" / "predictions.xml").read_text()


def test_what_is_no_image_file_is_refused(model, tmp_path):
    pages = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "a.mp4").touch()
    for name in ("a.tif", "a.mp4"):
        with pytest.raises(ConfigError, match=r"is no file of one image.*\(coco, yolo\)"):
            predict(model, tmp_path / name, tmp_path / "out", save=["yolo", "coco"])
    with pytest.raises(ConfigError, match="'coco' is no file of one image"):
        predict_stream(model, (tmp_path / "a.tif").open("rb"), None, kind="coco")
    Image.new("RGB", (20, 20)).save(tmp_path / "predictions.png")
    with pytest.raises(ConfigError, match=r"predictions\.json would be both"):
        predict(model, tmp_path / "predictions.png", tmp_path / "out", save=["labelme", "coco"])
    assert not (tmp_path / "out").exists()
