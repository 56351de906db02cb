"""Malformed label files: an error that names the file, or the part is left out and counted."""

import base64
import copy
import json
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_import import HEIGHT, SQUARE, WIDTH, masks_of, put_image, put_mask

from atrous.errors import AtrousError
from atrous.formats import import_dataset

NAN, HUGE, DEEP = float("nan"), 10**9, "[" * 100_000
POINTS = [list(point) for point in SQUARE]
FLAT = [value for point in POINTS for value in point]
NUM_PIXELS = HEIGHT * WIDTH


def encode_png(side: int, transparent: bool = False) -> bytes:
    file = BytesIO()
    Image.new("RGBA" if transparent else "L", (side, side), 1).save(file, "PNG")
    return file.getvalue()


PNG = base64.b64encode(encode_png(5)).decode()
HUGE_PNG = base64.b64encode(encode_png(9000)).decode()
BITMAP = base64.b64encode(zlib.compress(encode_png(5, True))).decode()
BOMB = base64.b64encode(zlib.compress(bytes(2**28))).decode()
BRUSH = [0, 0, 37, 128, 57, 27, 255, 4, 175, 0, 224, 119, 255, 252, 116, 60, 0]


GOOD = {
    "coco": {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "segmentation": [FLAT]} for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    },
    "coco_panoptic": {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)
        ],
        "annotations": [
            {
                "image_id": i,
                "file_name": f"m{i}.png",
                "segments_info": [{"id": 1, "category_id": 7}, {"id": 0, "category_id": 9}],
            }
            for i in (1, 2)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "sky"}],
    },
    "labelme": {
        "imagePath": "1.png",
        "shapes": [
            {"label": "cat", "shape_type": "polygon", "points": POINTS},
            {"label": "cat", "shape_type": "mask", "points": [[1, 1], [5, 5]], "mask": PNG},
            {"label": "cat", "shape_type": "circle", "points": [[9, 9], [9, 12]]},
        ],
    },
    "supervisely": {
        "objects": [
            {
                "classTitle": "cat",
                "geometryType": "polygon",
                "points": {"exterior": POINTS, "interior": []},
            },
            {
                "classTitle": "cat",
                "geometryType": "bitmap",
                "bitmap": {"data": BITMAP, "origin": [1, 1]},
            },
        ]
    },
    "label_studio": [
        {
            "id": i,
            "data": {"image": f"/data/upload/1/{i}.png"},
            "annotations": [
                {
                    "result": [
                        {"value": {"points": POINTS, "polygonlabels": ["cat"]}},
                        {"value": {"rle": BRUSH, "brushlabels": ["cat"]}},
                        {
                            "value": {
                                "x": 5, "y": 5, "width": 9, "height": 9, "rotation": 9,
                                "rectanglelabels": ["cat"],
                            }
                        },
                    ]
                }
            ],
        }
        for i in (1, 2)
    ],
    "nnunet": {
        "channel_names": {"0": "R"},
        "labels": {"background": 0, "cat": 1, "ignore": 2},
        "numTraining": 2,
        "file_ending": ".png",
    },
}  # fmt: skip
PLACES = {
    "supervisely": "ds/ann/1.png.json",
    "labelme": "1.json",
    "nnunet": "dataset.json",
    "coco": "a.json",
    "coco_panoptic": "a.json",
    "label_studio": "a.json",
    "cvat": "annotations.xml",
}
ANY_TEXT = (
    "",
    "{'a': 1}",
    "17",
    "[]",
    "null",
    "{}",
    b'{"shapes": ["\xff\xfe"]}',
    f"[{DEEP}",
    '{"images": [], "annotations": [{"segments_info": [], "categories": [',
    f'{{"shapes": 1, "categories": 1, "segments_info": 1, "annotations": {DEEP}',
    '{"objects": ' + '{"a":' * 50_000 + "1" + "}" * 50_001,
    '{"shapes": ' + "9" * 5000 + "}",
    '{"\\ud800": "\\ud800"}',
    '{"images": [], "images": 1, "annotations": [], "shapes": [], "shapes": 1, "labels": []}',
)
OUTSIDE = ("../../secret.png", "../secret.png", "ABSOLUTE", "a" * 5000, "1\0.png", "..", "", 5, [])
NUMBERS = (None, "x", [], {}, -1, NAN, HUGE, 10**400, True)
BAD_POINTS = (
    None, "x", 5, [], [[1, 1]], [[1, 1], [2, NAN], [3, 3]], [[1, 1], [2], [3, 3]], [1, 2, 3],
    [[1, 1], [2, 10**400], [3, 3]], [[1, 1], [2, 1e300], [3, 3]], [["a", "b"]] * 3, [[[]]] * 3,
)  # fmt: skip
BAD_RUNS = (
    None, 5, "\x7f" * 9, "", "P" * 99, [], [5], [NUM_PIXELS + 1], [-1, NUM_PIXELS + 1], [NAN],
    [1.5, NUM_PIXELS - 1.5], ["5"], [10**400], {}, [[]],
)  # fmt: skip
# For each format: paths to a value, and what it becomes.
CHANGES = {
    "coco": [
        (("images", 0, "file_name"), OUTSIDE),
        (("images", 0, "height"), (*NUMBERS, 10**5)),
        (("images", 0, "id"), ([], {}, None, "x")),
        (("images",), (None, 5, "x", {}, [], [[]], [None])),
        (("annotations", 0, "image_id"), ([], {}, None, 99)),
        (("annotations", 0, "category_id"), ([], {}, None, "x", 99, NAN)),
        (("annotations", 0, "iscrowd"), ([], "x")),
        (("annotations", 0, "segmentation"), (None, 5, "x", [], {}, [5], [[1, 2]], [FLAT[:-1]])),
        (("annotations", 0, "segmentation"), [[[1, 2, bad, 4, 5, 6]] for bad in (NAN, 1e9, "x")]),
        *[
            (("annotations", 0, "segmentation"), [{"size": [HEIGHT, WIDTH], "counts": bad}])
            for bad in BAD_RUNS
        ],
        (
            ("annotations", 0, "segmentation"),
            [{"size": bad, "counts": [NUM_PIXELS]} for bad in (None, 5, [4, 4], [HUGE, HUGE])],
        ),
        (("annotations",), (None, 5, "x", {}, [[]], [None])),
        (("categories",), (None, 5, {}, [], [5], [{"id": 1}], [{"id": [], "name": "x"}])),
        (("categories",), [[{"id": i, "name": str(i)} for i in range(300)]]),
    ],
    "coco_panoptic": [
        (("images", 0, "file_name"), OUTSIDE),
        (("images", 0, "id"), ([], {}, None, "x")),
        (("images", 0, "width"), ("x", 0)),
        (("annotations", 0, "file_name"), OUTSIDE),
        (("annotations", 0, "image_id"), ([], {}, None, "x")),
        (("annotations", 0, "segments_info"), (None, 5, {}, "x", [5], [[]], [{}])),
        (("annotations", 0, "segments_info", 0, "id"), ([], None, "x", NAN)),
        (("annotations", 0, "segments_info", 0, "category_id"), ([], None, "x", 8)),
        (("categories",), (None, 5, {}, [], [5], [{"id": 7}], [{"id": 7, "name": []}])),
        (("categories", 1, "id"), (7, None, NAN)),
    ],
    "labelme": [
        (("shapes",), (None, 5, {}, [5], [[]], [{}])),
        (("shapes", 0, "points"), BAD_POINTS),
        (("shapes", 0, "shape_type"), ("star", [], 5)),
        (("shapes", 0, "label"), (None, [], {})),
        (("shapes", 1, "mask"), ("!", 5, [], PNG[:30], HUGE_PNG, "AAAA", None)),
        (("shapes", 1, "points"), ([], [[1, NAN]], [[1e12, 1], [2, 2]], [[1, 1, 1]])),
        (("shapes", 2, "points"), ([[9, 9]], [[9, 9], [9, 1e6]], [[1, 1], [NAN, 1]], [[9, 9]] * 3)),
    ],
    "supervisely": [
        (("objects",), (None, 5, {}, [5], [[]], [{}])),
        (("objects", 0, "points"), (None, 5, [], {}, "x")),
        (("objects", 0, "points", "exterior"), BAD_POINTS),
        (("objects", 0, "points", "interior"), (5, "x", {"a": 1}, [5])),
        (("objects", 0, "classTitle"), (None, [], {}, 5, "dog")),
        (("objects", 0, "geometryType"), (None, [], "star", "point")),
        (("objects", 1, "bitmap"), (5, [], {}, "x")),
        (("objects", 1, "bitmap", "data"), (None, 5, "!", "AAAA", BITMAP[:20], BOMB)),
        (("objects", 1, "bitmap", "origin"), (None, 5, [1], [1, NAN], ["x", 1], [10**30, 1])),
    ],
    "label_studio": [
        ((0,), (None, 5, [], "x", {})),
        ((0, "data"), (None, 5, [], {})),
        ((0, "data", "image"), ("s3://[b/none.png?d=[", "/etc/passwd", *OUTSIDE)),
        ((0, "annotations"), (None, 5, {}, [], [5], [{}], [{"result": [], "was_cancelled": True}])),
        ((0, "annotations", 0, "result", 0, "value", "points"), BAD_POINTS),
        ((0, "annotations", 0, "result", 0, "value", "polygonlabels"), (None, 5, [], [5, []], "x")),
        (
            (0, "annotations", 0, "result", 1, "value", "rle"),
            (None, 5, "x", [], BRUSH[:-2], BRUSH[:5], [255] * 12, [0] * 12, [256], [-1], [NAN]),
        ),
        (
            (0, "annotations", 0, "result", 1, "value", "rle"),
            ([127, *BRUSH[1:]], BRUSH[:4] + [255] * 8, [0] * 4 + BRUSH[4:]),
        ),
        ((0, "annotations", 0, "result", 2, "value", "x"), (None, "x", [], NAN, 1e9, 10**400)),
        ((0, "annotations", 0, "result", 2, "value", "rotation"), ("x", [], NAN, float("inf"))),
    ],
    "nnunet": [
        (("labels",), (None, 5, [], {}, "x", {"cat": None}, {"cat": "x"}, {"cat": [1, 2]})),
        (("labels",), ({"0": "a"}, {"cat": NAN}, {"cat": 1e400}, {"0": []}, {"9" * 5000: "a"})),
        (("labels",), [{str(i): f"c{i}" for i in range(300)}, {"background": 0, "cat": 3}]),
    ],
}  # fmt: skip


def change(content, keys, value):
    content = copy.deepcopy(content)
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return content


CVAT = """<?xml version="1.0"?>{}<annotations><meta><label><name>cat</name></label></meta>
<image id="0" name="1.png" subset="x" width="60" height="40">
<polygon label="cat" points="10,10;30,10;30,30" z_order="1"/>
<ellipse label="cat" cx="9" cy="9" rx="5" ry="4" rotation="30"/>
<mask label="cat" rle="2,3,1,4,5" left="40" top="5" width="5" height="3"/></image>
<image id="1" name="2.png" width="60" height="40"/></annotations>"""
ENTITIES = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
CHANGED_XML = (
    ("<image", "<"), ("</annotations>", ""), ('label="cat"', ""), ("10,10;", "10,nan;"),
    ("10,10;", "10;"), ("10,10;", "1e400,1;"), ("10,10;", "1e12,1;"), ("10,10;30,10;", ""),
    ('points="', 'points="x'), ('points="', 'p="'), ('cx="9"', 'cx="inf"'), ('rx="5"', 'rx="1e9"'),
    ('rotation="30"', 'rotation="inf"'), ('rotation="30"', 'rotation="x"'), ("2,3,1,4,5", "2,3"),
    ("2,3,1,4,5", "2,3,1,4,500"), ("2,3,1,4,5", "-2,3,1,4,9"), ("2,3,1,4,5", "nan"),
    ("2,3,1,4,5", ""), ("2,3,1,4,5", f"{HUGE}"), ('left="40"', 'left="-1"'),
    ('left="40"', 'left="59"'), ('left="40"', 'left="inf"'),
    ('width="5" height="3"', f'width="{HUGE}" height="{HUGE}"'),
    ('width="5"', 'width="0"'), ("<polygon", "<polyline"), ('name="1.png"', 'name="../secret.png"'),
    ('name="1.png"', 'name="ABSOLUTE"'), ('name="1.png"', ""), ('name="1.png"', 'name=".."'),
    ('name="1.png"', f'name="{"a" * 5000}"'), ("/></image>", ">" + "<a>" * 100_000),
    ("/></image>", f"/>{'<a>' * 100_000}{'</a>' * 100_000}</image>"),
    ("{}", f'<!DOCTYPE a [<!ENTITY e0 "ha">{ENTITIES}]>&e11;'),
    ("{}<annotations>", f'<!DOCTYPE a [<!ENTITY e0 "ha">{ENTITIES}]><annotations>&e11;'),
    ("<polygon", "<polygon>&x;</polygon><polygon"), ("1.0", '1.0" encoding="x'),
)  # fmt: skip
CASES = [(name, text) for name in GOOD for text in ANY_TEXT]
CASES += [("cvat", CVAT.replace(*pair).replace("{}", "")) for pair in CHANGED_XML]
CASES += [
    (name, change(GOOD[name], keys, value))
    for name, changes in CHANGES.items()
    for keys, values in changes
    for value in values
]


def put_sample(root: Path, name: str) -> None:
    """Write a good sample with two images."""
    for number in (1, 2):
        put_image(root / {"supervisely": "ds/img"}.get(name, ".") / f"{number}.png", number)
        if name == "coco_panoptic":
            put_mask(root / f"m{number}.png", np.full((HEIGHT, WIDTH, 3), [1, 0, 0], np.uint8))
        if name == "nnunet":
            put_image(root / "imagesTr" / f"{number}_0000.png", number)
            put_mask(root / "labelsTr" / f"{number}.png", np.ones((HEIGHT, WIDTH), np.uint8))
    if name == "supervisely":
        (root / "meta.json").write_text('{"classes": [{"title": "cat"}]}')
    others = {"labelme": "2.json", "supervisely": "ds/ann/2.png.json"}
    for place in (PLACES[name], others.get(name, PLACES[name])):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(json.dumps(GOOD[name]) if name in GOOD else CVAT.format(""))


@pytest.mark.parametrize("name", PLACES)
def test_the_samples_are_good(tmp_path, name):
    pytest.importorskip("pycocotools")
    put_sample(tmp_path / "src", name)
    report = import_dataset(tmp_path / "src", tmp_path / "out", val=0)
    assert not sum(report.skipped.values())
    assert report.num_images == {"train": 2}


@pytest.mark.parametrize(("name", "damage"), CASES, ids=lambda value: repr(value)[-60:])
def test_damage_is_named_or_left_out_and_counted(tmp_path, name, damage):
    pytest.importorskip("pycocotools")
    root, secret = tmp_path / "a" / "src", tmp_path / "secret.png"
    put_sample(root, name)
    put_image(secret)
    put_image(tmp_path / "a" / "secret.png")
    text = damage if isinstance(damage, str | bytes) else json.dumps(damage)
    text = text.replace("ABSOLUTE", str(secret)) if isinstance(text, str) else text
    (root / PLACES[name]).write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        report = import_dataset(root, tmp_path / "out", format=name, val=0)
    except AtrousError as error:
        message = str(error)
        assert not (tmp_path / "out").exists()
    else:
        message = str(root)
        assert sum(report.skipped.values()) >= 1
        assert masks_of(tmp_path / "out", "train")
        assert "secret" not in (tmp_path / "out" / "import.json").read_text()
    assert str(root) in message
