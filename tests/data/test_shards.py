"""Datasets in tar shards: equal to their files, whatever the network does."""

import itertools
import json
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.data import (
    build_eval_loader,
    compute_mask_statistics,
    list_splits,
    open_dataset,
)
from atrous.data import write_shards as writing
from atrous.data.sizes import suggest_sizes
from atrous.data.write_shards import write_shards
from atrous.errors import AtrousError, AtrousWarning, ConfigError, DataError, StorageError
from atrous.images import remote
from atrous.images.remote import DiskCache
from atrous.images.shard_file import INDEX

NAMES = ("a.1", "a.2", "Bäume 3", "x" * 120)
NUM_BYTES = 8000
"""Size of a shard of about two samples."""


@pytest.fixture
def files(tmp_path):
    """Paired folders with classes.toml; names are those of people."""
    rng = np.random.default_rng(0)
    for split, names in {"train": NAMES, "val": NAMES[:1]}.items():
        for kind in ("images", "masks"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
        for name in names:
            folder = tmp_path / "data" / split
            pixels = rng.integers(256, size=(32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{name}.PNG")
            mask = rng.integers(2, size=(32, 40), dtype=np.uint8)
            Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    (tmp_path / "data/classes.toml").write_text('ignore_index = 7\nnames = ["sky", "tree"]')
    return tmp_path / "data"


def find_differences(first, second):
    """Return what differs between the splits of two datasets."""
    for split in list_splits(first):
        one, other = open_dataset(first, split), open_dataset(second, split)
        for name in ("names", "classes", "ignore_index", "bands", "ranges"):
            if getattr(one, name) != getattr(other, name):
                yield split, name
        if one.fingerprint() != other.fingerprint():
            yield split, "fingerprint"
        if compute_mask_statistics(one).pixels != compute_mask_statistics(other).pixels:
            yield split, "statistics"
        for sample in map(one.load, range(len(one))):
            loaded = other.load(other.names.index(sample.name))
            if not torch.equal(sample.image, loaded.image):
                yield split, "image"
            if not torch.equal(sample.mask, loaded.mask):
                yield split, "mask"


def test_samples_are_those_of_the_files(files, tmp_path):
    positions = write_shards(files, tmp_path / "shards", shard_bytes=NUM_BYTES)
    assert [position.shard for position in positions["train"]] == [0, 0, 1, 1]
    assert not list(find_differences(files, tmp_path / "shards"))
    assert suggest_sizes(tmp_path / "shards") == suggest_sizes(files)
    write_shards(tmp_path / "shards", tmp_path / "again", splits=["val"])
    assert list_splits(tmp_path / "again") == ["val"]


def test_bands_and_geotiffs_are_those_of_the_files(files, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    text = 'names = ["sky", "tree"]\nignore_index = 7\nbands = 2\nrange = [[0, 0.1], [-1, 5000]]'
    (files / "classes.toml").write_text(text)
    for path in files.glob("*/images/*"):
        path.unlink()
        np.save(path.with_suffix(".npy"), np.arange(2560, dtype=np.uint16).reshape(32, 40, 2))
    geo = [(33550, "d", 3, (1.0, 1.0, 0.0), True)]
    path = files / "train/images/a.1.tif"
    path.with_suffix(".npy").unlink()
    tifffile.imwrite(
        path,
        np.ones((32, 40, 2), np.uint16),
        extratags=geo,
        photometric="minisblack",
        planarconfig="contig",
    )
    write_shards(files, tmp_path / "shards")
    assert not list(find_differences(files, tmp_path / "shards"))
    (files / "classes.toml").write_text('names = ["sky", "tree"]\nignore_index = 7')
    for path in files.glob("train/images/*"):
        path.unlink()
    for name in NAMES:
        path = files / f"train/images/{name}.tif"
        tifffile.imwrite(path, np.ones((32, 40, 3), np.uint8), extratags=geo, photometric="rgb")
    write_shards(files, tmp_path / "geo", splits=["train"])
    assert suggest_sizes(tmp_path / "geo") == suggest_sizes(files) == {"crop": 40}


def test_shards_have_the_names_of_webdataset(files, tmp_path):
    write_shards(files, tmp_path / "shards", shard_bytes=NUM_BYTES)
    members = []
    for path in sorted((tmp_path / "shards").glob("train-*.tar")):
        with tarfile.open(path) as tar:
            members += [(member.name, tar.extractfile(member).read()) for member in tar]
    keys = [name.split(".", 1)[0].replace("%2E", ".") for name, _ in members]
    assert keys == [name for name in sorted(NAMES) for _ in range(2)]
    assert [name.split(".", 1)[1] for name, _ in members] == ["png", "mask.png"] * 4
    assert (
        members[0][1] == (files / "train/images/Bäume 3.PNG").read_bytes() or keys[0] == "Bäume 3"
    )


@pytest.mark.parametrize("limit", ["10", "0"], ids=["cache", "no-cache"])
def test_a_bad_server_costs_only_time(files, file_server, monkeypatch, limit):
    monkeypatch.setenv("ATROUS_CACHE_GB", limit)
    write_shards(files, file_server.folder / "a", shard_bytes=NUM_BYTES)
    file_server.faults = itertools.cycle(["slow", "drop", "truncate", "busy", "change", ""])
    url = f"{file_server.url}/a/"
    assert not list(find_differences(files, url))
    file_server.faults, before = itertools.repeat(""), file_server.requests.total()
    dataset = open_dataset(url, "train")
    loaded = [sample.name for sample in build_eval_loader(dataset, workers=2)]
    assert loaded == dataset.names
    num_samples = {"10": 0, "0": len(NAMES)}[limit]
    assert 0 <= file_server.requests.total() - before - num_samples <= 3, "index, first image"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "No such file|There is no"),
        (lambda path: path.write_bytes(path.read_bytes()[:9000]), "is cut off: of sample 'x+'"),
        (lambda path: path.write_bytes(path.read_bytes()[::-1]), "has changed: .* sample 'a.2'"),
    ],
    ids=["missing", "cut-off", "changed"],
)
def test_a_bad_shard_is_named_with_its_sample(files, file_server, damage, message):
    write_shards(files, file_server.folder, shard_bytes=NUM_BYTES)
    damage(file_server.folder / "train-000001.tar")
    for root in (file_server.folder, file_server.url):
        dataset = open_dataset(root, "train")
        dataset.load(0)
        with pytest.raises(StorageError, match=message) as raised:
            compute_mask_statistics(dataset)
        assert f"{root}/train-000001.tar" in str(raised.value)


def change_index(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[:300]),
            "cut off|Expecting|Unterminated",
        ),
        (lambda path: path.write_text("[]"), "valid dictionary|cut off"),
        (lambda path: change_index(path, version=2), "version = 2.*another version of atrous"),
        (lambda path: change_index(path, format="else"), "format = 'else'"),
        (lambda path: change_index(path, classes="names = 3"), "needs `names`"),
        (lambda path: change_index(path, splits={"train": []}), "splits.train"),
        (lambda path: change_index(path, splits={"../x": []}), r"splits\.\.\./x"),
    ],
)
def test_a_bad_index_is_named(files, file_server, damage, message):
    write_shards(files, file_server.folder)
    damage(file_server.folder / INDEX)
    for root in (file_server.folder, file_server.url):
        with pytest.raises(AtrousError, match=message) as raised:
            open_dataset(root, "train")
        assert f"{root}/{INDEX}" in str(raised.value)


def test_an_address_that_leads_nowhere_is_named(files, file_server, monkeypatch):
    with pytest.raises(StorageError, match=r"There is no http\S+/b/shards\.json"):
        open_dataset(f"{file_server.url}/b", "train")
    for url in ("http://127.0.0.1:9/a", "http://nowhere.invalid/a"):
        with pytest.raises(StorageError, match=f"{url}/shards.json, after 5 tries: Cannot connect"):
            open_dataset(url, "train")
    with pytest.raises(ConfigError, match="Protocol not known: nosuch"):
        open_dataset("nosuch://a", "train")
    write_shards(files, file_server.folder)
    file_server.faults, file_server.max_faults = itertools.repeat("whole"), 99
    with pytest.raises(StorageError, match="the server does not answer byte ranges"):
        open_dataset(file_server.url, "train").load(0)
    file_server.faults = itertools.chain([""], itertools.repeat("stall"))
    monkeypatch.setattr(remote, "_MIN_TIMEOUT_S", 0)
    with pytest.raises(StorageError, match="no answer within 0 s"):
        open_dataset(file_server.url, "train").load(0)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ConfigError, match=r"atrous\[remote\]"):
        open_dataset(file_server.url, "train")


def test_an_interrupted_writing_starts_again(files, tmp_path, monkeypatch):
    out, real = tmp_path / "shards", writing._write_sample

    def interrupt(dataset, index, *rest):
        if index == 3:
            raise KeyboardInterrupt
        return real(dataset, index, *rest)

    monkeypatch.setattr(writing, "_write_sample", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_shards(files, out, shard_bytes=1000)
    assert len(list(out.glob("*.tar"))) == 3
    with pytest.raises(DataError, match="was interrupted"):
        open_dataset(out, "train")
    monkeypatch.undo()
    for folder in (out, tmp_path / "other"):
        write_shards(files, folder, shard_bytes=NUM_BYTES)
    contents = [
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (out, tmp_path / "other")
    ]
    assert contents[0] == contents[1]


def test_what_is_in_a_folder_is_never_overwritten(files, tmp_path):
    write_shards(files, tmp_path / "shards")
    for out, message in (
        (tmp_path / "shards", "already holds shards"),
        (files, "already holds other files"),
        (files / "classes.toml", "is not a folder"),
        (files / "classes.toml" / "x", "cannot be written"),
    ):
        with pytest.raises(DataError, match=message):
            write_shards(files, out)


def test_the_cache_keeps_its_size_and_what_was_used_last(tmp_path):
    caches = [DiskCache(tmp_path / "cache", 100_000) for _ in range(3)]
    for number in range(200):
        caches[number % 3].put(str(number), bytes(5000))
        assert caches[0].get("0") == bytes(5000)
        assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= 100_000
    assert caches[1].get("199")
    assert caches[1].get("1") is None
    caches[0].put("large", bytes(50_000))
    assert caches[0].get("large") is None
    (tmp_path / "file").write_text("")
    with pytest.warns(AtrousWarning, match="Samples are not kept in the cache"):
        DiskCache(tmp_path / "file" / "cache", 100_000).put("a", b"a")


def test_the_commands_take_shards(files, atrous, file_server):
    code, printed = atrous("data", "shard", files, file_server.folder / "a", "--shard-mb", 1)
    assert code == 0
    assert "train: 4 samples in 1 shard, 0.0 MB" in printed
    code, printed = atrous("check", f"{file_server.url}/a", "--workers", 2)
    assert code < 2, printed
    assert "5 pairs (train 4, val 1), shards layout, 2 classes" in printed
    code, printed = atrous("check", f"{file_server.url}/a", "--fix", files.parent / "fixed")
    assert code == 2
    assert "which are not corrected" in printed
