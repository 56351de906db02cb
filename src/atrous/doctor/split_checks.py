"""Checks of the splits: usable for training, and every file with its partner.

`find_matches` finds partners whose names differ by a common prefix or suffix.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from atrous.data.layouts import Layout, list_split_files
from atrous.data.pairs import describe_overlooked, list_image_files, match_by_words
from atrous.data.split_files import SplitFiles, normalize_name
from atrous.data.voc import describe_suffixes
from atrous.doctor.findings import Finding, FoundFile, build_findings, join_parts
from atrous.doctor.survey import Survey
from atrous.errors import DataError, shorten
from atrous.images.shard_file import File


def check_refused_splits(survey: Survey) -> list[Finding]:
    """Find a training or validation split that `atrous train` refuses."""
    needed = (survey.data.train_split, survey.data.val_split)
    parts = []
    if missing := [split for split in needed if split not in survey.splits]:
        parts.append(
            f"There is no split {_quote(missing)}; there are {len(survey.splits):,}: "
            f"{_quote(list(survey.splits))}"
        )
    for split in needed:
        files = survey.splits.get(split)
        if files is None or any(
            (files.without_mask, files.without_image, files.same_stem, files.listed_twice)
        ):
            continue  # reported by the other checks
        try:
            list_split_files(survey.layout, survey.folder, split)
        except DataError as error:
            parts.append(str(error).rstrip("."))
        else:
            ignored = {index for index, mask in survey.index_masks if survey.is_ignored(mask)}
            if ignored.issuperset(survey.members[split]):
                parts.append(f"All pixels of '{split}' are ignored: none has a class")
    return build_findings("refused-split", join_parts(parts)) if parts else []


def check_unpaired(survey: Survey) -> list[Finding]:
    """Find images without a mask and masks without an image."""
    files = []
    parts, overlooked = [], {}
    for split, found in survey.splits.items():
        if _is_unlabelled(survey, split):
            continue
        matches = {path: pair for pair in survey.matches[split].values() for path in pair}
        if survey.layout == "voc":
            overlooked[describe_suffixes(found)] = True
        for names, what, folder, paths in (
            (found.without_mask, "mask", found.mask_folder, found.images),
            (found.without_image, "image", found.image_folder, found.masks),
        ):
            if names:
                parts.append(f"{len(names)} of '{split}' without a{'n' * (what == 'image')} {what}")
                overlooked[describe_overlooked(folder)] = True
            for name in names:
                path = paths.get(name, folder / name)
                detail = f"no {what} of this name"
                if path in matches:
                    other = matches[path][what == "mask"]
                    detail += f"; {survey.relative(other)} seems to be it"
                files.append(FoundFile(survey.relative(path), detail))
    num_matched = sum(map(len, survey.matches.values()))
    summary = join_parts(parts) + "".join(overlooked)
    return build_findings("unpaired", summary, files, num_matched=num_matched)


def find_matches(files: SplitFiles, layout: Layout) -> dict[str, tuple[Path, Path]]:
    """Return stem → (image, mask) of the files without a partner that have the same key.

    Exactly one image and one mask must have the key of `match_by_words`. The stem is the one in the
    split list in VOC's layout, otherwise the image's.
    """
    images, masks = (
        {name: path for name in names if isinstance(path := paths.get(name), Path)}
        for names, paths in ((files.without_mask, files.images), (files.without_image, files.masks))
    )
    if layout == "pairs":
        return {
            normalize_name(image.stem): (image, mask)
            for image, mask in match_by_words(list(images.values()), list(masks.values()))
        }
    names = {path: name for name, path in (images | masks).items()}
    spare_images = _list_spare(files.image_folder, files.images, masks)
    spare_masks = _list_spare(files.mask_folder, files.masks, images)
    return {
        names[image if image in names else mask]: (image, mask)
        for image, mask in [
            *match_by_words(list(images.values()), spare_masks),
            *match_by_words(spare_images, list(masks.values())),
        ]
    }


def _list_spare(folder: Path, used: Mapping[str, File], names: Iterable[str]) -> list[Path]:
    """Return the unlisted files of the folders in which a partner is searched."""
    taken = set(used.values())
    places = {folder / PurePosixPath(name).parent for name in names}
    return [path for place in places for path in list_image_files(place) if path not in taken]


def check_unlabelled(survey: Survey) -> list[Finding]:
    """Find test splits without any mask."""
    splits = [split for split in survey.splits if _is_unlabelled(survey, split)]
    total = sum(len(survey.splits[split].names) for split in splits)
    summary = f"{_quote(splits)}: {total} images."
    return build_findings("unlabelled-split", summary) if splits else []


def _is_unlabelled(survey: Survey, split: str) -> bool:
    found = survey.splits[split]
    is_needed = split in (survey.data.train_split, survey.data.val_split)
    return split.startswith("test") and bool(found.images) and not found.masks and not is_needed


def check_repeated_names(survey: Survey) -> list[Finding]:
    """Find stems of several files, names listed twice, and pairs of two kinds of splits."""
    shared, twice = [], []
    for split, found in survey.splits.items():
        for first, second in found.same_stem:
            shared.append(FoundFile(survey.relative(second), f"beside {first.name}"))
        twice += [FoundFile(name, f"in '{split}'") for name in found.listed_twice]
    trained = {index: split for split in survey.train_splits for index in survey.members[split]}
    overlap = [
        survey.found_image(index, f"in '{trained[index]}' and '{split}'")
        for split in survey.held_out_splits
        for index in survey.members[split]
        if index in trained
    ]
    lists = shorten(sorted({file.detail for file in overlap}))
    return [
        *build_findings("same-stem", f"Files with the stem of another: {len(shared)}.", shared),
        *build_findings("listed-twice", f"Names listed twice: {len(twice)}.", twice),
        *build_findings("split-overlap", f"Names that are {lists}: {len(overlap)}.", overlap),
    ]


def _quote(names: list[str]) -> str:
    return shorten([f"'{name}'" for name in names], 5)
