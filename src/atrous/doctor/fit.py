"""Whether a mask lies where the image's edges are, and if not, where it would.

Label edges fall on image edges more often than elsewhere. Both are drawn on a grid of 64 × 64
cells and correlated at every shift (by FFT, around the borders); the score of a position is its
correlation in units of the deviation over all shifts, so that 0 is chance. Genuine data has mean
scores of 2.5 (street scenes) to 6 (single objects), masks of other images 0 to 1.5.

What it sees: masks that are mirrored, turned, of a neighbouring image, or shifted by more than
a 64th of the image, where that holds for most of the data, or in a single file where it is
glaring. What it cannot see: smaller shifts, single files without clear edges, and masks swapped
among the frames of one video, which fit each other's images as well as their own.
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
    """Scores of a mask on its image; 0 is chance.

    Attributes:
        own: As it is.
        others: By what was done to the mask: one of `TURNS`, or `next` and `previous` for the
            masks of the images after and before this one.
        best_shift: (down, right) in grid cells, where the score is highest.
        best: The score there.
        stored: On the image as its pixels are stored, without the turn that EXIF asks for;
            None where it asks for none.
    """

    own: float
    others: dict[str, float]
    best_shift: tuple[int, int]
    best: float
    stored: float | None = None


def compute_image_edges(grey: Image.Image) -> Grid | None:
    """Return how steep a grey image is on the grid, None where it is flat or tiny.

    The strongest twentieth is cut, so that one hard edge does not outweigh all others.

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
    """Return how much label edge each cell of the grid holds, None where there is none.

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
    """Score a mask on its image as it is, turned, shifted, and against neighbouring masks.

    Args:
        image: From `compute_image_edges`.
        mask: From `compute_label_edges`.
        neighbors: Masks of other images by what to call them.
        stored: Edges of the image without its EXIF turn.
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
