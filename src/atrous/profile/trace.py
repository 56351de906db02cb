"""The module calls of one forward pass, recorded on the meta device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from atrous.models import Segmenter
from atrous.profile.flops import build_meta_images

AUXILIARY = "auxiliary_head"


@dataclass(frozen=True)
class Call:
    """One call of a module, such as `backbone.layer1.0.conv1`; FLOPs without its submodules'.

    `input_hw` is the size of its input feature map; None if the input is not one.
    """

    path: str
    module: nn.Module
    input_hw: tuple[int, int] | None
    output: Any
    flops: int


@contextmanager
def hook_modules(
    model: nn.Module,
    before: Callable[[str], object],
    after: Callable[[str, nn.Module, Any, Any], object],
) -> Iterator[None]:
    """Call `before(path)` and `after(path, module, inputs, output)` around each module call."""
    handles = []
    for path, module in model.named_modules():

        def pre_hook(_module: nn.Module, _inputs: Any, path: str = path) -> None:
            before(path)

        def hook(module: nn.Module, inputs: Any, output: Any, path: str = path) -> None:
            after(path, module, inputs, output)

        handles += [module.register_forward_pre_hook(pre_hook), module.register_forward_hook(hook)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def trace_calls(meta_model: Segmenter, size_hw: tuple[int, int]) -> list[Call]:
    """Record the module calls of a forward pass over one image, including the auxiliary head.

    The calls are in the order in which they end.
    """
    calls: list[Call] = []
    started, inner = list[int](), list[int]()

    def before(_path: str) -> None:
        started.append(counter.get_total_flops())
        inner.append(0)

    def after(path: str, module: nn.Module, inputs: Any, output: Any) -> None:
        flops = counter.get_total_flops() - started.pop()
        own = flops - inner.pop()
        if inner:
            inner[-1] += flops
        is_map = len(inputs) > 0 and isinstance(inputs[0], Tensor) and inputs[0].ndim == 4
        input_hw = tuple(inputs[0].shape[-2:]) if is_map else None
        calls.append(Call(path, module, input_hw, output, own))

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), hook_modules(meta_model, before, after), counter:
        meta_model.eval().compute_training_logits(build_meta_images(meta_model, size_hw))
    return calls


def list_tensors(output: Any) -> list[Tensor]:
    """Return the tensors in a module's output, which is a tensor, list or tuple."""
    values = output if isinstance(output, list | tuple) else [output]
    return [value for value in values if isinstance(value, Tensor)]
