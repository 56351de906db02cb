"""Memory of activations, counted on the meta device without allocating it."""

import weakref
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atrous.models import Segmenter
from atrous.profile.flops import build_meta_images
from atrous.profile.trace import hook_modules

LOSS = "loss"


class AllocationMode(TorchDispatchMode):
    """Tracks the bytes of all live tensors, and the most of them at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = self.peak_bytes = 0
        self._alive: set[int] = set()

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Track tensors; a storage shared by several tensors is counted once."""
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
        """Run an operation and track its outputs."""
        output = func(*args, **(kwargs or {}))
        self.add([leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)])
        return output


def compute_saved_bytes(
    meta_model: Segmenter, size_hw: tuple[int, int], *, batch_size: int = 1
) -> dict[str, int]:
    """Compute the bytes that a float32 forward pass saves for the backward pass.

    Parameters and buffers are not counted. A tensor saved by several modules counts for the first.

    Returns:
        Bytes by module path; those of the loss under `loss`.
    """
    saved: defaultdict[str, int] = defaultdict(int)
    state = (*meta_model.parameters(), *meta_model.buffers())
    seen = {tensor.untyped_storage()._cdata for tensor in state}
    running = [LOSS]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            saved[running[-1]] += storage.nbytes()
        return tensor

    images = build_meta_images(meta_model, size_hw, batch_size)
    with (
        torch.enable_grad(),
        saved_tensors_hooks(pack, lambda tensor: tensor),
        hook_modules(meta_model, running.append, lambda *_: running.pop()),
    ):
        logits, auxiliary_logits = meta_model.train().compute_training_logits(images)
        mask = torch.empty(batch_size, *size_hw, dtype=torch.int64, device="meta")
        # Keeps the graph alive: the address of a freed storage could be used again.
        loss = F.cross_entropy(logits, mask)
        if auxiliary_logits is not None:
            loss = loss + 0.4 * F.cross_entropy(auxiliary_logits, mask)
    return dict(saved)


def compute_inference_peak(
    meta_model: Segmenter, size_hw: tuple[int, int], *, batch_size: int = 1
) -> int:
    """Compute the peak bytes of images, features and logits in inference."""
    images = build_meta_images(meta_model, size_hw, batch_size)
    meta_model.eval()
    with torch.no_grad(), AllocationMode() as allocations:
        allocations.add([images])
        meta_model(images)
    return allocations.peak_bytes
