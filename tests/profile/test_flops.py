"""FLOPs: a published count, and a model that does not change."""

import pytest
import torch

from atrous.models import build_model
from atrous.profile.flops import count_flops


def test_flops_equal_those_published_by_torchvision():
    # DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["_ops"], in 10⁹ multiply-adds of a
    # 520x520 image; it has the auxiliary head in it, on 65x65 features.
    auxiliary = 65 * 65 * (1024 * 9 * 256 + 256 * 21)
    model = build_model("deeplabv3_resnet50", output_stride=8)
    assert count_flops(model, (520, 520)) / 2 + auxiliary == pytest.approx(178.722e9, rel=1e-5)


def test_counting_does_not_change_the_model():
    model = build_model("deeplabv3_resnet18", num_classes=3)
    before = model.training, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_flops(model, (64, 64))
    assert model.training == before[0]
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in model.state_dict().items())


def test_the_auxiliary_head_does_not_count():
    plain, auxiliary = (
        build_model("deeplabv3_resnet18", num_classes=3, auxiliary=auxiliary)
        for auxiliary in (False, True)
    )
    assert count_flops(auxiliary, (64, 96)) == count_flops(plain, (64, 96))
