"""A network cut in two: a fixed function of the picture, and what is trained after it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atrous.models.classifier import list_classifier_modules
from atrous.models.segmenter import Segmenter

_PROBE_PX = 64


class Cut:
    """Picture → features → logits, the two steps apart.

    Put together they are the network itself. The cut is after the backbone, where only the feature
    maps that the head reads are kept; or, on request, right before the classifier, if the head ends
    with it (which is tried out on a small picture).

    Args:
        model: The network; it is not copied, and its weights may change.
        before_classifier: Whether all before the classifier may be on the first side.

    Attributes:
        place: What the trained side begins with: `head` or `classifier`.
    """

    def __init__(self, model: Segmenter, *, before_classifier: bool) -> None:
        self.model = model
        self._stages: list[int] = []
        self._num_stages = 0
        self._classifier: list[nn.Module] = []
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            self._try_out(before_classifier)
        finally:
            for module, mode in modes.items():
                module.training = mode
        self.place = "classifier" if self._classifier else "head"

    def compute_features(self, image: Tensor) -> list[Tensor]:
        """Compute what the trained side reads.

        Shapes:
            image: float (batch, in_channels, H, W), normalised
            returns: one float (batch, channels, height, width) per map
        """
        maps = self.model.backbone(image)
        if not self._classifier:
            return [maps[stage] for stage in self._stages]
        return [_capture_input(self._classifier[0], self.model.head, maps)]

    def compute_logits(self, features: Sequence[Tensor], like: Tensor) -> Tensor:
        """Compute the logits of such features.

        Shapes:
            features: what `compute_features` returned
            like: (..., H, W), of the picture's size
            returns: float (batch, num_classes, H, W)
        """
        if self._classifier:
            logits = features[0]
            for module in self._classifier:
                logits = module(logits)
        else:
            maps: list[Any] = [None] * self._num_stages
            for stage, feature in zip(self._stages, features, strict=True):
                maps[stage] = feature
            logits = self.model.head(maps)
        return self.model.resize_logits(logits, like)

    @torch.inference_mode()
    def _try_out(self, before_classifier: bool) -> None:
        weight = next(self.model.backbone.parameters())
        num_values = weight.shape[1] * _PROBE_PX**2
        image = torch.linspace(-2, 2, num_values, device=weight.device)
        maps = self.model.backbone(image.view(1, -1, _PROBE_PX, _PROBE_PX))
        watched = _WatchedMaps(maps)
        logits = self.model.head(watched)
        self._stages, self._num_stages = sorted(watched.read), len(maps)
        if not before_classifier:
            return
        names = [n for n in list_classifier_modules(self.model) if n.startswith("head.")]
        end = [self.model.get_submodule(name) for name in names]
        ended = _capture_input(end[0], self.model.head, maps)
        for module in end:
            ended = module(ended)
        if ended.shape == logits.shape and torch.allclose(ended, logits, rtol=1e-4, atol=1e-5):
            self._classifier = end


class _WatchedMaps(Sequence[Tensor]):
    """Feature maps that remember which of them were read."""

    def __init__(self, maps: list[Tensor]) -> None:
        self._maps = maps
        self.read: set[int] = set()

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, place: Any) -> Any:
        stages = range(len(self._maps))[place]
        self.read.update([stages] if isinstance(stages, int) else stages)
        return self._maps[place]


def _capture_input(module: nn.Module, network: nn.Module, maps: list[Tensor]) -> Tensor:
    inputs: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        network(maps)
    finally:
        handle.remove()
    return inputs[0]
