"""Alignment scores: whether a mask lies where the edges of its image are.

Label edges fall on image edges more often than elsewhere. Both are drawn on a grid of 64 × 64
cells and correlated at every cyclic shift (by FFT). A score is the correlation at one shift in
units of the standard deviation over all shifts, so 0 is chance. Real datasets have mean scores of
2.5 (street scenes) to 6 (single objects), masks of other images 0 to 1.5.

Detected are masks that are mirrored, turned, of a neighbouring image, or shifted by more than a
64th of the image, if most of the dataset is affected or the difference is very large. Not
detected are smaller shifts, single files without clear edges, and masks exchanged among frames of
one video, which fit each other's images as well as their own.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

GRID = 64
MIN_SIDE_PX = 24

Grid = npt.NDArray[np.float32]

TURNS = {
    "mirrored left to right": lambda grid: grid[:, ::-1],
    "upside down": lambda grid: grid[::-1],
    "turned by 180°": lambda grid: grid[::-1, ::-1],
    "turned by 90° to the left": lambda grid: np.rot90(grid, 1),
    "turned by 90° to the right": lambda grid: np.rot90(grid, -1),
}


@dataclass(frozen=True)
class Fit:
    """Alignment scores of a mask on its image; 0 is chance."""

    own: float  # of the mask as it is
    others: dict[str, float]  # by the change: of `TURNS`, or to the `next` or `previous` mask
    best_shift: tuple[int, int]  # (down, right) in grid cells, with the highest score
    best: float  # at this shift
    stored: float | None = None  # on the image without its EXIF turn; None if it has none


def compute_image_edges(grey: Image.Image) -> Grid | None:
    """Return the gradient magnitude of a grey image on the grid; None if it is flat or tiny.

    Values are clipped at the 95th percentile, so that no single edge dominates.

    Shapes:
        returns: float32 (64, 64), mean 0, norm 1
    """
    if min(grey.size) < MIN_SIDE_PX:
        return None
    values = np.asarray(grey.resize((GRID, GRID), Image.Resampling.BOX), np.float32)
    down, right = np.zeros_like(values), np.zeros_like(values)
    down[1:-1] = values[2:] - values[:-2]
    right[:, 1:-1] = values[:, 2:] - values[:, :-2]
    steepness = np.hypot(down, right)
    return _normalize(np.minimum(steepness, np.quantile(steepness, 0.95)))


def compute_label_edges(indices: npt.NDArray[np.integer]) -> Grid | None:
    """Return the share of label edge pixels in each grid cell; None if there are none.

    Shapes:
        indices: integer (H, W)
        returns: float32 (64, 64), mean 0, norm 1
    """
    if min(indices.shape) < MIN_SIDE_PX:
        return None
    edges = np.zeros(indices.shape, np.uint8)
    edges[:, 1:] = indices[:, 1:] != indices[:, :-1]
    edges[1:] |= indices[1:] != indices[:-1]
    edges *= 255
    cells = Image.fromarray(edges).resize((GRID, GRID), Image.Resampling.BOX)
    return _normalize(np.asarray(cells, np.float32))


def compute_fit(
    image: Grid, mask: Grid, neighbors: dict[str, Grid], stored: Grid | None = None
) -> Fit:
    """Score the edges of a mask on those of its image, as they are, turned and shifted.

    `neighbors` are edges of other masks by name; `stored` those of the image without its EXIF turn.
    """
    spectrum = np.fft.rfft2(image)
    scores = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(mask)), s=image.shape)
    deviation = float(scores.std())
    down, right = np.unravel_index(int(scores.argmax()), scores.shape)
    others = {name: turn(mask) for name, turn in TURNS.items()} | neighbors
    return Fit(
        own=float(scores[0, 0]) / deviation,
        others={name: float(np.vdot(image, other)) / deviation for name, other in others.items()},
        best_shift=(_center(int(down)), _center(int(right))),
        best=float(scores.max()) / deviation,
        stored=None if stored is None else float(np.vdot(stored, mask)) / deviation,
    )


def _normalize(grid: Grid) -> Grid | None:
    grid = grid - grid.mean()
    norm = float(np.linalg.norm(grid))
    return grid / norm if norm > 1e-3 * GRID else None


def _center(cell: int) -> int:
    return (cell + GRID // 2) % GRID - GRID // 2
