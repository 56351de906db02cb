"""A damaged copy for every finding: exactly what was damaged is found, with its files."""

import os
import shutil

import numpy as np
import pytest
import tifffile
from damage import (
    CAMVID_COLORS,
    CITYSCAPES_COLORS,
    VOC_COLORS,
    change_mask,
    change_masks,
    color_masks,
    copy_pair,
    cut_pixels,
    images,
    interpolate,
    masks,
    replace_image,
    shrink_a_little,
    sort_palette,
    store_12_bits,
    store_floats,
    swap,
    tag,
    truncate,
)
from PIL import Image

from atrous.data import open_dataset
from atrous.doctor import KINDS
from atrous.errors import DataError
from atrous.images import image_hash


def damage_unpaired(root):
    (root / "train/masks/p03.png").rename(root / "train/masks/p03_mask.png")
    (root / "val/images/p30.jpg").unlink()
    return {"unpaired": ["p03.jpg", "p03_mask.png", "p30.png"]}


def damage_same_stem(root):
    shutil.copyfile(root / "train/images/p05.jpg", root / "train/images/p05.jpeg")
    return {"same-stem": ["p05.jpg"]}


def damage_lists(root):
    with open(root / "ImageSets/Segmentation/train.txt", "a") as file:
        file.write("p00\n")
    return {"listed-twice": ["p00"]}


def damage_test_list(root):
    (root / "ImageSets/Segmentation/test.txt").write_text("t1\n")
    Image.new("RGB", (90, 90)).save(root / "JPEGImages/t1.jpg")
    return {"unlabelled-split": []}


def damage_files(root):
    truncate(root / "train/images/p01.jpg")
    truncate(root / "train/masks/p02.png")
    (root / "val/images/p31.jpg").write_text("no image")
    (root / "val/masks/p30.png").write_bytes(b"")
    return {"unreadable": ["p01.jpg", "p02.png", "p30.png", "p31.jpg"]}


def damage_split_names(root):
    (root / "val").rename(root / "validation")
    return {"refused-split": []}


def damage_jpeg_data(root):
    cut_pixels(root / "train/images/p15.jpg")
    return {"damaged-jpeg": ["p15.jpg"]}


def damage_levels(root):
    for name in ("p16", "p17"):  # the high byte of 12 bits
        path = root / f"train/images/{name}.jpg"
        with Image.open(path) as image:
            dark = np.asarray(image) >> 4
        path.unlink()
        Image.fromarray(dark).save(path.with_suffix(".png"))
    return {"nearly-black": ["p16.png", "p17.png"]}


def damage_depth(root):
    for name in ("p16", "p17"):
        store_12_bits(root / f"train/images/{name}.jpg")
    return {"bands-differ": ["p16.png", "p17.png"]}


def damage_range(root):
    for path in images(root):
        store_12_bits(path)
    with open(root / "classes.toml", "a") as file:
        file.write("bands = 1\nrange = [0, 65535]\n")
    return {"few-levels": []}


def damage_bands(root):
    for number, path in enumerate(images(root)):
        store_floats(path, np.nan if number == 3 else 0.0)
    return {"constant-band": [], "nodata": ["p03.tif"]}


def damage_places(root):
    swap(root)
    return {"swapped": [f"p{number:02}.png" for number in range(32)]}


def damage_size(root):
    with Image.open(root / "train/masks/p04.png") as mask:
        mask.resize((56, 48), Image.Resampling.NEAREST).save(root / "train/masks/p04.png")
    return {"size-mismatch": ["p04.png"]}


def damage_orientation(root):
    for name in ("p06", "p07"):  # a phone held upright; the mask drawn on the pixels as stored
        tag(root / f"train/images/{name}.jpg", 6, store_turned=False)
    tag(root / "train/images/p08.jpg", 3, store_turned=False)  # only the edges can tell
    tag(root / "train/images/p09.jpg", 6)  # the mask was drawn on what one sees: all is well
    tag(root / "train/images/p10.jpg", 3)
    return {"exif-rotation": ["p06.jpg", "p07.jpg", "p08.jpg"]}


def damage_orientation_unclear(root):
    change_mask(root / "train/masks/p08.png", np.zeros_like)
    tag(root / "train/images/p08.jpg", 3, store_turned=False)
    return {"exif-unclear": ["p08.jpg"]}


def damage_to_files_read_in_part(root):
    with Image.open(root / "train/images/p02.jpg") as image:
        image.save(root / "train/images/p02.jpg", quality=92, exif=b"Exif\0\0rubbish")
    with Image.open(root / "train/masks/p03.png") as mask:
        mask.save(root / "train/masks/p03.tif", save_all=True, append_images=[mask])
    (root / "train/masks/p03.png").unlink()
    return {"damaged-exif": ["p02.jpg"], "pages": ["p03.tif"]}


def damage_to_rgba(root):
    with Image.open(root / "train/masks/p00.png") as mask:
        mask.convert("RGBA").save(root / "train/masks/p00.png")
    return {"color-masks": ["p00.png"]}


def damage_palettes(root):
    sort_palette(root / "val/masks/p28.png")
    return {"palette-order": ["p28.png"]}


def damage_to_jpeg(root):
    for name in ("p00", "p01"):
        with Image.open(root / f"train/masks/{name}.png") as mask:
            Image.fromarray(np.asarray(mask)).save(root / f"train/masks/{name}.jpg")
        (root / f"train/masks/{name}.png").unlink()
    return {"jpeg-masks": ["p00.jpg", "p01.jpg"]}


def damage_values(root):
    change_mask(root / "train/masks/p11.png", lambda mask: np.where(mask == 2, 77, mask))
    return {"values": ["p11.png"]}


def damage_by_interpolation(root):
    for path in masks(root, "train")[:3]:
        change_mask(path, lambda mask: np.where(mask == 1, 3, mask))
        interpolate(path)
    return {"interpolated": ["p00.png", "p01.png", "p02.png"]}


def damage_by_ignoring(root):
    change_mask(root / "train/masks/p12.png", lambda mask: np.full_like(mask, 255))
    return {"all-ignored": ["p12.png"]}


def damage_classes_of_train(root):
    change_masks(root, lambda mask: np.where(mask == 3, 0, mask), "train")
    return {"class-only-in-val": [path.name for path in masks(root, "val")]}


def damage_classes_of_val(root):
    change_masks(root, lambda mask: np.where(mask == 3, 0, mask), "val")
    return {"class-not-in-val": []}


def damage_class_list(root):
    text = (root / "classes.toml").read_text()
    (root / "classes.toml").write_text(
        text.replace("'bar'", "'bar', 'moon'").replace("[50, 70, 210]", "[50, 70, 210], [9, 9, 9]")
    )
    return {"class-unused": []}


def damage_frequencies(root):
    def shrink(mask):
        small = np.where(mask == 3, 0, mask)
        small[50:53, 50:53] = 3
        return small

    change_masks(root, shrink)
    return {"imbalance": []}


def damage_overlap(root):
    with open(root / "ImageSets/Segmentation/val.txt", "a") as file:
        file.write("p00\np01\n")
    return {"split-overlap": ["p00.jpg", "p01.jpg"]}


def damage_copies(root):
    copy_pair(root, ("train", "p00"), ("train", "copy"))
    copy_pair(root, ("train", "p01"), ("val", "p50"))
    return {"duplicates": ["p00.jpg"], "duplicates-across": ["p50.jpg"]}


def damage_near_copies(root):
    copy_pair(root, ("train", "p00"), ("train", "near"))
    shrink_a_little(root / "train/images/near.jpg")
    copy_pair(root, ("train", "p01"), ("val", "p50"))
    shrink_a_little(root / "val/images/p50.jpg")
    return {"near-duplicates": ["p00.jpg"], "near-duplicates-across": ["p50.jpg"]}


def damage_conflict(root):
    copy_pair(root, ("train", "p00"), ("train", "p50"))
    change_mask(root / "train/masks/p50.png", np.flipud)
    return {"duplicates": ["p50.jpg"], "label-conflict": ["p50.png"]}


def damage_images(root):
    Image.new("RGB", (112, 96), "navy").save(root / "train/images/p13.jpg")
    return {"constant-image": ["p13.jpg"]}


def damage_by_shrinking(root):
    for path in (root / "train/images/p14.jpg", root / "train/masks/p14.png"):
        with Image.open(path) as image:
            image.resize((47, 40), Image.Resampling.NEAREST).save(path)
    return {"small-for-crop": ["p14.jpg"]}


def damage_alignment(root):
    change_masks(root, np.fliplr)
    return {"misaligned": [path.name for path in masks(root, "train")]}


DAMAGES = [value for name, value in list(globals().items()) if name.startswith("damage_")]
IN_VOC = (damage_lists, damage_test_list, damage_overlap)


def get_found(report) -> dict[str, list[str]]:
    return {
        finding.code: sorted(file.path.rsplit("/", 1)[-1] for file in finding.files)
        for finding in report.findings
    }


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_was_damaged_is_found_and_nothing_else(make_clean, check, damage):
    root = make_clean("voc" if damage in IN_VOC else "pairs")
    expected = damage(root)
    report = check(root)
    assert get_found(report) == {code: sorted(names) for code, names in expected.items()}
    levels = {KINDS[code].level for code in expected}
    assert report.exit_code == (1 if levels - {"note"} else 0)


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".webp", ".jpg"])
def test_orientation_is_detected_in_every_format(make_clean, check, suffix, orientation):
    root = make_clean()
    right, wrong = (replace_image(root, name, suffix) for name in ("p09", "p10"))
    tag(right, orientation)
    tag(wrong, orientation, store_turned=False)
    assert get_found(check(root)) == {"exif-rotation": [wrong.name]}


@pytest.mark.parametrize("layout", ["pairs", "voc"])
def test_a_clean_set_gives_nothing(make_clean, check, layout):
    report = check(make_clean(layout))
    assert report.findings == []
    assert (report.exit_code, report.num_pairs) == (0, 32)


def test_every_kind_has_its_damage(make_clean, check):
    covered = {"binary-masks", "value-gaps", "single-class", "large-for-crop", "series-across"}
    covered |= {"object-ids", "counted-from-one", "label-ids"}
    for number, damage in enumerate(DAMAGES):
        root = make_clean("voc" if damage in IN_VOC else "pairs")
        covered |= set(damage(root))
        root.rename(root.with_name(f"done{number}"))
    assert covered == set(KINDS)


def test_nearest_neighbour_is_no_interpolation_and_bilinear_is(make_clean, check):
    for resample, codes in (
        (Image.Resampling.NEAREST, []),
        (Image.Resampling.BILINEAR, ["interpolated"]),
    ):
        root = make_clean()
        change_masks(root, lambda mask: np.array([0, 4, 7, 2], np.uint8)[mask])
        (root / "classes.toml").write_text(f"names = {list('abcdefgh')}\n")
        for path in [*root.glob("*/images/*"), *root.glob("*/masks/*")]:
            with Image.open(path) as image:
                smooth = Image.Resampling.BILINEAR if path.suffix == ".jpg" else resample
                image.resize((90, 77), smooth).save(path)
        found = [f.code for f in check(root, crop=64).findings if f.level != "note"]
        assert found == codes
        root.rename(root.with_name(resample.name))


def draw_cracks(mask):
    thin = np.zeros_like(mask)
    for index, step in ((1, 7), (2, 11), (3, 13)):
        thin[np.arange(0, 96 * step, step) % 96, np.arange(96)] = index
    return thin


def draw_outlines(mask):
    """Ignore the classes: 2 or 3 inside, and 1 in a line of one pixel around it."""
    inside = np.where(mask > 0, 2 + mask % 2, 0).astype(np.uint8)
    padded = np.pad(mask > 0, 1)
    is_deep = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.where((mask > 0) & ~is_deep, 1, inside)


@pytest.mark.parametrize("draw", [draw_cracks, draw_outlines])
def test_thin_structures_are_no_interpolation(make_clean, check, draw):
    root = make_clean()
    change_masks(root, draw)
    assert "interpolated" not in get_found(check(root))


def test_12_bit_images_beside_coloured_labels_are_not_swapped(make_clean, check):
    root = make_clean()
    for path in sorted(root.glob("train/images/*")):
        store_12_bits(path)
    change_masks(root, lambda mask: np.arange(mask.size).reshape(mask.shape).astype(np.uint8))
    found = get_found(check(root))
    assert "swapped" not in found
    assert len(found["bands-differ"]) == 8  # of 'val', in 8 bits


def write_complex(path):
    tifffile.imwrite(path, np.zeros((4, 4), np.complex64))


@pytest.mark.parametrize(
    ("write", "detail"),
    [
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
        (lambda path: path.write_text("\n<!DOCTYPE html><p>Sign in</p>"), "an HTML page"),
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_bytes(bytes(999)), "filled with zeros"),
        (write_complex, "64-bit complex numbers"),
        (lambda path: path.write_bytes(bytes(range(1, 99))), "in no known image format"),
    ],
)
def test_files_that_are_no_images_are_named(make_clean, check, write, detail):
    root = make_clean()
    path = root / "train/images/p01.jpg"
    write(path)
    (finding,) = check(root).findings
    assert finding.code == "unreadable"
    assert detail in finding.files[0].detail


def test_a_png_that_lost_its_line_ends_is_named(make_clean, check):
    root = make_clean()
    path = root / "train/masks/p01.png"
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    (finding,) = check(root).findings
    assert "a PNG that has lost its CR bytes" in finding.files[0].detail


def test_a_list_that_leads_elsewhere_is_unpaired(make_clean, check):
    root = make_clean("voc")
    with open(root / "ImageSets/Segmentation/train.txt", "a") as file:
        file.write("/etc/passwd\n../x\n")
    finding = next(f for f in check(root).findings if f.code == "unpaired")
    assert {file.path for file in finding.files} == {
        "/etc/passwd",
        "JPEGImages/../x",
        "SegmentationClass/../x",
    }


def test_names_with_a_suffix_in_a_list_are_explained(make_clean, check):
    root = make_clean("voc")
    path = root / "ImageSets/Segmentation/val.txt"
    path.write_text(path.read_text().replace("\n", ".jpg\n"))
    hint = "The list has names with a suffix, such as p24.jpg: write p24."
    finding = next(f for f in check(root).findings if f.code == "unpaired")
    assert hint in finding.summary
    with pytest.raises(DataError, match=hint):
        open_dataset(root, "val")


def test_a_folder_per_image_is_no_split(make_clean, check):
    root = make_clean()
    for path in sorted(root.glob("train/images/*")):
        for kind, file in (("images", path), ("masks", root / f"train/masks/{path.stem}.png")):
            (root / path.stem / kind).mkdir(parents=True)
            file.rename(root / path.stem / kind / file.name)
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "val")
    finding = check(root).findings[0]
    assert finding.code == "refused-split"
    assert "no split 'train', 'val'; there are 24: 'p00', 'p01'," in finding.summary


def test_the_splits_of_training_can_be_named(make_clean, check):
    root = make_clean()
    (root / "train").rename(root / "a")
    (root / "val").rename(root / "b")
    assert get_found(check(root)) == {"refused-split": []}
    report = check(root, train_split="a", val_split="b")
    assert report.findings == []
    assert (report.survey.train_splits, report.survey.held_out_splits) == (["a"], ["b"])


def test_a_split_whose_pixels_are_all_ignored(make_clean, check):
    root = make_clean()
    change_masks(root, lambda mask: np.full_like(mask, 255), "val")
    finding = check(root).findings[0]
    assert finding.code == "refused-split"
    assert "All pixels of 'val' are ignored" in finding.summary


@pytest.mark.parametrize("mixed", [False, True])
def test_binary_masks(make_clean, check, mixed):
    root = make_clean(classes_file=False)
    change_masks(root, lambda mask: 255 * (mask > 0).astype(np.uint8))
    if mixed:  # some were exported as 0 and 1
        change_masks(root, lambda mask: (mask > 0).astype(np.uint8), "val")
    report = check(root)
    assert set(get_found(report)) == {"binary-masks"}
    assert report.findings[0].num_files == (24 if mixed else 32)


def test_ignored_pixels_beside_the_foreground_are_no_binary_mask(make_clean, check):
    root = make_clean(classes_file=False)
    change_masks(root, lambda mask: np.where(mask == 2, 255, mask > 0).astype(np.uint8))
    change_mask(masks(root)[0], lambda mask: np.where(mask == 1, 0, mask))
    assert check(root).findings == []


def test_a_single_class(make_clean, check):
    root = make_clean(classes_file=False)
    change_masks(root, np.zeros_like)
    assert set(get_found(check(root))) == {"single-class"}


def test_images_too_large_for_the_crop(make_clean, check):
    root = make_clean()
    for path in (root / "train/images/p14.jpg", root / "train/masks/p14.png"):
        with Image.open(path) as image:
            image.resize((448, 384), Image.Resampling.NEAREST).save(path)
    assert get_found(check(root, crop=40))["large-for-crop"] == ["p14.jpg"]
    assert get_found(check(root, crop=40, long_side=112)) == {}


@pytest.mark.parametrize(
    ("colors", "table", "indices"),
    [
        (VOC_COLORS, "PASCAL VOC", [0, 8, 12, 15]),
        (CAMVID_COLORS, "CamVid, 11 classes", [3, 1, 0, 10]),
        (CITYSCAPES_COLORS, "Cityscapes", [0, 2, 13, 11]),
        ([(0, 0, 0), (1, 1, 1), (2, 2, 2), (5, 5, 5)], "grey values", [0, 1, 2, 5]),
        ([(0, 0, 0)] + [(255, 255, 255)] * 3, "black and white", [0, 1, 1, 1]),
    ],
)
def test_colour_tables_are_recognised(make_clean, check, colors, table, indices):
    root = make_clean(classes_file=False)
    color_masks(root, colors)
    finding = check(root).findings[0]
    assert (finding.code, finding.num_files, finding.data["table"]) == ("color-masks", 32, table)
    expected = {"#{:02x}{:02x}{:02x}".format(*c): i for c, i in zip(colors, indices, strict=True)}
    assert finding.data["colors"] == expected


def test_blurred_colours_have_no_table(make_clean, check):
    root = make_clean(classes_file=False)
    color_masks(root, VOC_COLORS)
    for path in masks(root):
        with Image.open(path) as mask:
            noise = np.random.default_rng(0).integers(0, 60, np.asarray(mask).shape)
            Image.fromarray((np.asarray(mask) // 2 + noise).astype(np.uint8)).save(path)
    finding = check(root).findings[0]
    assert (finding.code, finding.data["table"]) == ("color-masks", None)
    assert "too many colours" in finding.summary


@pytest.mark.parametrize("damage", ["shuffled", "off by one", "shifted", "upside down"])
def test_kinds_of_misalignment(make_clean, check, damage):
    root = make_clean()
    paths = masks(root, "train")
    contents = [path.read_bytes() for path in paths]
    if damage == "shuffled":
        order = np.random.default_rng(3).permutation(len(paths))
        contents = [contents[index] for index in order]
    elif damage == "off by one":
        contents = contents[1:] + contents[:1]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    if damage == "shifted":
        change_masks(root, lambda mask: np.roll(mask, (0, 9), (0, 1)))
    if damage == "upside down":
        change_masks(root, np.flipud)
    findings = [finding for finding in check(root).findings if finding.code == "misaligned"]
    words = {
        "shuffled": "no better than turned or mirrored",
        "off by one": "off by one",
        "shifted": "moved by 0 % of the height and -8 % of the width",
        "upside down": "upside down",
    }
    assert [words[damage] in finding.summary for finding in findings] == [True]


def test_single_misaligned_masks(make_clean, check):
    root = make_clean()
    paths = masks(root, "train")
    first, second = paths[4].read_bytes(), paths[5].read_bytes()
    paths[4].write_bytes(second)
    paths[5].write_bytes(first)
    change_mask(paths[12], np.flipud)
    (finding,) = check(root).findings
    details = {file.path[-7:]: file.detail for file in finding.files}
    assert finding.code == "misaligned"
    assert details == {
        "p04.png": "exchanged with p05",
        "p05.png": "exchanged with p04",
        "p12.png": "would fit better upside down",
    }


def test_near_pairs_are_the_same_as_by_brute_force():
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 256, (40, 256)).astype(np.uint8)
    looks = np.concatenate([looks, looks[:20], looks[:20]])
    bits = rng.integers(0, 2, (40, 256))
    copies = [
        np.where(rng.random((20, 256)) < share, 1 - bits[:20], bits[:20]) for share in (0.02, 0.03)
    ]
    hashes = np.packbits(np.concatenate([bits, *copies]), axis=1)
    prints = [(h.tobytes(), t.tobytes()) for h, t in zip(hashes, looks, strict=True)]
    found = image_hash.find_near_pairs(dict(enumerate(prints)))
    distance = np.unpackbits(hashes[:, None] ^ hashes[None], axis=2).sum(axis=2)
    sure = {(i, j) for i, j in np.argwhere(distance <= 15) if i < j}
    near = {(i, j) for i, j in np.argwhere(distance <= 40) if i < j}
    assert sure <= set(found) <= near
    assert len(sure) > 30
    assert [len(group) for group in image_hash.group_pairs(found)] == [3] * 20


def test_thousands_of_equal_hashes_take_little_time():
    look = np.random.default_rng(0).integers(0, 256, 256).astype(np.uint8).tobytes()
    found = image_hash.find_near_pairs(dict.fromkeys(range(3000), (bytes(32), look)))
    assert len(found) < 3000 * 256
    assert [len(group) for group in image_hash.group_pairs(found)] == [3000]


@pytest.mark.parametrize(
    ("shuffled", "prefix", "name"),
    [(False, "clip_", "'clip'"), (False, "", "Names that are numbers"), (True, "clip_", None)],
)
def test_a_video_across_splits_is_detected_by_numbers_and_contents(
    make_clean, check, shuffled, prefix, name
):
    root = make_clean()
    rng = np.random.default_rng(1)
    cells = Image.fromarray(rng.integers(0, 256, (6, 60), np.uint8))
    street = np.asarray(cells.resize((1200, 96), Image.Resampling.BICUBIC))
    for folder in root.glob("*/*/"):
        for path in folder.iterdir():
            path.unlink()
    places = rng.permutation(60) if shuffled else np.arange(60)
    for number, place in enumerate(places.tolist()):
        split = "val" if number % 5 == 2 else "train"
        frame = street[:, 8 * place : 8 * place + 112]
        Image.fromarray(np.stack([frame] * 3, axis=2)).save(
            root / f"{split}/images/{prefix}{number:03}.jpg"
        )
        mask = np.zeros(frame.shape, np.uint8)
        mask[number % 50 : number % 50 + 30] = 1 + number % 3
        Image.fromarray(mask).save(root / f"{split}/masks/{prefix}{number:03}.png")
    found = {finding.code: finding for finding in check(root).findings}
    assert ("series-across" in found) == (not shuffled)
    if not shuffled:
        assert found["series-across"].summary == f"{name}: 12 of 'val', 48 trained on."
        assert len(found["series-across"].files) == 12
