"""Valid taps: how many taps of an atrous convolution fall inside the feature map."""

from collections import Counter

HW = tuple[int, int]


def list_taps(
    size: int, *, rate: int, kernel_size: int = 3, stride: int = 1, padding: int | None = None
) -> list[list[int]]:
    """List the taps inside the feature map along one axis, for each output position.

    All arguments are along this axis, in cells. `padding` is that of each side; by default,
    `rate * (kernel_size // 2)`.
    """
    if padding is None:
        padding = rate * (kernel_size // 2)
    num_positions = (size + 2 * padding - rate * (kernel_size - 1) - 1) // stride + 1
    return [
        [tap for tap in range(kernel_size) if 0 <= position * stride - padding + tap * rate < size]
        for position in range(num_positions)
    ]


def compute_valid_taps(
    map_hw: HW,
    *,
    rate_hw: HW,
    kernel_hw: HW = (3, 3),
    stride_hw: HW = (1, 1),
    padding_hw: HW | None = None,
) -> float:
    """Compute the mean number of taps inside the feature map over all output positions.

    Taps outside of the map read zero padding. The number of valid taps at a position is the product
    of those along its row and column, so the mean is the product of the two means. For 3x3 taps at
    rate r on a square map of side n it is (1 + 2 max(0, 1 - r/n))^2: 9 for r = 0, 4 for r = n/2,
    and 1, the centre tap, for r >= n.

    Source: Chen et al. 2017, arXiv:1706.05587, section 3.3 and figure 4.
    """
    valid, paddings = 1.0, padding_hw or (None, None)
    for size, rate, kernel_size, stride, padding in zip(
        map_hw, rate_hw, kernel_hw, stride_hw, paddings, strict=True
    ):
        taps = list_taps(size, rate=rate, kernel_size=kernel_size, stride=stride, padding=padding)
        valid *= sum(map(len, taps)) / len(taps)
    return valid


def compute_tap_shares(map_hw: HW, rate: int) -> dict[int, float]:
    """Compute the fraction of positions with 1, 2, 3, 4, 6 and 9 valid taps of a 3x3 convolution.

    Source: Chen et al. 2017, arXiv:1706.05587, figure 4.
    """
    rows, columns = (Counter(map(len, list_taps(size, rate=rate))) for size in map_hw)
    num_positions = map_hw[0] * map_hw[1]
    shares = dict.fromkeys((1, 2, 3, 4, 6, 9), 0.0)
    for in_column, num_rows in rows.items():
        for in_row, num_columns in columns.items():
            shares[in_column * in_row] += num_rows * num_columns / num_positions
    return shares
