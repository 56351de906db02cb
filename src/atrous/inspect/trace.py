"""One run of a model without computing: which modules were called, and what each of them takes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from atrous.models import Segmenter
from atrous.models.flops import build_shadow_picture

AUXILIARY = "auxiliary_head"


@dataclass(frozen=True)
class Call:
    """A module at work.

    Attributes:
        path: Its name in the model, such as `backbone.layer1.0.conv1`.
        module: The module.
        input_hw: Height and width of the map that it was given; None if it was given no map.
        output: What it returned.
        flops: Operations of its own, without those of the modules inside it.
    """

    path: str
    module: nn.Module
    input_hw: tuple[int, int] | None
    output: Any
    flops: int


@contextmanager
def follow_modules(
    model: nn.Module,
    enter: Callable[[str], object],
    leave: Callable[[str, nn.Module, Any, Any], object],
) -> Iterator[None]:
    """Have every call of a module told: its path before, and after it also input and output."""
    handles = []
    for path, module in model.named_modules():

        def before(_module: nn.Module, _inputs: Any, path: str = path) -> None:
            enter(path)

        def after(module: nn.Module, inputs: Any, output: Any, path: str = path) -> None:
            leave(path, module, inputs, output)

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def trace_calls(shadow: Segmenter, size_hw: tuple[int, int]) -> list[Call]:
    """Run a model on the meta device over one picture, its auxiliary head too.

    Args:
        shadow: A model on the meta device.
        size_hw: Height and width of the picture.

    Returns:
        The calls of its modules, in the order in which they ended.
    """
    calls: list[Call] = []
    started: list[int] = []
    inner: list[int] = []

    def enter(_path: str) -> None:
        started.append(counter.get_total_flops())
        inner.append(0)

    def leave(path: str, module: nn.Module, inputs: Any, output: Any) -> None:
        flops = counter.get_total_flops() - started.pop()
        own = flops - inner.pop()
        if inner:
            inner[-1] += flops
        is_map = len(inputs) > 0 and isinstance(inputs[0], Tensor) and inputs[0].ndim == 4
        input_hw = tuple(inputs[0].shape[-2:]) if is_map else None
        calls.append(Call(path, module, input_hw, output, own))

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), follow_modules(shadow, enter, leave), counter:
        shadow.eval().compute_training_logits(build_shadow_picture(shadow, size_hw))
    return calls


def list_tensors(output: Any) -> list[Tensor]:
    """Return the tensors that a module returned, alone or in a list or tuple."""
    values = output if isinstance(output, list | tuple) else [output]
    return [value for value in values if isinstance(value, Tensor)]
