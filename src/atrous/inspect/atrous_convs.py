"""The atrous convolutions of a model, and what is wrong with their rates on a map."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from atrous.inspect.taps import compute_valid_taps, count_used_axis_taps
from atrous.inspect.trace import Call


@dataclass(frozen=True)
class AtrousConv:
    """An atrous convolution on the map that one size of picture gives it.

    Attributes:
        name: Path of the module.
        rate: Spacing of its taps, in cells.
        map_hw: Height and width of the map, in cells.
        valid_taps: Mean number of taps that fall on the map; the others read zeros.
        num_taps: All its taps: 9 for 3x3.
        used_taps: Taps that fall on the map at one place at least.
        num_parameters: Its weights.
        idle_parameters: Weights of taps that never fall on the map: they change no result, and no
            gradient reaches them.
    """

    name: str
    rate: int
    map_hw: tuple[int, int]
    valid_taps: float
    num_taps: int
    used_taps: int
    num_parameters: int
    idle_parameters: int

    @property
    def share(self) -> float:
        """Share of the taps that fall on the map, on average."""
        return self.valid_taps / self.num_taps


def describe_atrous_convs(calls: Iterable[Call]) -> tuple[AtrousConv, ...]:
    """Describe every convolution of more than one tap whose taps are spaced."""
    return tuple(
        _describe(call.path, call.module, call.input_hw)
        for call in calls
        if isinstance(call.module, nn.Conv2d)
        and call.input_hw is not None
        and max(call.module.dilation) > 1
        and max(call.module.kernel_size) > 1
    )


def _describe(name: str, conv: nn.Conv2d, map_hw: tuple[int, int]) -> AtrousConv:
    padding_hw = _find_padding(conv)
    kernel_h, kernel_w = conv.kernel_size
    used_h, used_w = (
        count_used_axis_taps(
            map_hw[axis],
            rate=conv.dilation[axis],
            kernel_size=conv.kernel_size[axis],
            stride=conv.stride[axis],
            padding=padding_hw[axis],
        )
        for axis in range(2)
    )
    num_taps, num_weights = kernel_h * kernel_w, conv.weight.numel()
    return AtrousConv(
        name=name,
        rate=max(conv.dilation),
        map_hw=map_hw,
        valid_taps=compute_valid_taps(
            map_hw,
            rate_hw=(conv.dilation[0], conv.dilation[1]),
            kernel_hw=(kernel_h, kernel_w),
            stride_hw=(conv.stride[0], conv.stride[1]),
            padding_hw=padding_hw,
        ),
        num_taps=num_taps,
        used_taps=used_h * used_w,
        num_parameters=num_weights,
        idle_parameters=num_weights // num_taps * (num_taps - used_h * used_w),
    )


def _find_padding(conv: nn.Conv2d) -> tuple[int, int]:
    if conv.padding == "same":
        spans = zip(conv.dilation, conv.kernel_size, strict=True)
        height, width = (rate * (kernel // 2) for rate, kernel in spans)
        return height, width
    if isinstance(conv.padding, str):
        return 0, 0
    return conv.padding[0], conv.padding[1]


def group_convs(convs: Iterable[AtrousConv]) -> list[list[AtrousConv]]:
    """Put together those of the same rate and kernel on the same map, in order of appearance."""
    groups: defaultdict[tuple[int, int, tuple[int, int]], list[AtrousConv]] = defaultdict(list)
    for conv in convs:
        groups[conv.rate, conv.num_taps, conv.map_hw].append(conv)
    return list(groups.values())


def compute_warnings(convs: Sequence[AtrousConv]) -> tuple[list[str], list[str]]:
    """Return warnings of rates that reach past the map, and notes of those that mostly do."""
    warnings, notes = [], []
    for group in group_convs(convs):
        conv = group[0]
        names = conv.name if len(group) == 1 else f"{conv.name} and {len(group) - 1} more"
        height, width = conv.map_hw
        place = f"{names}: rate {conv.rate} on a {height}×{width} map"
        if conv.used_taps < conv.num_taps:
            idle = sum(member.idle_parameters for member in group)
            warnings.append(
                f"{place}: {_describe_used(conv)} The other {conv.num_taps - conv.used_taps} taps "
                f"({idle:,} weights) read nothing but zeros, and no gradient reaches them. "
                f"{_advise(conv)}"
            )
        elif conv.share < 0.5:
            notes.append(
                f"{place}: on average {conv.valid_taps:.2f} of its {conv.num_taps} taps fall on "
                f"the map. {_advise(conv)}"
            )
    return warnings, notes


def _describe_used(conv: AtrousConv) -> str:
    if conv.used_taps == 1:
        return "only its centre tap ever falls on the map, so it is a 1×1 convolution."
    return f"only {conv.used_taps} of its {conv.num_taps} taps ever fall on the map."


def _advise(conv: AtrousConv) -> str:
    """Name the largest rate that keeps half of 3x3 taps on the map."""
    rates = range(conv.rate, 0, -1)
    kept = (r for r in rates if compute_valid_taps(conv.map_hw, rate_hw=(r, r)) >= 4.5)
    return f"Rates up to {next(kept, 1)} keep half of their taps there."
