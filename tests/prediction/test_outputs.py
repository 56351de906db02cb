"""Run lengths, polygons, probabilities, confidence, shares."""

import io
import json
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools.mask import decode

from atrous.classes import IGNORE_INDEX, build_classes
from atrous.errors import ConfigError
from atrous.prediction.annotations import build_coco_annotations, build_geojson
from atrous.prediction.outputs import FILES, SegmentedImage, check_kinds, compute_shares
from atrous.prediction.prediction import Prediction

CLASSES = build_classes(["a", "b", "c"])

masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 1, 2, IGNORE_INDEX]))
)


@given(masks)
@settings(deadline=None)
def test_run_lengths_decode_to_the_mask(mask):
    seen = np.full(mask.shape, IGNORE_INDEX)
    for annotation in json.loads(json.dumps(build_coco_annotations(mask, CLASSES))):
        inside = decode(annotation["segmentation"]).astype(bool)
        assert annotation["area"] == inside.sum() > 0
        assert annotation["category"] == CLASSES.names[annotation["category_id"]]
        seen[inside] = annotation["category_id"]
    assert np.array_equal(seen, mask)


def fill(rings, shape):
    """Return the pixels with an odd number of vertical edges to their left."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for ring in rings:
        for (x, top), (other_x, bottom) in pairwise(ring):
            if x == other_x:
                crossings[min(top, bottom) : max(top, bottom), x] += 1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


def compute_area(ring):
    return sum(x * y1 - x1 * y for (x, y), (x1, y1) in pairwise(ring)) / 2


@given(masks)
@settings(deadline=None)
def test_filled_polygons_give_the_mask_back(mask):
    collection = json.loads(json.dumps(build_geojson(mask, CLASSES)))
    seen = np.full(mask.shape, IGNORE_INDEX)
    for feature in collection["features"]:
        inside = fill(feature["geometry"]["coordinates"], mask.shape)
        assert inside.sum() == feature["properties"]["area_px"]
        assert (seen[inside] == IGNORE_INDEX).all()
        seen[inside] = feature["properties"]["index"]
    assert np.array_equal(seen, mask)


@given(masks)
@settings(deadline=None)
def test_polygons_are_valid_outline_first_and_without_needless_corners(mask):
    for feature in build_geojson(mask, CLASSES)["features"]:
        for number, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1]
            assert len(set(ring)) == len(ring) - 1, "a ring must not meet itself"
            assert (compute_area(ring) > 0) == (number == 0)
            for (x, _), (x1, _), (x2, _) in zip(ring, ring[1:], ring[2:], strict=False):
                assert (x == x1) != (x1 == x2)


def test_a_ring_around_a_hole_is_one_polygon_with_a_hole():
    mask = np.zeros((5, 6), np.uint8)
    mask[1:4, 1:4] = 1
    mask[2, 2] = IGNORE_INDEX
    ring, background = sorted(
        build_geojson(mask, CLASSES)["features"], key=lambda one: one["properties"]["area_px"]
    )
    assert ring["geometry"]["coordinates"] == [
        [(1, 1), (4, 1), (4, 4), (1, 4), (1, 1)],
        [(2, 2), (2, 3), (3, 3), (3, 2), (2, 2)],
    ]
    assert len(background["geometry"]["coordinates"]) == 2


def render(kind, done):
    file = io.BytesIO()
    FILES[kind][1](file, done, CLASSES)
    file.seek(0)
    return file


def test_probabilities_and_confidence_are_plain_files():
    mask = torch.tensor([[0, 1], [2, IGNORE_INDEX]], dtype=torch.uint8)
    probs = torch.rand(3, 2, 2).half()
    confidence = torch.tensor([[0, 128], [255, 7]], dtype=torch.uint8)
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    done = SegmentedImage("x", image, Prediction(mask, confidence, probs))
    with np.load(render("probs", done), allow_pickle=False) as arrays_in_file:
        assert np.array_equal(arrays_in_file["probs"], probs.numpy())
        assert arrays_in_file["probs"].dtype == np.float16
        assert arrays_in_file["classes"].tolist() == ["a", "b", "c"]
    with Image.open(render("confidence", done)) as image:
        assert image.mode == "L"
        assert np.array_equal(np.array(image), confidence.numpy())
    content = json.load(render("rle", done))
    assert (content["image"], content["height"], content["width"]) == ("x", 2, 2)


def test_overlays_of_large_images_are_drawn_smaller(monkeypatch):
    monkeypatch.setattr("atrous.prediction.render.OVERLAY_SIDE_PX", 100)
    image = torch.zeros(3, 50, 400, dtype=torch.uint8)
    done = SegmentedImage("x", image, Prediction(torch.zeros(50, 400, dtype=torch.uint8)))
    with Image.open(render("overlay", done)) as overlay:
        assert overlay.width == 100


def test_shares_add_up_to_one():
    mask = torch.tensor([[0, 0, 2, IGNORE_INDEX]], dtype=torch.uint8).repeat(3000, 1000)
    assert compute_shares(mask, 3) == [0.5, 0, 0.25, 0.25]


def test_outputs_come_in_one_order_and_unknown_ones_are_refused():
    assert check_kinds(["shares", "rle", "rle", "mask"]) == ("mask", "rle", "shares")
    with pytest.raises(ConfigError, match=r"no output 'geojsn'\. Did you mean 'geojson'"):
        check_kinds(["mask", "geojsn"])
    with pytest.raises(ConfigError, match="Nothing is to be saved"):
        check_kinds([])


def test_a_missing_package_names_the_extra_before_anything_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(ConfigError, match=r"pip install 'atrous\[labels\]'"):
        check_kinds(["rle"])
