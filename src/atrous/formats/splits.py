"""Splits of an imported dataset: those of the source, or drawn with related images together."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from atrous.errors import ConfigError
from atrous.formats.grouping import group_images
from atrous.formats.source import SPLITS, Item


def check_shares(val: float, test: float) -> None:
    """Raise ConfigError unless shares of validation and test images leave some for training."""
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise ConfigError(
            f"--val {val:g} and --test {test:g} are shares of the images: numbers from 0, together "
            "below 1, such as --val 0.2 --test 0.1."
        )


def list_missing(items: Sequence[Item], val: float, test: float) -> dict[str, float]:
    """Return the share of each split that must be drawn, since the source does not have it."""
    given = {SPLITS[item.split] for item in items if item.split}
    shares = {"val": val, "test": test}
    return {split: share for split, share in shares.items() if share and split not in given}


def assign_splits(
    items: Sequence[Item],
    root: Path,
    shares: dict[str, float],
    group: str | None,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[str], list[str]]:
    """Return the split of each image, and sentences on how it was chosen.

    Splits of the source are kept. Those of `shares` are drawn from its training images and those of
    no split, whole groups of related images at a time (see `group_images`), so that the number of
    images is as near to the share as groups allow.

    Raises:
        ConfigError: The expression is invalid, or matches no image.
        DataError: An image cannot be read.
    """
    splits = [SPLITS[item.split] if item.split else "train" for item in items]
    notes = [
        f"'{name}' of the source is the split '{SPLITS[name]}'."
        for name in sorted({item.split for item in items if item.split})
        if name != SPLITS[name]
    ]
    pool = [index for index, split in enumerate(splits) if split == "train"]
    if not shares or not pool:
        unused = ["--group is not used: no split is drawn."] if group else []
        return splits, notes + unused
    images = [items[index].image for index in pool]
    numbers = {split: max(1, round(share * len(pool))) for split, share in shares.items()}
    groups, reasons = group_images(images, root, group, sum(numbers.values()), progress)
    random.Random(seed).shuffle(groups)
    for split, number in numbers.items():
        places = _draw([len(members) for members in groups], number)
        drawn = [index for place in places for index in groups[place]]
        for index in drawn:
            splits[pool[index]] = split
        groups = [members for place, members in enumerate(groups) if place not in places]
        notes.append(_describe(split, len(drawn), number, len(pool), seed))
    if "val" in shares and "test" not in shares and "test" in splits:
        notes.append("'test' stays as it is: to validate on it, `atrous train --val-split test`.")
    return splits, notes + reasons


def _describe(split: str, count: int, wanted: int, total: int, seed: int) -> str:
    text = f"'{split}' is not in the source; {count} of {total} images drawn for it (seed {seed})"
    if not count:
        return f"{text}: all of them belong together."
    is_near = abs(count - wanted) <= max(1, wanted // 10)
    return text + ("." if is_near else "; groups of related images allow no other number.")


def _draw(sizes: Sequence[int], target: int) -> set[int]:
    """Return the first groups whose sizes add up as near as possible to a number; never all."""
    if len(sizes) < 2:
        return set()
    limit = min(sum(sizes) - 1, target + max(sizes))
    last = np.full(limit + 1, -1)  # sum → the group that completed it first
    last[0] = 0
    for number, size in enumerate(sizes):
        is_new = (last[: max(0, limit + 1 - size)] >= 0) & (last[size:] < 0)
        last[size:][is_new] = number
        if last[min(target, limit)] >= 0:
            break
    sums = np.flatnonzero(last >= 0)[1:]
    left = int(sums[np.abs(sums - target).argmin()])
    drawn = set()
    while left:
        drawn.add(int(last[left]))
        left -= sizes[last[left]]
    return drawn
