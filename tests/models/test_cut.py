"""A network cut in two and put together is the network."""

import pytest
import torch

from atrous.models import build_model, model_names
from atrous.models.classifier import list_classifier_modules
from atrous.models.cut import Cut

SMALL = [name for name in model_names() if name.endswith(("resnet18", "mobilenet_v3_large"))]


@pytest.mark.parametrize("name", [*SMALL, "deeplabv3_report"])
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
        assert torch.equal(cut.compute_logits(features, image), model(image))


def test_only_maps_that_the_head_reads_are_kept():
    cut = Cut(build_model("deeplabv3plus_resnet18"), before_classifier=False)
    features = cut.compute_features(torch.randn(1, 3, 64, 64))
    assert [feature.shape[1] for feature in features] == [64, 512]


def test_a_head_that_goes_on_after_its_classifier_is_cut_at_the_backbone():
    model = build_model("deeplabv3_resnet18", num_classes=5)
    forward = model.head.forward
    model.head.forward = lambda features: forward(features).relu()
    assert Cut(model, before_classifier=True).place == "head"


@pytest.mark.parametrize(
    ("name", "options", "modules"),
    [
        ("deeplabv3_resnet18", {}, ["head.4"]),
        ("deeplabv3_resnet18", {"auxiliary": True}, ["head.4", "auxiliary_head.4"]),
        ("deeplabv3plus_mobilenet_v3_large", {"num_classes": 1}, ["head.classifier"]),
        ("deeplabv3plus_mobilenet_v3_large", {"num_classes": 255}, ["head.classifier"]),
        ("deeplabv3_report", {}, ["head.classifier", "head.classifier_norm"]),
    ],
)
def test_the_classifier_is_what_follows_the_number_of_classes(name, options, modules):
    with torch.device("meta"):
        model = build_model(name, **options)
    assert list_classifier_modules(model) == modules
