"""Which pixels of the picture the cells of every tensor depend on, operation by operation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from atrous.inspect.trace import list_tensors

IntArray = npt.NDArray[np.int64]

_FAR = 1 << 40


@dataclass(frozen=True)
class Span:
    """The first and the last pixel that each cell along one axis depends on."""

    first: IntArray
    last: IntArray

    def __len__(self) -> int:
        return len(self.first)

    @property
    def largest(self) -> int:
        """The most pixels that one cell spans."""
        return int((self.last - self.first).max()) + 1

    def gather(self, sources: Sequence[IntArray]) -> "Span":
        """Return the span of cells that each read one cell of every source; -1 stands for none."""
        first = [np.where(source < 0, _FAR, self.first[source]) for source in sources]
        last = [np.where(source < 0, -_FAR, self.last[source]) for source in sources]
        return Span(np.min(first, axis=0), np.max(last, axis=0))


@dataclass(frozen=True)
class Field:
    """What the cells of a map depend on.

    Attributes:
        spans: The pixels along rows and columns; None where they depend on pooled features alone.
        pools: Whether they also depend on a mean over the picture, or over fixed shares of it.
    """

    spans: tuple[Span, Span] | None
    pools: bool = False


POOLED = Field(None, pools=True)


class FieldMode(TorchDispatchMode):
    """Follows the field of every tensor that is computed from a picture.

    Convolution, windowed pooling, resizing, cropping, padding and unpooling move or widen a field;
    means over the map and matrix products make it a pooled one. Everything else is taken to work
    place by place, normalisation too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fields: Any = WeakTensorKeyDictionary()

    def start(self, image: Tensor) -> None:
        """Take a tensor as the picture."""
        rows, columns = (np.arange(size) for size in image.shape[-2:])
        self.fields[image] = Field((Span(rows, rows), Span(columns, columns)))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Compute an operation, and the field of what it returns."""
        output = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        inputs = [self.fields[tensor] for tensor in tensors if tensor in self.fields]
        if inputs:
            name = func._schema.name.removeprefix("aten::").rstrip("_").lstrip("_")
            for tensor in list_tensors(output):
                self.fields[tensor] = _follow(name, inputs, args, tuple(tensor.shape))
        return output


def _follow(
    name: str, inputs: list[Field], args: Sequence[Any], output_shape: tuple[int, ...]
) -> Field:
    if name in _POOLING:
        return POOLED
    # A scatter puts pooled values back; the view after it gives them their places.
    field = inputs[-1] if name == "scatter" else _merge(inputs)
    if field.spans is None:
        return field
    sizes = tuple(map(len, field.spans))
    read = _READERS.get(name)
    if read is None:
        if len(output_shape) != 4 or output_shape[2:] == sizes:
            return field
        if name not in _VIEWS:
            return POOLED
        read = _read_nearest
    rows, columns = (
        span.gather(read(len(span), output_shape[2 + axis], axis, args))
        for axis, span in enumerate(field.spans)
    )
    return Field((rows, columns), field.pools)


def _merge(fields: Sequence[Field]) -> Field:
    spans = [field.spans for field in fields if field.spans is not None]
    if len({tuple(map(len, pair)) for pair in spans}) != 1:
        return POOLED
    rows, columns = (
        Span(
            np.min([pair[axis].first for pair in spans], axis=0),
            np.max([pair[axis].last for pair in spans], axis=0),
        )
        for axis in range(2)
    )
    return Field((rows, columns), any(field.pools for field in fields))


def _within(places: IntArray, size: int) -> IntArray:
    return np.where((places >= 0) & (places < size), places, -1)


def _read_convolution(
    size: int, output_size: int, axis: int, args: Sequence[Any]
) -> list[IntArray]:
    kernel = args[1].shape[2 + axis]
    stride, padding, dilation = (args[index][axis] for index in (3, 4, 5))
    if not args[6]:
        return _read_windows(size, output_size, kernel, stride, padding, dilation)
    sources = []
    for tap in range(kernel):
        reach = np.arange(output_size) + padding - tap * dilation
        sources.append(np.where(reach % stride == 0, _within(reach // stride, size), -1))
    return sources


def _read_pool(size: int, output_size: int, axis: int, args: Sequence[Any]) -> list[IntArray]:
    kernel = args[1][axis]
    stride = args[2][axis] if len(args) > 2 and args[2] else kernel
    padding = args[3][axis] if len(args) > 3 else 0
    return _read_windows(size, output_size, kernel, stride, padding, 1)


def _read_windows(
    size: int, output_size: int, kernel: int, stride: int, padding: int, dilation: int
) -> list[IntArray]:
    starts = np.arange(output_size) * stride - padding
    return [_within(starts + tap * dilation, size) for tap in range(kernel)]


def _read_bilinear(size: int, output_size: int, axis: int, args: Sequence[Any]) -> list[IntArray]:
    if args[2]:  # align_corners
        scaled, unit = np.arange(output_size) * (size - 1), max(1, output_size - 1)
    else:
        scaled = np.maximum(0, (2 * np.arange(output_size) + 1) * size - output_size)
        unit = 2 * output_size
    below = scaled // unit
    return [below, np.minimum(below + (scaled % unit > 0), size - 1)]


def _read_nearest(size: int, output_size: int, axis: int, args: Sequence[Any]) -> list[IntArray]:
    return [np.arange(output_size) * size // output_size]


def _read_slice(size: int, output_size: int, axis: int, args: Sequence[Any]) -> list[IntArray]:
    dim = args[1] % args[0].ndim if len(args) > 1 else 0
    if dim != 2 + axis:
        return [np.arange(size)]
    start = args[2] if len(args) > 2 and args[2] else 0
    step = args[4] if len(args) > 4 else 1
    return [start % size + step * np.arange(output_size)]


def _read_padding(size: int, output_size: int, axis: int, args: Sequence[Any]) -> list[IntArray]:
    pairs = [*args[1], 0, 0, 0, 0]
    return [_within(np.arange(output_size) - pairs[2 - 2 * axis], size)]


_POOLING = frozenset({"mean", "sum", "mm", "bmm", "addmm", "adaptive_avg_pool2d"})
_VIEWS = frozenset({"view", "unsafe_view", "reshape"})
_READERS: dict[str, Callable[[int, int, int, Sequence[Any]], list[IntArray]]] = {
    "convolution": _read_convolution,
    "max_pool2d_with_indices": _read_pool,
    "avg_pool2d": _read_pool,
    "upsample_bilinear2d": _read_bilinear,
    "upsample_nearest2d": _read_nearest,
    "slice": _read_slice,
    "constant_pad_nd": _read_padding,
}
