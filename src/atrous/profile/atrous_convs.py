"""The atrous convolutions of a model, with warnings about rates that exceed the feature map."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from atrous.profile.taps import compute_valid_taps, list_taps
from atrous.profile.trace import Call


@dataclass(frozen=True)
class AtrousConv:
    """An atrous convolution on the feature map of one image size.

    Attributes:
        name, map_hw: Module path, and size of the input feature map, in cells.
        valid_taps: Mean number of taps inside the map; the others read zero padding.
        num_taps: 9 for 3x3.
        used_taps: Taps that are inside the map for at least one output position.
        idle_parameters: Weights of taps that are never inside the map: they have no effect on the
            output and receive no gradient.
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
        """Mean fraction of the taps that are inside the map."""
        return self.valid_taps / self.num_taps


def describe_atrous_convs(calls: Iterable[Call]) -> tuple[AtrousConv, ...]:
    """Describe every convolution with a dilation and a kernel size above 1."""
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
    used_taps = 1
    for axis in range(2):
        taps = list_taps(
            map_hw[axis],
            rate=conv.dilation[axis],
            kernel_size=conv.kernel_size[axis],
            stride=conv.stride[axis],
            padding=padding_hw[axis],
        )
        used_taps *= len(set().union(*taps))
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
        used_taps=used_taps,
        num_parameters=num_weights,
        idle_parameters=num_weights // num_taps * (num_taps - used_taps),
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
    """Group convolutions by rate, kernel size and feature map, in order of appearance."""
    groups: defaultdict[tuple[int, int, tuple[int, int]], list[AtrousConv]] = defaultdict(list)
    for conv in convs:
        groups[conv.rate, conv.num_taps, conv.map_hw].append(conv)
    return list(groups.values())


def name_group(group: Sequence[AtrousConv]) -> str:
    """Name a group of convolutions after its first member."""
    return group[0].name if len(group) == 1 else f"{group[0].name} and {len(group) - 1} more"


def compute_warnings(convs: Sequence[AtrousConv]) -> tuple[list[str], list[str]]:
    """Return warnings about idle taps, and notes about taps that are mostly outside of the map."""
    warnings, notes = [], []
    for group in group_convs(convs):
        conv = group[0]
        height, width = conv.map_hw
        subject = f"{name_group(group)}: rate {conv.rate} on a {height}×{width} map"
        if conv.used_taps < conv.num_taps:
            idle = sum(member.idle_parameters for member in group)
            used = f"only {conv.used_taps} of its {conv.num_taps} taps are ever inside the map."
            if conv.used_taps == 1:
                used = "only its centre tap is ever inside the map, so it is a 1×1 convolution."
            warnings.append(
                f"{subject}: {used} The other {conv.num_taps - conv.used_taps} "
                f"taps ({idle:,} weights) only read zero padding and receive no gradient. "
                f"{_advise(conv)}"
            )
        elif conv.share < 0.5:
            notes.append(
                f"{subject}: on average {conv.valid_taps:.2f} of {conv.num_taps} taps are inside "
                f"the map. {_advise(conv)}"
            )
    return warnings, notes


def _advise(conv: AtrousConv) -> str:
    """Name the largest rate that keeps half of 3x3 taps inside the map."""
    rates = range(conv.rate, 0, -1)
    kept = (r for r in rates if compute_valid_taps(conv.map_hw, rate_hw=(r, r)) >= 4.5)
    return f"Rates up to {next(kept, 1)} keep half of the taps inside."
