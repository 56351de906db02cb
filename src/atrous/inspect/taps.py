"""How many taps of an atrous convolution fall on the feature map."""

from collections import Counter

HW = tuple[int, int]


def count_axis_taps(
    size: int, *, rate: int, kernel_size: int = 3, stride: int = 1, padding: int | None = None
) -> list[int]:
    """Count, for every place of the result along one axis, the taps that fall on the map.

    Args:
        size: Cells of the map along this axis.
        rate: Spacing of the taps, in cells.
        kernel_size: Taps along this axis.
        stride: Cells from one place to the next.
        padding: Cells of zeros on either side; None: as many as keep the size.
    """
    if padding is None:
        padding = rate * (kernel_size // 2)
    num_places = (size + 2 * padding - rate * (kernel_size - 1) - 1) // stride + 1
    return [
        sum(0 <= place * stride - padding + tap * rate < size for tap in range(kernel_size))
        for place in range(num_places)
    ]


def count_used_axis_taps(
    size: int, *, rate: int, kernel_size: int = 3, stride: int = 1, padding: int | None = None
) -> int:
    """Count the taps that fall on the map at one place at least; arguments as above."""
    if padding is None:
        padding = rate * (kernel_size // 2)
    num_places = (size + 2 * padding - rate * (kernel_size - 1) - 1) // stride + 1
    starts = [place * stride - padding for place in range(num_places)]
    return sum(
        any(0 <= start + tap * rate < size for start in starts) for tap in range(kernel_size)
    )


def compute_valid_taps(
    map_hw: HW,
    *,
    rate_hw: HW,
    kernel_hw: HW = (3, 3),
    stride_hw: HW = (1, 1),
    padding_hw: HW | None = None,
) -> float:
    """Return the mean number of taps that fall on the map, over all places; the rest read zeros.

    A place has as many as the product of those along its row and its column, so the mean is the
    product of the two means. For 3x3 taps on a map of side n at rate r it is
    (1 + 2 max(0, 1 - r/n))^2: 9 at r = 0, 4 at r = n/2, and 1, the centre tap alone, from r = n on.

    Source: Chen et al. 2017, arXiv:1706.05587, section 3.3 and figure 4.
    """
    valid = 1.0
    for axis in range(2):
        counts = count_axis_taps(
            map_hw[axis],
            rate=rate_hw[axis],
            kernel_size=kernel_hw[axis],
            stride=stride_hw[axis],
            padding=None if padding_hw is None else padding_hw[axis],
        )
        valid *= sum(counts) / len(counts)
    return valid


def compute_tap_shares(map_hw: HW, rate: int) -> dict[int, float]:
    """Return for 3x3 taps which share of the places has 1, 2, 3, 4, 6 and 9 of them on the map.

    Source: Chen et al. 2017, arXiv:1706.05587, figure 4.
    """
    rows, columns = (Counter(count_axis_taps(size, rate=rate)) for size in map_hw)
    num_places = map_hw[0] * map_hw[1]
    shares = dict.fromkeys((1, 2, 3, 4, 6, 9), 0.0)
    for in_column, num_rows in rows.items():
        for in_row, num_columns in columns.items():
            shares[in_column * in_row] += num_rows * num_columns / num_places
    return shares
