import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data import open_dataset, voc2012
from atrous.data.voc2012 import build_voc2012, download_voc2012
from atrous.errors import DataError

VOC, SBD = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
SIZE_HW = (4, 5)


def encode(pixels: np.ndarray, suffix: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, suffix)
    return data.getvalue()


def encode_mat(value: int) -> bytes:
    savemat = pytest.importorskip("scipy.io").savemat
    mask = np.full(SIZE_HW, value, dtype=np.uint8)
    inner = np.array([[(mask,)]], dtype=[("Segmentation", object)])
    data = io.BytesIO()
    savemat(data, {"GTcls": inner})
    return data.getvalue()


def write_tar(path: Path, files: dict[str, bytes], mode: str) -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def make_voc_files() -> dict[str, bytes]:
    """VOC with a, b in train, c in val, and images d, e without a mask."""
    files = {
        f"{VOC}/JPEGImages/{name}.jpg": encode(np.zeros((*SIZE_HW, 3), np.uint8), "JPEG")
        for name in "abcde"
    }
    for name in "abc":
        mask = encode(np.full(SIZE_HW, 1, np.uint8), "PNG")
        files[f"{VOC}/SegmentationClass/{name}.png"] = mask
    for split, names in (("train", "a\nb\n"), ("val", "c\n"), ("trainval", "a\nb\nc\n")):
        files[f"{VOC}/ImageSets/Segmentation/{split}.txt"] = names.encode()
    return files


def make_sbd_files() -> dict[str, bytes]:
    """SBD with b, c, d in train and e, f in val; f is not among VOC's images."""
    files = {f"{SBD}/train.txt": b"b\nc\nd\n", f"{SBD}/val.txt": b"e\nf\n"}
    for name in "bcdef":
        files[f"{SBD}/img/{name}.jpg"] = encode(np.full((*SIZE_HW, 3), 255, np.uint8), "JPEG")
        files[f"{SBD}/cls/{name}.mat"] = encode_mat(2)
    return files


def build(tmp_path: Path, voc: dict[str, bytes], sbd: dict[str, bytes] | None = None) -> Path:
    return build_voc2012(
        tmp_path / "out",
        voc_tar=write_tar(tmp_path / "voc.tar", voc, "w"),
        sbd_tar=None if sbd is None else write_tar(tmp_path / "sbd.tgz", sbd, "w:gz"),
        verify=False,
    )


def test_trainaug_is_all_that_is_not_in_val_and_vocs_own_masks_stay(tmp_path):
    devkit = build(tmp_path, make_voc_files(), make_sbd_files())
    assert devkit == tmp_path / "out" / "VOCdevkit" / "VOC2012"
    dataset = open_dataset(tmp_path / "out", "trainaug")
    assert dataset.names == ["a", "b", "d", "e", "f"]
    values = {
        name: (dataset.load(index).mask.unique().tolist(), int(dataset.load(index).image.max()))
        for index, name in enumerate(dataset.names)
    }
    assert values == {"a": ([1], 0), "b": ([1], 0), "d": ([2], 0), "e": ([2], 0), "f": ([2], 255)}
    assert Image.open(devkit / "SegmentationClass" / "d.png").mode == "P"
    assert open_dataset(tmp_path / "out", "val").names == ["c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sbd.tgz", "voc.tar"]


def test_voc_alone(tmp_path):
    build(tmp_path, make_voc_files())
    assert open_dataset(tmp_path / "out", "train").names == ["a", "b"]


def test_no_member_of_an_archive_leads_out_of_the_folder(tmp_path):
    evil = {
        f"{VOC}/JPEGImages/../../../../evil.jpg": b"x",
        "/VOCdevkit/evil": b"x",
        f"../{VOC}/JPEGImages/evil.jpg": b"x",
        f"{VOC}/JPEGImages/deeper/evil.jpg": b"x",
    }
    build(tmp_path, make_voc_files() | evil)
    assert not list(tmp_path.rglob("*evil*"))


def without(files: dict[str, bytes], part: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if part not in name}


@pytest.mark.parametrize(
    ("change_voc", "change_sbd", "message"),
    [
        (lambda f: without(f, "JPEGImages/a"), None, "1 of the 2 names .* have no image .*: a"),
        (lambda f: without(f, "Class/c"), None, "have no mask .*: c"),
        (lambda f: without(f, "val.txt"), dict, "contain no val.txt"),
        (dict, lambda f: without(f, f"{SBD}/train.txt"), "contain no train.txt"),
        (dict, lambda f: without(f, "cls/e"), "lists e but has no e.mat"),
        (
            dict,
            lambda f: f | {f"{SBD}/cls/d.mat": b"bad"},
            "d.mat of the SBD archive is not a mask",
        ),
        (dict, lambda f: f | {f"{SBD}/cls/d.mat": encode_mat(21)}, "values beyond 0 to 20"),
    ],
)
def test_archives_with_parts_missing(tmp_path, change_voc, change_sbd, message):
    sbd = change_sbd(make_sbd_files()) if change_sbd else None
    with pytest.raises(DataError, match=message):
        build(tmp_path, change_voc(make_voc_files()), sbd)
    assert {path.name for path in tmp_path.iterdir()} <= {"sbd.tgz", "voc.tar"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("bad", ["voc.tar", "sbd.tgz"])
@pytest.mark.parametrize("spoil", [cut, lambda path: path.write_bytes(b"no archive")])
def test_damaged_archives_leave_nothing_behind(tmp_path, bad, spoil):
    voc_tar = write_tar(tmp_path / "voc.tar", make_voc_files(), "w")
    sbd_tar = write_tar(tmp_path / "sbd.tgz", make_sbd_files(), "w:gz")
    spoil(tmp_path / bad)
    with pytest.raises(DataError, match=f"Cannot unpack .*{bad}"):
        build_voc2012(tmp_path / "out", voc_tar=voc_tar, sbd_tar=sbd_tar, verify=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sbd.tgz", "voc.tar"]


def test_checksums_and_the_number_of_images_are_verified(tmp_path, monkeypatch):
    voc_tar = write_tar(tmp_path / "voc.tar", make_voc_files(), "w")
    sbd_tar = write_tar(tmp_path / "sbd.tgz", make_sbd_files(), "w:gz")
    with pytest.raises(DataError, match=f"voc.tar has the MD5 sum .* {voc2012.VOC_MD5} was"):
        build_voc2012(tmp_path / "out", voc_tar=voc_tar)
    for name, archive in (("VOC_MD5", voc_tar), ("SBD_MD5", sbd_tar)):
        monkeypatch.setattr(voc2012, name, hashlib.md5(archive.read_bytes()).hexdigest())
    with pytest.raises(DataError, match="5 images for trainaug, but 10582 were expected"):
        build_voc2012(tmp_path / "out", voc_tar=voc_tar, sbd_tar=sbd_tar)
    assert not (tmp_path / "out").exists()
    build_voc2012(tmp_path / "out", voc_tar=voc_tar)


def test_the_checksums_are_torchvisions():
    from torchvision.datasets import SBDataset, voc

    assert voc.DATASET_YEAR_DICT["2012"]["md5"] == voc2012.VOC_MD5
    assert SBDataset.md5 == voc2012.SBD_MD5


def test_places_that_cannot_be_used(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"no archive .*missing.tar"):
        build_voc2012(tmp_path / "out", voc_tar=tmp_path / "missing.tar")
    (tmp_path / "out").mkdir()
    build(tmp_path, make_voc_files())  # an empty folder will do
    with pytest.raises(DataError, match="out already exists"):
        build(tmp_path, make_voc_files())

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(voc2012.shutil, "copyfileobj", full)
    with pytest.raises(DataError, match=r"other: .*No space left on device.* No files were kept"):
        build_voc2012(tmp_path / "other", voc_tar=tmp_path / "voc.tar", verify=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "voc.tar"]


def test_a_download_without_a_network_says_what_to_do(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(voc2012.datasets, "VOCSegmentation", fail)
    with pytest.raises(DataError, match=r"Network is unreachable.* --voc-tar"):
        download_voc2012(tmp_path)
    monkeypatch.setattr(voc2012.datasets, "VOCSegmentation", lambda *args, **options: None)
    assert download_voc2012(tmp_path) == tmp_path / "VOCdevkit" / "VOC2012"
