"""Label Studio's JSON; brushes equal those of label-studio-sdk's own decoder."""

import json

import numpy as np
import pytest
from test_import import HEIGHT, WIDTH, draw, fill, masks_of, put_image, put_mask

from atrous.errors import DataError
from atrous.formats import import_dataset
from atrous.formats.brush import decode_brush

# `encode_rle` of label_studio_sdk 2.1.2 for the 5 × 6 mask below, four times each pixel.
RUNS = [
    0, 0, 0, 120, 57, 27, 252, 96, 248, 108, 2, 223, 253, 176, 8, 255, 227, 0, 143, 254, 216, 5,
    191, 252, 54, 0,
]  # fmt: skip
# The same values in blocks without repetition, accepted by its `decode_rle`.
LITERALS = [
    0, 0, 0, 120, 57, 27, 249, 128, 112, 112, 112, 112, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 127, 255, 255, 255, 152, 255, 255, 255, 255,
    255, 255, 255, 255, 0, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0, 96, 0, 3, 255, 255, 255, 252, 0, 0, 0,
    192, 7, 255, 255, 255, 248, 0, 0, 0, 1, 128, 0, 0, 0, 0, 0, 0, 0, 15, 243, 31, 255, 255, 255,
    255, 255, 255, 255, 255, 230, 63, 255, 192, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 36, 0, 0, 0,
]  # fmt: skip
# `encode_rle` of rows 5 to 8 of a mask of 40 × 60.
ROWS = [0, 0, 37, 128, 57, 27, 255, 4, 175, 0, 224, 119, 255, 252, 116, 60, 0]


@pytest.mark.parametrize("content", [RUNS, LITERALS])
def test_a_brush_is_decoded_as_by_its_own_library(content):
    expected = np.zeros((5, 6), bool)
    expected[1:4, 2:5], expected[2, 3], expected[0, 0] = True, False, True
    assert np.array_equal(decode_brush(bytes(content), 30).reshape(5, 6), expected)
    assert decode_brush(bytes(content), 31) is None
    assert decode_brush(bytes(content[:-3]), 30) is None


def describe(label, kind, **value):
    return {
        "id": f"{label}{kind}{value.get('x')}",
        "type": kind,
        "value": {**value, kind: [label]},
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
    }


REGIONS = [
    describe("b", "brushlabels", format="rle", rle=ROWS),
    describe("a", "rectanglelabels", x=50, y=50, width=20, height=25, rotation=0),
    describe("b", "ellipselabels", x=80, y=75, radiusX=10, radiusY=10, rotation=30),
    describe("a", "rectanglelabels", x=20, y=40, width=25, height=20, rotation=90),
    describe("b", "polygonlabels", points=[[10, 60], [20, 60], [20, 90]], closed=True),
    {**describe("a", "labels", points=[[0, 0], [5, 0], [5, 5]]), "type": "labels"},
    {"id": "anone", "type": "polygon", "value": {"points": [[0, 0], [5, 0], [5, 5]]}},
    {"id": "x", "type": "choices", "value": {"choices": ["good"]}},
    describe("a", "keypointlabels", x=5, y=5, width=1),
]
REGIONS[6]["id"] = REGIONS[5]["id"]


def expect() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:9] = 2
    mask[20:30, 30:42] = 1
    angles, turn = np.linspace(0, 2 * np.pi, 90, endpoint=False), np.deg2rad(30)
    x, y = 6 * np.cos(angles), 4 * np.sin(angles)
    turned = [x * np.cos(turn) - y * np.sin(turn) + 48, x * np.sin(turn) + y * np.cos(turn) + 30]
    for points, index in (
        (list(zip(*turned, strict=True)), 2),
        ([(12, 16), (12, 31), (4, 31), (4, 16)], 1),
        ([(6, 24), (12, 24), (12, 36)], 2),
        ([(0, 0), (3, 0), (3, 2)], 1),
    ):
        mask = np.where(fill(points), index, mask)
    return mask


def write_json(path, *, is_min):
    """Write three tasks: an upload, a URL that has no annotation yet, and a file of a server."""
    places = (
        "/data/upload/1/0a1b2c3d-a.png",
        "s3://bucket/b%20c.png",
        "/data/local-files/?d=x/c.png",
    )
    cancelled, other = {"result": REGIONS[1:2], "was_cancelled": True}, {"result": REGIONS[:1]}
    annotations = ([cancelled, {"result": REGIONS}, other], [cancelled], [{"result": []}])
    tasks = [
        {"id": i, "data": {"text": "b", "image": place}, "annotations": annotations[i]}
        for i, place in enumerate(places)
    ]
    if is_min:
        values = [row["value"] for row in REGIONS if row["type"] != "polygon"]
        tags = (values, [], [])
        tasks = [
            {"id": i, "text": "b", "image": place, "tag": tags[i], "annotation_id": i}
            for i, place in enumerate(places)
        ]
    path.write_text(json.dumps(tasks))


@pytest.mark.parametrize("is_min", [False, True])
def test_regions_of_every_type(tmp_path, is_min):
    root = tmp_path / "src"
    for name in ("a.png", "b c.png", "x/c.png", "y/c.png"):
        put_image(root / "images" / name)
    write_json(root / "project-1.json", is_min=is_min)
    report = import_dataset(root, tmp_path / "out", val=0)
    assert report.format == "Label Studio"
    assert report.classes == ("background", "a", "b")
    reasons = {"regions without a label or with invalid values": 1}  # the point
    if not is_min:
        reasons["tasks without an annotation"] = 1
    assert report.skipped == reasons
    masks = masks_of(tmp_path / "out", "train")
    assert set(masks) == ({"a", "b c", "c"} if is_min else {"a", "c"})
    assert np.array_equal(masks["a"], expect())
    assert not masks["c"].any()


def test_its_png_export_cannot_be_matched_to_images(tmp_path):
    root = tmp_path / "src"
    put_mask(root / "task-1-annotation-2-by-1-tag-Car-0.png", draw(index=255))
    put_image(root / "a.png")
    with pytest.raises(DataError, match="Export the project as JSON"):
        import_dataset(root, tmp_path / "out")
