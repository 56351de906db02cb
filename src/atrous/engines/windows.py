"""Overlapping sliding windows over an image, blended without seams."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

Forward = Callable[[Tensor], Tensor]
"""Maps an image (bands, H, W) to float32 logits (classes, H, W)."""


class Block(NamedTuple):
    """A rectangle of an image with its final logits, float32 (classes, rows, columns)."""

    rows: slice
    columns: slice
    logits: Tensor


def blend_windows(
    forward: Forward, image: Tensor, window_hw: tuple[int, int], overlap: float
) -> Iterator[Block]:
    """Slide a window over an image and yield its logits, block by block, as they become final.

    Where windows overlap, their logits are averaged with weights that fall towards the border of
    the window. The outermost quarter of the overlap, which has the least context, has weight 0.
    Memory holds one window and the overlap of two rows of windows.

    Args:
        image: (bands, H, W), at least as large as the window.
        overlap: Minimum overlap of neighbouring windows as a share of their side, in [0, 1).

    Returns:
        Blocks that cover the image row by row, each pixel once.
    """
    if image.shape[-2:] == window_hw:
        yield Block(slice(0, window_hw[0]), slice(0, window_hw[1]), forward(image))
        return
    (tops, lefts), (row_weights, column_weights) = zip(
        *(_place(size_px, window_px, overlap)
          for size_px, window_px in zip(image.shape[-2:], window_hw, strict=True)),
        strict=True,
    )  # fmt: skip
    height, width = window_hw
    num_shared = height - min((after - before for before, after in pairwise(tops)), default=height)
    shared: Tensor | None = None  # rows of the windows above that overlap the next row
    num_above = 0
    for top, next_top, rows_weight in zip(tops, [*tops[1:], None], row_weights, strict=True):
        num_rows = height if next_top is None else next_top - top
        beside: Tensor | None = None
        for left, next_left, columns_weight in zip(
            lefts, [*lefts[1:], None], column_weights, strict=True
        ):
            logits = forward(image[:, top : top + height, left : left + width])
            weight = (rows_weight[:, None] * columns_weight).to(logits.device)
            logits = logits * weight
            if beside is not None:
                logits[..., : beside.shape[-1]] += beside
            num_columns = width if next_left is None else next_left - left
            columns = slice(left, left + num_columns)
            beside, logits = logits[..., num_columns:], logits[..., :num_columns]
            if shared is None:
                shared = logits.new_empty(len(logits), num_shared, image.shape[-1])
            logits[:, :num_above] += shared[:, :num_above, columns]
            shared[:, : height - num_rows, columns] = logits[:, num_rows:]
            yield Block(slice(top, top + num_rows), columns, logits[:, :num_rows])
        num_above = height - num_rows


def assemble_blocks(blocks: Iterable[Block], size_hw: tuple[int, int]) -> Tensor:
    """Join blocks into logits (classes, H, W)."""
    whole: Tensor | None = None
    for rows, columns, logits in blocks:
        if logits.shape[-2:] == size_hw:
            return logits
        if whole is None:
            whole = logits.new_empty(len(logits), *size_hw)
        whole[:, rows, columns] = logits
    assert whole is not None
    return whole


def compute_window_starts(size_px: int, window_px: int, overlap: float) -> list[int]:
    """Return the first positions of windows along one side: evenly spaced, from edge to edge."""
    room_px = size_px - window_px
    if room_px <= 0:
        return [0]
    num_steps = math.ceil(room_px / _compute_stride_px(window_px, overlap))
    return [round(step * room_px / num_steps) for step in range(num_steps + 1)]


def compute_window_weights(
    starts: list[int], size_px: int, window_px: int, overlap: float
) -> list[Tensor]:
    """Return the weights of each window along one side.

    Shapes:
        returns: one float32 (window_px,) per window; the weights of all windows at a pixel of the
            image sum to 1
    """
    shared_px = window_px - _compute_stride_px(window_px, overlap)
    depth_px = torch.arange(window_px) + 0.5
    rise = ((depth_px - shared_px / 4) / max(shared_px / 2, 1e-9)).clamp(0, 1)
    profiles = [torch.minimum(rise, rise.flip(0)) for _ in starts]
    profiles[0], profiles[-1] = rise.flip(0), rise  # no neighbour at the border
    if len(starts) == 1:
        profiles = [torch.ones(window_px)]
    total = torch.zeros(size_px)
    for start, profile in zip(starts, profiles, strict=True):
        total[start : start + window_px] += profile
    return [
        profile / total[start : start + window_px]
        for start, profile in zip(starts, profiles, strict=True)
    ]


def _place(size_px: int, window_px: int, overlap: float) -> tuple[list[int], list[Tensor]]:
    starts = compute_window_starts(size_px, window_px, overlap)
    return starts, compute_window_weights(starts, size_px, window_px, overlap)


def _compute_stride_px(window_px: int, overlap: float) -> int:
    return max(1, int(window_px * (1 - overlap)))
