"""Segmentation losses; ignored pixels have no effect."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from operator import mul, truediv
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from atrous.classes import IGNORE_INDEX
from atrous.models.layers import resize_logits
from atrous.training.distributed import World

_MAX_LOGITS = 2**27
"""Logits of a batch at the size of the masks beyond which the loss is computed image by image."""

_Sum = Callable[[Tensor, Tensor], Tensor]


def compute_focal_loss(
    logits: Tensor, mask: Tensor, *, gamma: float = 2.0, weight: Tensor | None = None
) -> Tensor:
    """Focal loss: cross entropy scaled by (1 - p)^gamma, mean over labelled pixels.

    Shapes:
        logits: float (batch, num_classes, H, W)
        mask: int64 (batch, H, W), ignored pixels 255

    Source: Lin et al. 2017, arXiv:1708.02002, equation 4.
    """
    return _divide(_sum_focal(logits, mask, gamma=gamma, weight=weight))


def _sum_focal(logits: Tensor, mask: Tensor, *, gamma: float, weight: Tensor | None) -> Tensor:
    """Return the sum of the losses of all pixels, and the number of labelled pixels."""
    valid = mask != IGNORE_INDEX
    true_class = mask.masked_fill(~valid, 0)
    log_probs = F.log_softmax(logits, dim=1).gather(1, true_class.unsqueeze(1)).squeeze(1)
    factors = valid * (1 - log_probs.exp()).clamp(min=0) ** gamma
    if weight is not None:
        factors = factors * weight[true_class]
    return torch.stack([-(factors * log_probs).sum(), valid.sum()])


def _divide(sums: Tensor) -> Tensor:
    """Return sums[0] / sums[1]; 0 without labelled pixels."""
    total = sums[1]
    return sums[0] / total.masked_fill(total == 0, 1) * (total > 0)


def compute_dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Soft Dice loss over the batch, mean over the classes present; shapes as in the focal loss.

    Source: Milletari et al. 2016, arXiv:1606.04797 (squared denominator).
    """
    return _finish_dice(_sum_dice(logits, mask))


def _sum_dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Return overlap, squared probabilities and pixels, each (num_classes,)."""
    classes = torch.arange(logits.shape[1], device=mask.device).view(-1, 1, 1)
    mask = mask.unsqueeze(1)
    target, valid = mask == classes, mask != IGNORE_INDEX
    probs = logits.softmax(dim=1)
    overlap, squares = ((probs * factor).sum((0, 2, 3)) for factor in (target, probs * valid))
    return torch.stack([overlap, squares, target.sum((0, 2, 3))])


def _finish_dice(sums: Tensor) -> Tensor:
    overlap, squares, num_pixels = sums
    score = 2 * overlap / (squares + num_pixels).clamp(min=1e-6)
    present = num_pixels > 0
    return ((1 - score) * present).sum() / present.sum().clamp(min=1)


def compute_lovasz_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Lovász-Softmax loss, a surrogate of 1 - IoU, mean over the classes present in the batch.

    Source: Berman et al. 2018, arXiv:1705.08790, section 3.
    """
    valid = mask != IGNORE_INDEX
    probs = logits.softmax(dim=1).movedim(1, -1)[valid]
    labels = mask[valid]
    losses = [
        _lovasz_one_class(probs[:, index], labels == index) for index in labels.unique().tolist()
    ]
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def _lovasz_one_class(probs: Tensor, is_class: Tensor) -> Tensor:
    target = is_class.to(probs.dtype)
    errors, order = (target - probs).abs().sort(descending=True, stable=True)
    target = target[order]
    total = target.sum()
    intersection = total - target.cumsum(0)
    union = total + (1 - target).cumsum(0)
    jaccard = 1 - intersection / union
    gradient = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.dot(errors, gradient.detach())


class Share(NamedTuple):
    """Fraction of a batch in a larger batch that is computed in parts.

    Attributes:
        weighted: Fraction of the class weights of the labelled pixels, for cross entropy.
        labelled: Fraction of the labelled pixels, for the other terms.
    """

    weighted: float = 1.0
    labelled: float = 1.0


class SegmentationLoss(nn.Module):
    """Weighted sum of loss terms over the main and the auxiliary logits.

    Args:
        cross_entropy, focal, dice, lovasz: Weight of each term; 0 disables it.
        auxiliary: Weight of the loss of the auxiliary logits.
        class_weights: Factor per class, for cross entropy and focal.

    Logits of a smaller size are resized to that of the masks. With many classes, this is done image
    by image, and once more in the backward pass, so that the resized logits of the whole batch are
    never in memory; the Lovász loss needs them all.

    Shapes:
        logits, auxiliary_logits: float (batch, num_classes, height, width)
        mask: int64 (batch, H, W), ignored pixels 255
        returns: float ()
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        cross_entropy: float = 1.0,
        focal: float = 0.0,
        focal_gamma: float = 2.0,
        dice: float = 0.0,
        lovasz: float = 0.0,
        auxiliary: float = 0.4,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.cross_entropy, self.focal, self.focal_gamma = cross_entropy, focal, focal_gamma
        self.dice, self.lovasz, self.auxiliary = dice, lovasz, auxiliary
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights)
        self._weights = [1.0] * IGNORE_INDEX if class_weights is None else list(class_weights)

    def compute_shares(self, masks: Sequence[Tensor], world: World = World()) -> list[Share]:
        """Return the share of each batch in the batch that they form with those of all processes.

        Shapes:
            masks: uint8 (batch, H, W) each, ignored pixels 255
        """
        if len(masks) == world.size == 1:
            return [Share()]
        sums = []
        for mask in masks:
            pixels = torch.bincount(mask.flatten(), minlength=IGNORE_INDEX)[:IGNORE_INDEX].tolist()
            sums.append((sum(map(mul, pixels, self._weights)), sum(pixels)))
        everywhere = chain.from_iterable(world.gather(sums))
        totals = [sum(column) or 1.0 for column in zip(*everywhere, strict=True)]
        return [Share(*map(truediv, each, totals)) for each in sums]

    def forward(
        self,
        logits: Tensor,
        mask: Tensor,
        auxiliary_logits: Tensor | None = None,
        share: Share = Share(),
    ) -> Tensor:
        """Compute the loss in float32.

        Args:
            share: Share of this batch in a larger one. The losses of all parts add up to the loss
                of the whole, exactly for cross entropy and focal.
        """
        loss = self._compute_sum(logits.float(), mask, share)
        if auxiliary_logits is not None:
            loss = loss + self.auxiliary * self._compute_sum(auxiliary_logits.float(), mask, share)
        return loss

    def _compute_sum(self, logits: Tensor, mask: Tensor, share: Share) -> Tensor:
        if self.lovasz:
            logits = _resize(logits, mask)
        focal = partial(_sum_focal, gamma=self.focal_gamma, weight=self.class_weights)
        terms: list[tuple[float, float, _Sum, Callable[[Tensor], Tensor]]] = [
            (share.weighted, self.cross_entropy, self._sum_cross_entropy, _divide),
            (share.labelled, self.focal, focal, _divide),
            (share.labelled, self.dice, _sum_dice, _finish_dice),
        ]
        terms = [term for term in terms if term[1]]
        sums = _sum_images([compute for _, _, compute, _ in terms], logits, mask)
        used = [
            part * weight * finish(one)
            for (part, weight, _, finish), one in zip(terms, sums, strict=True)
        ]
        if self.lovasz:
            used.append(share.labelled * self.lovasz * compute_lovasz_loss(logits, mask))
        return torch.stack(used).sum()

    def _sum_cross_entropy(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the sum of the losses of all pixels, and of their class weights."""
        # torch's mean over no pixels is NaN, and asking whether there are any waits for the device.
        valid = mask != IGNORE_INDEX
        if self.class_weights is None:
            total = valid.sum()
        else:
            total = self.class_weights[mask.masked_fill(~valid, 0)].masked_fill(~valid, 0).sum()
        if torch.are_deterministic_algorithms_enabled():
            # CUDA has a deterministic kernel for a list of pixels, but not for maps.
            logits, mask = logits.movedim(1, -1).flatten(0, -2), mask.flatten()
        loss = F.cross_entropy(
            logits,
            mask,
            weight=self.class_weights,
            ignore_index=IGNORE_INDEX,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return torch.stack([loss, total])


def _sum_images(computes: Sequence[_Sum], logits: Tensor, mask: Tensor) -> list[Tensor]:
    """Return what each function sums over all images, of logits at the size of the mask."""

    def compute_all(logits: Tensor, mask: Tensor) -> list[Tensor]:
        resized = _resize(logits, mask)
        return [compute(resized, mask) for compute in computes]

    if logits.shape[1] * mask.numel() <= _MAX_LOGITS:
        return compute_all(logits, mask)
    run = partial(checkpoint, compute_all, use_reentrant=False, preserve_rng_state=False)
    images = [run(*one) for one in zip(logits.split(1), mask.split(1), strict=True)]
    return [torch.stack(sums).sum(0) for sums in zip(*images, strict=True)]


def _resize(logits: Tensor, mask: Tensor) -> Tensor:
    is_small = logits.shape[-2:] != mask.shape[-2:]
    return resize_logits(logits, mask) if is_small else logits
