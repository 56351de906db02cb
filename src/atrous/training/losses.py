"""Losses over logits and masks; void pixels never count."""

from collections.abc import Sequence
from operator import mul, truediv
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.classes import IGNORE_INDEX


def compute_focal_loss(
    logits: Tensor, mask: Tensor, *, gamma: float = 2.0, weight: Tensor | None = None
) -> Tensor:
    """Cross entropy with easy pixels scaled down by (1 - p)^gamma, mean over valid pixels.

    Shapes:
        logits: float (batch, num_classes, H, W)
        mask: int64 (batch, H, W), void = 255

    Source: Lin et al. 2017, arXiv:1708.02002, equation 4.
    """
    valid = mask != IGNORE_INDEX
    true_class = mask.masked_fill(~valid, 0)
    log_probs = F.log_softmax(logits, dim=1).gather(1, true_class.unsqueeze(1)).squeeze(1)
    factors = valid * (1 - log_probs.exp()).clamp(min=0) ** gamma
    if weight is not None:
        factors = factors * weight[true_class]
    return -(factors * log_probs).sum() / valid.sum().clamp(min=1)


def compute_dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """One minus the soft Dice score over the batch, mean over the classes present in it.

    Shapes as in `compute_focal_loss`.

    Source: Milletari et al. 2016, arXiv:1606.04797 (squared denominator).
    """
    num_classes = logits.shape[1]
    probs = logits.softmax(dim=1).movedim(1, -1)[mask != IGNORE_INDEX]
    truth = F.one_hot(mask[mask != IGNORE_INDEX], num_classes).to(probs.dtype)
    overlap = (probs * truth).sum(0)
    score = 2 * overlap / (probs.square().sum(0) + truth.sum(0)).clamp(min=1e-6)
    present = truth.sum(0) > 0
    return (1 - score[present]).sum() / present.sum().clamp(min=1)


def compute_lovasz_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Lovász-Softmax: a convex surrogate of 1 - IoU, mean over the classes present in the batch.

    Shapes as in `compute_focal_loss`.

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
    truth = is_class.to(probs.dtype)
    errors, order = (truth - probs).abs().sort(descending=True, stable=True)
    truth = truth[order]
    total = truth.sum()
    intersection = total - truth.cumsum(0)
    union = total + (1 - truth).cumsum(0)
    jaccard = 1 - intersection / union
    gradient = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.dot(errors, gradient.detach())


class Share(NamedTuple):
    """What one batch counts in the larger batch that it is a part of.

    Attributes:
        weighted: Its part of the class weights of all labelled pixels: that of cross entropy.
        labelled: Its part of the labelled pixels: that of the other terms.
    """

    weighted: float = 1.0
    labelled: float = 1.0


class SegmentationLoss(nn.Module):
    """The weighted sum of the chosen terms, for the main and the auxiliary logits.

    Args:
        cross_entropy, focal, dice, lovasz: Weight of each term; 0 leaves it out.
        focal_gamma: Exponent of the focal term.
        auxiliary: Weight of the same sum over the auxiliary logits.
        label_smoothing: Share of the target that cross entropy spreads over all classes.
        class_weights: One factor per class, for cross entropy and focal.

    Shapes:
        logits, auxiliary_logits: float (batch, num_classes, H, W)
        mask: int64 (batch, H, W), void = 255
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

    def compute_shares(self, masks: Sequence[Tensor]) -> list[Share]:
        """Return what each of several batches counts in the one that they make together.

        Shapes:
            masks: uint8 (batch, H, W) each, void = 255
        """
        if len(masks) == 1:
            return [Share()]
        sums = []
        for mask in masks:
            pixels = torch.bincount(mask.flatten(), minlength=IGNORE_INDEX + 1)[
                :IGNORE_INDEX
            ].tolist()
            weights = (
                [1.0] * IGNORE_INDEX if self.class_weights is None else self.class_weights.tolist()
            )
            sums.append((sum(map(mul, pixels, weights)), sum(pixels)))
        totals = [sum(column) or 1.0 for column in zip(*sums, strict=True)]
        return [Share(*map(truediv, each, totals)) for each in sums]

    def forward(
        self,
        logits: Tensor,
        mask: Tensor,
        auxiliary_logits: Tensor | None = None,
        share: Share = Share(),
    ) -> Tensor:
        """Compute the loss in float32, whatever the precision of the logits.

        Args:
            logits: Of the classifier.
            mask: The ground truth.
            auxiliary_logits: Of the auxiliary head, if there is one.
            share: What this batch counts in a larger one; the losses of its parts add up to that
                of the whole, exactly so for cross entropy and focal.
        """
        loss = self._compute_sum(logits.float(), mask, share)
        if auxiliary_logits is not None:
            loss = loss + self.auxiliary * self._compute_sum(auxiliary_logits.float(), mask, share)
        return loss

    def _compute_sum(self, logits: Tensor, mask: Tensor, share: Share) -> Tensor:
        terms = []
        if self.cross_entropy:
            factor = share.weighted * self.cross_entropy
            terms.append(factor * self._compute_cross_entropy(logits, mask))
        if self.focal:
            focal = compute_focal_loss(
                logits, mask, gamma=self.focal_gamma, weight=self.class_weights
            )
            terms.append(share.labelled * self.focal * focal)
        if self.dice:
            terms.append(share.labelled * self.dice * compute_dice_loss(logits, mask))
        if self.lovasz:
            terms.append(share.labelled * self.lovasz * compute_lovasz_loss(logits, mask))
        return torch.stack(terms).sum()

    def _compute_cross_entropy(self, logits: Tensor, mask: Tensor) -> Tensor:
        counting = mask != IGNORE_INDEX
        if self.class_weights is not None:
            counting &= self.class_weights[mask.masked_fill(~counting, 0)] > 0
        if not counting.any():
            return logits.sum() * 0  # torch's mean over no pixel is NaN
        if torch.are_deterministic_algorithms_enabled():
            # Over maps, CUDA has no deterministic kernel; over a list of pixels it has.
            logits, mask = logits.movedim(1, -1).flatten(0, -2), mask.flatten()
        return F.cross_entropy(
            logits,
            mask,
            weight=self.class_weights,
            ignore_index=IGNORE_INDEX,
            label_smoothing=self.label_smoothing,
        )
