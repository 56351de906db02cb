"""How much memory training and use take, worked out on the meta device.

Every operation of a training step is run without values, and every tensor that it makes is counted
from its birth to its end. So what is found is what an allocator is asked for, not a rule of thumb.
"""

import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atrous.inspect.trace import follow_modules
from atrous.models import Segmenter
from atrous.models.flops import build_shadow, build_shadow_picture

Precision = Literal["32", "bf16"]
Optimizer = Literal["adamw", "sgd"]

LOSS = "loss"

_BF16_FUNCTIONS = frozenset(
    {torch.conv2d, torch.conv_transpose2d, F.linear, torch.matmul, Tensor.matmul}
)


class AllocationMode(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and the most there ever were.

    Attributes:
        live_bytes: Bytes that are alive now.
        peak_bytes: The most since the start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = self.peak_bytes = 0
        self._alive: set[int] = set()

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Count tensors; memory that is counted already, such as that of a view, is not again."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, num_bytes = storage._cdata, storage.nbytes()
            if key not in self._alive:
                self._alive.add(key)
                self.live_bytes += num_bytes
                weakref.finalize(storage, self._drop, key, num_bytes)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def _drop(self, key: int, num_bytes: int) -> None:
        self._alive.discard(key)
        self.live_bytes -= num_bytes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Compute an operation and count what it made."""
        output = func(*args, **(kwargs or {}))
        self.add([leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)])
        return output


class Bf16Mode(TorchFunctionMode):
    """What autocast to bfloat16 does, on the meta device, where torch has no autocast.

    Convolutions and matrix products take their inputs in bfloat16; a weight is converted once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._converted: dict[Tensor, Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Convert the inputs of what autocast computes in bfloat16."""
        if func in _BF16_FUNCTIONS:
            args = [self._convert(arg) if isinstance(arg, Tensor) else arg for arg in args]
        return func(*args, **(kwargs or {}))

    def _convert(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            return tensor.to(torch.bfloat16)
        if tensor not in self._converted:
            self._converted[tensor] = tensor.to(torch.bfloat16)
        return self._converted[tensor]


def compute_kept_bytes(
    shadow: Segmenter, size_hw: tuple[int, int], *, batch_size: int = 1
) -> dict[str, int]:
    """Count what a forward pass keeps for the backward pass, in float32, weights left out.

    A tensor that several modules keep counts for the first of them.

    Args:
        shadow: A model on the meta device.
        size_hw: Height and width of the pictures.
        batch_size: Pictures per batch.

    Returns:
        Bytes by the path of the module, those of the loss under `loss`.
    """
    kept: defaultdict[str, int] = defaultdict(int)
    seen = {tensor.untyped_storage()._cdata for tensor in _list_state(shadow)}
    running = [LOSS]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            kept[running[-1]] += storage.nbytes()
        return tensor

    image = build_shadow_picture(shadow, size_hw, batch_size)
    with (
        torch.enable_grad(),
        saved_tensors_hooks(pack, lambda tensor: tensor),
        follow_modules(shadow, running.append, lambda *_: running.pop()),
    ):
        # It holds the graph: a storage that ended could lend its address to a new one.
        _loss = _compute_loss(shadow.train(), image, "32")
    return dict(kept)


def compute_use_peak(shadow: Segmenter, size_hw: tuple[int, int], *, batch_size: int = 1) -> int:
    """Count the most bytes that pictures, features and logits take at a time in use."""
    image = build_shadow_picture(shadow, size_hw, batch_size)
    shadow.eval()
    with torch.no_grad(), AllocationMode() as allocations:
        allocations.add([image])
        shadow(image)
    return allocations.peak_bytes


def compute_training_peak(
    model: Segmenter,
    size_hw: tuple[int, int],
    *,
    batch_size: int,
    precision: Precision = "32",
    optimizer: Optimizer = "adamw",
) -> int:
    """Count the most bytes that training has at a time, from its second step on.

    Weights, gradients, the optimizer's state, what is kept for the backward pass, and everything
    that is made on the way.

    Args:
        model: Stays as it is; may be on the meta device.
        size_hw: Height and width of the pictures.
        batch_size: Pictures per batch.
        precision: `32`, or `bf16` for autocast.
        optimizer: `adamw`, or `sgd` with momentum.
    """
    state_bytes, step_peak = compute_optimizer_bytes(model, optimizer)
    passes_peak = compute_passes_peak(model, size_hw, batch_size=batch_size, precision=precision)
    return max(state_bytes + passes_peak, step_peak)


def compute_passes_peak(
    model: Segmenter, size_hw: tuple[int, int], *, batch_size: int, precision: Precision
) -> int:
    """Count the most bytes during a forward and a backward pass, without an optimizer's state."""
    shadow = build_shadow(model).train()
    with torch.enable_grad(), AllocationMode() as allocations:
        allocations.add(_list_state(shadow))
        image = build_shadow_picture(shadow, size_hw, batch_size)
        _compute_loss(shadow, image, precision).backward()
    return allocations.peak_bytes


def compute_optimizer_bytes(model: Segmenter, optimizer: Optimizer) -> tuple[int, int]:
    """Count the bytes of an optimizer's state, and the most bytes during its step."""
    shadow = build_shadow(model)
    parameters = [p for p in shadow.parameters() if p.requires_grad]
    build: dict[Optimizer, Callable[..., torch.optim.Optimizer]] = {
        "adamw": torch.optim.AdamW,
        "sgd": partial(torch.optim.SGD, momentum=0.9),
    }
    stepper = build[optimizer](parameters)
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    with AllocationMode() as allocations:
        allocations.add([*_list_state(shadow), *(p.grad for p in parameters if p.grad is not None)])
        before = allocations.live_bytes
        stepper.step()
        state_bytes = allocations.live_bytes - before
        stepper.step()
    return state_bytes, allocations.peak_bytes


def _compute_loss(shadow: Segmenter, image: Tensor, precision: Precision) -> Tensor:
    mask = torch.empty(image.shape[0], *image.shape[-2:], dtype=torch.int64, device="meta")
    with Bf16Mode() if precision == "bf16" else nullcontext():
        logits, auxiliary_logits = shadow.compute_training_logits(image)
    loss = F.cross_entropy(logits, mask)
    if auxiliary_logits is not None:
        loss = loss + 0.4 * F.cross_entropy(auxiliary_logits, mask)
    return loss


def _list_state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
