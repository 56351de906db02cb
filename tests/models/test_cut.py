"""A network cut in two and put together is the network."""

import pytest
import torch

from atrous.models import build_model, model_names
from atrous.models.cut import Cut
from atrous.models.layers import resize_logits
from atrous.models.zoo import VARIANTS

SMALL = [name for name in model_names() if name.endswith(("resnet18", "mobilenet_v3_large"))]
OTHERS = ["deeplabv3_report", "unet", "unet_resnet34", "bayesian_segnet"]


@pytest.mark.parametrize("name", [*SMALL, *OTHERS])
@pytest.mark.parametrize("before_classifier", [False, True])
def test_the_two_sides_are_the_network(name, before_classifier, randomise_norms):
    model = randomise_norms(build_model(name, num_classes=5))
    cut = Cut(model, before_classifier=before_classifier)
    assert all(module.training for module in model.modules())
    assert cut.place == ("classifier" if before_classifier else "head")
    model.eval()
    image = torch.randn(2, 3, 65, 48)
    with torch.inference_mode():
        features = cut.compute_features(image)
        assert torch.equal(resize_logits(cut.compute_logits(features, image), image), model(image))


def test_only_maps_that_the_head_reads_are_kept():
    cut = Cut(build_model("deeplabv3plus_resnet18"), before_classifier=False)
    features = cut.compute_features(torch.randn(1, 3, 64, 64))
    assert [feature.shape[1] for feature in features] == [64, 512]


class WatchedMaps(list):
    """Feature maps that record which of them are read."""

    def __init__(self, maps):
        super().__init__(maps)
        self.read = set()

    def __getitem__(self, index):
        stages = range(len(self))[index]
        self.read.update([stages] if isinstance(stages, int) else stages)
        return super().__getitem__(index)

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def __reversed__(self):
        return (self[index] for index in reversed(range(len(self))))


@pytest.mark.parametrize("options", [{}, {"cascade_blocks": 5}])
def test_heads_declare_what_they_read_and_their_classifier(options):
    names = [n for n in model_names() if set(options) <= set(VARIANTS[n].options)]
    for name in names:
        auxiliary = {"auxiliary": True} if "auxiliary" in VARIANTS[name].options else {}
        with torch.device("meta"):
            model, other = (
                build_model(name, num_classes=num_classes, **auxiliary, **options).eval()
                for num_classes in (32, 21)
            )
            maps = model.backbone(torch.empty(1, 3, 65, 65))
        shapes = {key: tensor.shape for key, tensor in other.state_dict().items()}
        follows = [key for key, t in model.state_dict().items() if t.shape != shapes[key]]
        owners = list(dict.fromkeys(key.rpartition(".")[0] for key in follows))
        assert owners == model.list_classifier_paths(), name
        for head in (model.head, model.auxiliary_head):
            if head is not None:
                watched = WatchedMaps(maps)
                head(watched)
                assert tuple(sorted(watched.read)) == head.input_stages, name
