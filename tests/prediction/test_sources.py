"""Folders, patterns, archives and their budgets, and safe names."""

import bz2
import gzip
import io
import re
import struct
import tarfile
import tracemalloc
import zipfile

import pytest
import torch
from PIL import Image

from atrous.errors import ConfigError, DataError
from atrous.images import read_image
from atrous.prediction import archives
from atrous.prediction.sources import clean_name, find_sources


def encode(color="red", size=(40, 32)):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def tree(tmp_path):
    for name in ("a.png", "b.JPG", "sub/a.png", "sub/deep/c.png", ".hidden.png", "notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode())
    return tmp_path / "photos"


def pack_zip(path, names, content=None):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content or encode())
    return path


def pack_tar(path, names):
    compression = "" if path.suffix == ".tar" else path.suffix[1:]
    with tarfile.open(path, f"w:{compression}") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(encode())
            archive.addfile(info, io.BytesIO(encode()))
    return path


def list_names(given, **options):
    return [source.name for source in find_sources(given, **options)]


def test_a_folder_gives_the_images_directly_inside(tree):
    assert list_names([tree]) == ["a.png", "b.JPG"]


def test_patterns_keep_the_folders_that_they_match(tree):
    assert list_names([f"{tree}/**/*.png"]) == ["a.png", "sub/a.png", "sub/deep/c.png"]
    assert list_names([f"{tree}/*/*.png"]) == ["sub/a.png"]
    assert list_names([f"{tree}/[ab].*"]) == ["a.png", "b.JPG"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path, monkeypatch):
    for name in ("a[1].png", "0"):
        (tmp_path / name).write_bytes(encode())
    monkeypatch.chdir(tmp_path)
    assert list_names(["a[1].png", "0"]) == ["a[1].png", "0"]
    with pytest.raises(ConfigError, match="no image or folder 1"):
        find_sources(["1"])


def test_full_names_are_those_of_the_path_as_given(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    given = ["photos/a.png", "photos/sub/a.png", "photos/../photos/b.JPG"]
    assert list_names(given, full_names=True) == [
        "photos/a.png", "photos/sub/a.png", "photos/photos/b.JPG",
    ]  # fmt: skip


def test_each_file_is_taken_once(tree):
    assert list_names([tree, tree / "a.png", f"{tree}/*.png"]) == ["a.png", "b.JPG"]


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz"])
def test_archives_are_read_in_place_and_in_order(tmp_path, suffix):
    names = ["b.png", "sub/a.png", "notes.txt", "sub/.hidden.png", "__MACOSX/b.png"]
    path = tmp_path / f"pack{suffix}"
    (pack_zip if suffix == ".zip" else pack_tar)(path, names)
    sources = find_sources([path])
    stem = "pack" if suffix in (".zip", ".tar") else "pack.tar"
    assert [source.name for source in sources] == [f"{stem}/b.png", f"{stem}/sub/a.png"]
    assert sources[1].source == f"{path}:sub/a.png"
    assert [source.fetch().read() for source in sources] == [encode(), encode()]


def test_members_cannot_leave_the_output_folder(tmp_path):
    names = ["../../evil.png", "/etc/evil2.png", "..\\..\\evil3.png", "C:\\evil4.png"]
    path = pack_zip(tmp_path / "p.zip", names)
    assert list_names([path]) == ["p/evil.png", "p/etc/evil2.png", "p/evil3.png", "p/C/evil4.png"]
    assert clean_name("//a/./../b/../c.png") == "a/b/c.png"


def test_a_damaged_member_is_found_when_it_is_read(tmp_path):
    path = pack_zip(tmp_path / "p.zip", ["a.png"])
    content = bytearray(path.read_bytes())
    content[content.index(b"IHDR") + 20] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"Cannot read a\.png in the archive .*p\.zip: Bad CRC"):
        find_sources([path])[0].fetch()


def test_a_member_of_many_gigabytes_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = pack_zip(tmp_path / "p.zip", ["a.png"])
    monkeypatch.setattr("atrous.prediction.archives.MAX_MEMBER_BYTES", 10)
    with pytest.raises(DataError, match="unpacks to"):
        find_sources([path])[0].fetch()


@pytest.fixture
def budgets(monkeypatch):
    """Set budgets of `archives` by name."""

    def set_budgets(**values):
        for name, value in values.items():
            monkeypatch.setattr(archives, name, value)

    return set_budgets


def test_a_member_beyond_the_budget_of_its_pixels_is_skipped_and_named(tmp_path, budgets):
    budgets(MAX_EXTRA_BYTES=2**16, _CHUNK_BYTES=2**12)
    path, (header, pixels) = tmp_path / "p.zip", (encode("red"), bytes(2**22))
    large = struct.pack("<2sIII", b"BM", 0, 0, 54) + struct.pack(
        "<IiiHHI", 40, 2000, 2000, 1, 24, 0
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (
            ("a.png", header + pixels),
            ("b.png", pixels),
            ("c.bmp", large + bytes(16) + pixels * 4),
            ("d.png", header),
        ):
            archive.writestr(name, content)
    messages = []
    read_image(io.BytesIO(header), name="imports what is needed")
    Image.init()
    tracemalloc.start()
    for source in find_sources([path]):
        try:
            read_image(source.fetch(), name=source.source, max_pixels=2000)
        except DataError as error:
            messages.append(str(error))
    assert tracemalloc.get_traced_memory()[1] < 2**21, "half of the smallest"
    tracemalloc.stop()
    assert len(messages) == 3, "d.png is read"
    for message, words in zip(
        messages,
        (
            r"a\.png in the archive .* unpacks to more than",
            r"b\.png.* filled with zeros",
            "2000 × 2000",
        ),
        strict=True,
    ):
        assert re.search(words, message)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_members_beyond_the_budget_for_all_are_unpacked_as_they_are_read(tmp_path, budgets, suffix):
    names = [f"{letter}.png" for letter in "abcd"]
    path = (pack_zip if suffix == ".zip" else pack_tar)(tmp_path / f"p{suffix}", names)
    expected = read_image(io.BytesIO(encode()), name="a")
    budgets(MAX_HELD_BYTES=2 * len(encode()), _CHUNK_BYTES=16)
    files = [source.fetch() for source in find_sources([path])]
    assert [type(file) for file in files] == [io.BytesIO] * 2 + [io.BufferedReader] * 2
    for file in reversed(files):
        for _ in range(2):
            assert torch.equal(read_image(file, name="a"), expected)
    assert files[3].seek(-2, io.SEEK_END) == len(encode()) - 2
    assert files[3].read() == encode()[-2:]
    del file, files[:]
    assert isinstance(find_sources([path])[0].fetch(), io.BytesIO), "no longer counted"


def build_header(**values):
    info = tarfile.TarInfo("a.png")
    for key, value in values.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, bytes])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (build_header(type=tarfile.XHDTYPE, size=2**32), "a header of"),
        (build_header(type=tarfile.GNUTYPE_LONGNAME, size=2**32), "a header of"),
        (build_header(size=2**40) + bytes(2**10), "unpacks to more than|unexpected end"),
        (build_header() * 12, "more than 10 members"),
        (build_header(size=-512), "in circles|negative|corrupt|invalid"),
    ],
)
def test_bombs_in_the_headers_of_a_tar_are_errors(tmp_path, budgets, compress, content, message):
    budgets(MAX_MEMBERS=10)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(compress(content))
    with pytest.raises(DataError, match=rf"(?s)bomb\.tar\.gz.*({message})"):
        find_sources([path])


def test_stamps_change_with_the_content(tmp_path):
    path = tmp_path / "a.png"
    stamps = []
    for color in ("red", "blue"):
        path.write_bytes(encode(color) + b" " * len(stamps))
        zipped = pack_zip(tmp_path / "p.zip", ["a.png"], encode(color))
        stamps += [source.stamp for source in find_sources([path, zipped])]
    assert len(set(stamps)) == 4


def write_rubbish(path):
    path.write_bytes(b"no archive at all")
    return path


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("nowhere.png", ConfigError, "no image or folder nowhere"),
        ("empty", ConfigError, "no images in"),
        ("*.gif", ConfigError, "matches .*gif"),
        ("*.txt", ConfigError, "matches 1 other files"),
        ("rubbish.zip", DataError, r"Cannot read the archive rubbish\.zip"),
        ("rubbish.tar.gz", DataError, r"Cannot read the archive rubbish\.tar\.gz"),
        ("cut.tar", DataError, r"Cannot read the archive cut\.tar"),
        ("words.zip", ConfigError, "no images in"),
        ("/dev/null", ConfigError, "no plain file"),
    ],
)
def test_inputs_without_images_are_errors(tmp_path, monkeypatch, given, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("words")
    write_rubbish(tmp_path / "rubbish.zip")
    write_rubbish(tmp_path / "rubbish.tar.gz")
    whole = pack_tar(tmp_path / "whole.tar", ["a.png", "b.png"]).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:700])
    pack_zip(tmp_path / "words.zip", ["a.txt"])
    with pytest.raises(error, match=message):
        find_sources([given])
