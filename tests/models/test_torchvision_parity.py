import pytest
import torch
from torchvision.models import segmentation

from atrous.models import build_model, load_weights

RATES = (12, 24, 36)
MODELS = {
    "deeplabv3_resnet50": {"output_stride": 8},
    "deeplabv3_resnet101": {"output_stride": 8},
    "deeplabv3_mobilenet_v3_large": {"output_stride": 16, "atrous_rates": RATES},
    "fcn_resnet50": {"output_stride": 8},
    "fcn_resnet101": {"output_stride": 8},
}


@pytest.mark.parametrize(
    ("name", "auxiliary", "size_hw"),
    [
        ("deeplabv3_resnet50", True, (129, 97)),
        ("deeplabv3_resnet101", False, (65, 49)),
        ("deeplabv3_mobilenet_v3_large", True, (129, 97)),
        ("deeplabv3_mobilenet_v3_large", False, (64, 96)),
        ("fcn_resnet50", True, (129, 97)),
        ("fcn_resnet101", False, (65, 49)),
    ],
)
@torch.inference_mode()
def test_logits_equal_torchvisions(name, auxiliary, size_hw, tmp_path, randomise_norms):
    torch.manual_seed(0)
    peer = getattr(segmentation, name)(weights=None, weights_backbone=None, aux_loss=auxiliary)
    torch.save(randomise_norms(peer).state_dict(), tmp_path / "peer.pth")
    model = build_model(name, auxiliary=auxiliary, **MODELS[name])
    loaded = load_weights(model, tmp_path / "peer.pth")
    assert not loaded.unexpected
    assert not loaded.missing
    assert len(loaded.loaded) == len(model.state_dict())

    image = torch.randn(1, 3, *size_hw)
    expected = peer.eval()(image)
    logits, auxiliary_logits = model.eval().compute_training_logits(image)
    tolerance = 1e-5 * expected["out"].abs().max()
    torch.testing.assert_close(logits, expected["out"], rtol=0, atol=tolerance.item())
    if auxiliary:
        tolerance = 1e-5 * expected["aux"].abs().max()
        torch.testing.assert_close(auxiliary_logits, expected["aux"], rtol=0, atol=tolerance.item())
