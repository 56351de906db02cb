"""A model cut in two: a frozen function of the image, and the trained layers after it."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from atrous.models.interfaces import Head
from atrous.models.segmenter import Segmenter


class Cut:
    """Splits a model into image → features and features → logits.

    Both steps in a row are the model. The cut is after the backbone, where only the feature maps
    that the head reads are kept, or before the classifier.

    Args:
        model: The model; it is not copied, and its weights may change.
        before_classifier: Whether to cut before the classifier.

    Attributes:
        place: First trained part: `head` or `classifier`.
        frozen_modules: The modules that compute the features.
    """

    def __init__(self, model: Segmenter, *, before_classifier: bool) -> None:
        assert isinstance(model.head, Head)
        self.model, self.head = model, model.head
        self.place = "classifier" if before_classifier else "head"
        self.frozen_modules: list[nn.Module] = [model.backbone]
        self._classifier = nn.Sequential()
        if before_classifier:
            self.frozen_modules.append(model.head)
            self._classifier.extend(map(model.head.get_submodule, model.head.classifier_paths))

    def compute_features(self, image: Tensor) -> list[Tensor]:
        """Compute the inputs of the trained part.

        Shapes:
            image: float (batch, in_channels, H, W), normalized
            returns: one float (batch, channels, height, width) per feature map
        """
        maps = self.model.backbone(image)
        if not self._classifier:
            return [maps[stage] for stage in self.head.input_stages]
        inputs: list[Tensor] = []
        first = self._classifier[0]
        handle = first.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        try:
            self.head(maps)
        finally:
            handle.remove()
        return inputs

    def compute_logits(self, features: Sequence[Tensor], like: Tensor) -> Tensor:
        """Compute the logits of features, at the resolution of the head.

        Shapes:
            features: output of `compute_features`
            like: (..., H, W), of the image's size
            returns: float (batch, num_classes, height, width)
        """
        if self._classifier:
            logits = self._classifier(features[0])
        else:
            maps: list[Any] = [None] * len(self.model.backbone.channels)
            for stage, feature in zip(self.head.input_stages, features, strict=True):
                maps[stage] = feature
            logits = self.head(maps)
        return self.model.crop_logits(logits, like)
