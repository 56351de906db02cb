"""Random damage to everything that a stranger can hand over: success or an error of ours."""

import io
import json
import tarfile
import zipfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from atrous.classes import build_classes
from atrous.data import open_dataset
from atrous.data.classes_file import format_classes, read_class_list, read_classes_file
from atrous.engines.exported_engine import ExportCard, parse_export_card
from atrous.errors import AtrousError
from atrous.images import read_image
from atrous.models import ModelCard
from atrous.models.weights import parse_card
from atrous.prediction.sources import find_sources
from atrous.recipe import Recipe, format_recipe, load_recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:PIL"),
]

bounded = settings(
    derandomize=True,
    max_examples=60,
    deadline=timedelta(seconds=20),  # against hangs
    database=None,
    suppress_health_check=list(HealthCheck),
)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**63, 10**30])
    | st.floats()
    | st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
TOML = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.times(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@st.composite
def damage_bytes(draw, contents):
    """Cut a good file short, overwrite a part of it, or insert something."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        part = draw(st.binary(max_size=8) | st.sampled_from([b"\xff" * 4, b"[" * 5000, b"\0" * 64]))
        keep = draw(st.sampled_from([at, at + len(part), len(content)]))
        content[at:keep] = part
    return bytes(content)


def change_values(values, kinds):
    """Replace one value of nested dicts, or add one."""
    paths = [(key,) for key in values] + [
        (key, sub) for key, inner in values.items() if isinstance(inner, dict) for sub in inner
    ]

    def change(path, value):
        changed = json.loads(json.dumps(values))
        place = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return changed

    return st.builds(change, st.sampled_from(paths) | st.tuples(st.text(max_size=8)), kinds)


def check(call, *arguments):
    with suppress(AtrousError):
        call(*arguments)


CLASSES = build_classes(["road", "Bäume"])
CARD = ModelCard(
    "deeplabv3_resnet18", {"num_classes": 2, "multi_grid": [1, 2, 4], "atrous_rates": None},
    CLASSES, (0.5,) * 3, (0.2,) * 3, (64, 64), {"step": 1},
)  # fmt: skip
EXPORT = ExportCard(CARD, "onnx", uint8_input=True, mask_output=False, size_hw=None).to_json()


@bounded
@given(
    change_values(json.loads(EXPORT), JSON).map(json.dumps)
    | damage_bytes([EXPORT.encode()]).map(lambda content: content.decode("utf-8", "replace"))
)
def test_cards(text):
    check(parse_card, Path("a.safetensors"), text)
    check(parse_export_card, Path("a.onnx"), text)
    with suppress(ValueError, AttributeError, RecursionError):
        values = json.loads(text)
        values.pop("export", None)
        check(parse_card, Path("a.safetensors"), json.dumps(values))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def dump_toml(values):
    with suppress(TypeError, ValueError):
        return tomli_w.dumps(values).encode("utf-8", "surrogatepass")
    return b""


GOOD_CLASSES = {"names": ["a", "b"], "colors": [[0, 0, 0], [1, 1, 1]], "ignore_index": 255}
GOOD_RECIPE = json.loads(Recipe().model_dump_json(exclude_none=True))


@bounded
@given(
    change_values(GOOD_CLASSES, TOML).map(dump_toml)
    | damage_bytes([format_classes(CLASSES).encode()])
)
def test_classes_files(folder, content):
    (folder / "classes.toml").write_bytes(content)
    check(read_classes_file, folder / "classes.toml")


GOOD_LISTS = [b"name,r,g,b\na,0,0,0\nb,1,1,1\n", b"a:0,0,0::\nb:1,1,1::\n", b"0,a\n3,b\n"]


@bounded
@given(damage_bytes(GOOD_LISTS))
def test_class_lists(folder, content):
    (folder / "names.csv").write_bytes(content)
    check(read_class_list, folder / "names.csv")


@bounded
@given(
    change_values(GOOD_RECIPE, TOML).map(dump_toml)
    | damage_bytes([format_recipe(Recipe()).encode()])
)
def test_recipes(folder, content):
    (folder / "recipe.toml").write_bytes(content)
    check(load_recipe, folder / "recipe.toml")


def encode(kind, **options):
    file = io.BytesIO()
    mode = "P" if kind == "GIF" else "RGB"
    Image.new("RGB", (40, 32), "orange").convert(mode).save(file, kind, **options)
    return file.getvalue()


IMAGES = [encode(kind) for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")] + [
    encode("TIFF", compression="tiff_lzw"),
    encode("JPEG", progressive=True),
    encode("PNG", exif=Image.Exif().tobytes()),
]


@bounded
@given(
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | damage_bytes([b"a\n", b"a 1\nb -1\n", b"../../a\n", b"\xef\xbb\xbfa\r\n"])
)
def test_split_lists(folder, content):
    devkit = folder / "VOC2012"
    for name, image in (("JPEGImages/a.jpg", IMAGES[1]), ("SegmentationClass/a.png", None)):
        path = devkit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image or encode("PNG"))
    lists = devkit / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "train.txt").write_bytes(content)
    check(open_dataset, folder, "train")


def pack(suffix):
    file = io.BytesIO()
    members = [("a.png", IMAGES[0]), ("b/ü.jpg", IMAGES[1]), ("c.tif", IMAGES[2])]
    if suffix == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content)
        return file.getvalue()
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(fileobj=file, mode=f"w:{suffix}", format=format) as archive:
            for name, content in members:
                info = tarfile.TarInfo(name * (30 if format == tarfile.GNU_FORMAT else 1))
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def read_archive(path):
    for source in find_sources([path]):
        check(lambda: read_image(source.fetch(), name=source.source, max_pixels=10**6))  # noqa: B023


@bounded
@given(
    st.tuples(st.just("zip"), damage_bytes([pack("zip")]))
    | st.tuples(st.sampled_from(["tar", "tar.gz"]), damage_bytes([pack(""), pack("gz")]))
)
def test_archives(folder, case):
    suffix, content = case
    path = folder / f"a.{suffix}"
    path.write_bytes(content)
    check(read_archive, path)


@settings(bounded, max_examples=200)
@given(damage_bytes(IMAGES))
def test_image_files(content):
    check(lambda: read_image(io.BytesIO(content), name="a.png", max_pixels=10**6))


@bounded
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP"]),
    st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03", b"Exif\0\0"]),
    st.binary(max_size=40),
)
def test_exif(kind, start, rest):
    content = encode(kind, exif=b"Exif\0\0" + start + rest)
    check(lambda: read_image(io.BytesIO(content), name="a", max_pixels=10**6))
