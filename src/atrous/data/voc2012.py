"""PASCAL VOC 2012 as a devkit folder, downloaded or built from local archives."""

import gzip
import hashlib
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from scipy.io import loadmat
from torchvision import datasets

from atrous.classes import VOC_NAMES, build_classes
from atrous.data.dataset import open_dataset
from atrous.data.new_folder import replace_folder
from atrous.data.voc import list_voc_splits
from atrous.errors import DataError

VOC_MD5 = "6cd6e144f989b92b3379bac3b3de84fd"
SBD_MD5 = "82b4d87ceb2ed10f6038a1cba92111cb"
NUM_TRAINAUG = 10582

_VOC = "VOCdevkit/VOC2012"
_SBD = "benchmark_RELEASE/dataset"
_SEGMENTATION_LISTS = "ImageSets/Segmentation"


def download_voc2012(root: Path) -> Path:
    """Download VOC 2012 (2 GB) with torchvision and return the devkit folder.

    Raises:
        DataError: There is no network, the disk is full, or the archive is damaged.
    """
    try:
        datasets.VOCSegmentation(str(root), year="2012", image_set="train", download=True)
    except (OSError, RuntimeError, tarfile.TarError) as error:
        raise DataError(
            f"Cannot download VOC 2012 to {root}: {error}. Without a network, copy "
            "VOCtrainval_11-May-2012.tar to this machine and give it with --voc-tar."
        ) from error
    return root / _VOC


def build_voc2012(
    out: Path, *, voc_tar: Path, sbd_tar: Path | None = None, verify: bool = True
) -> Path:
    """Build the devkit folder `out`/VOCdevkit/VOC2012 from local archives.

    The SBD archive adds the split `trainaug`: the images of VOC train, SBD train and SBD val that
    are not in VOC val. VOC's own masks take precedence over SBD's. `out` is created atomically.

    Args:
        voc_tar: VOCtrainval_11-May-2012.tar.
        sbd_tar: benchmark.tgz of the Semantic Boundaries Dataset.
        verify: Check the archives' MD5 sums and that `trainaug` has 10,582 images; False for other
            archives in the same layout.

    Raises:
        DataError: `out` exists, an archive is missing or not the expected one, or the disk is full.

    Source: Hariharan et al. 2011, "Semantic Contours from Inverse Detectors", ICCV.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} already exists. Give a new folder, or remove this one first.")
    for archive, md5 in ((voc_tar, VOC_MD5), (sbd_tar, SBD_MD5)):
        if archive is not None:
            _check_archive(archive, md5 if verify else None)
    advice = (
        "No files were kept. Building needs about 6 GB; free disk space, or give a folder on "
        "another disk."
    )
    with replace_folder(out, f"Cannot write {out}", advice) as whole:
        devkit = whole / _VOC
        folders = ("JPEGImages", "SegmentationClass", _SEGMENTATION_LISTS)
        _unpack(voc_tar, {f"{_VOC}/{folder}": devkit / folder for folder in folders})
        if sbd_tar is not None:
            _add_sbd(devkit, sbd_tar, whole / "sbd", verify)
            shutil.rmtree(whole / "sbd")
        for split in list_voc_splits(devkit):
            open_dataset(devkit, split)
    return out / _VOC


def _check_archive(path: Path, md5: str | None) -> None:
    if not path.is_file():
        raise DataError(f"There is no archive {path}.")
    if md5 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise DataError(
            f"The archive {path} has the MD5 sum {found}, but {md5} was expected: it is damaged or "
            "another file. Download it again; for other archives, use --no-verify."
        )


def _unpack(archive: Path, folders: dict[str, Path]) -> None:
    """Copy the files directly in the given folders of an archive; existing files are kept.

    Only regular files are written, by their base names, so no member can leave the folders.
    """
    for target in folders.values():
        target.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                folder = folders.get(str(name.parent))
                content = tar.extractfile(member) if folder and member.isfile() else None
                if folder is None or content is None or (folder / name.name).exists():
                    continue
                with (folder / name.name).open("xb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"Cannot unpack {archive}: {error}. The archive is damaged or incomplete; download it "
            "again."
        ) from error


def _add_sbd(devkit: Path, sbd_tar: Path, scratch: Path, verify: bool) -> None:
    """Add the images and masks of SBD to an unpacked devkit, and the split list `trainaug`."""
    _unpack(
        sbd_tar,
        {_SBD: scratch, f"{_SBD}/cls": scratch / "cls", f"{_SBD}/img": devkit / "JPEGImages"},
    )
    lists = devkit / _SEGMENTATION_LISTS
    val = _read_names(lists / "val.txt")
    sbd = _read_names(scratch / "train.txt") | _read_names(scratch / "val.txt")
    trainaug = sorted((_read_names(lists / "train.txt") | sbd) - val)
    palette = build_classes(VOC_NAMES).palette
    for name in trainaug:
        mask_path = devkit / "SegmentationClass" / f"{name}.png"
        if not mask_path.exists():
            mask = Image.fromarray(_read_sbd_mask(scratch / "cls" / f"{name}.mat"))
            mask.putpalette(palette)
            mask.save(mask_path)
    if verify and len(trainaug) != NUM_TRAINAUG:
        raise DataError(
            f"{sbd_tar} gives {len(trainaug)} images for trainaug, but {NUM_TRAINAUG} were "
            "expected. Use the original archives."
        )
    (lists / "trainaug.txt").write_text("\n".join(trainaug) + "\n")
    assert not val & _read_names(lists / "trainaug.txt"), "an image of val is in trainaug"


def _read_names(split_list: Path) -> set[str]:
    if not split_list.is_file():
        raise DataError(
            f"The archives contain no {split_list.name} where it was expected. Give "
            "VOCtrainval_11-May-2012.tar as --voc-tar and SBD's benchmark.tgz as --sbd-tar."
        )
    return set(split_list.read_text().split())


def _read_sbd_mask(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"The SBD archive lists {path.stem} but has no {path.name}.")
    try:
        mask: np.ndarray = np.asarray(loadmat(path)["GTcls"][0]["Segmentation"][0])
    except Exception as error:  # SciPy raises exceptions of many kinds for damaged files
        raise DataError(f"{path.name} of the SBD archive is not a mask: {error}.") from error
    if mask.ndim != 2 or mask.min() < 0 or mask.max() >= len(VOC_NAMES):
        raise DataError(f"{path.name} of the SBD archive has values beyond 0 to 20.")
    return mask.astype(np.uint8)
