"""Memory of activations, compared with sums by hand."""

from torch import nn

from atrous.models import Segmenter
from atrous.profile.activations import LOSS, compute_inference_peak, compute_saved_bytes
from atrous.profile.flops import copy_to_meta

FLOAT = 4


def build_stub():
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(inplace=True))
    head = nn.Conv2d(8, 5, 1)
    return Segmenter(backbone, head, None, name="stub", options={"num_classes": 5})


def test_saved_activations_by_hand():
    saved = compute_saved_bytes(copy_to_meta(build_stub()), (40, 50), batch_size=2)
    pixels = 2 * 40 * 50
    assert saved["backbone.0"] == 3 * pixels * FLOAT
    # The activation is in place and saves the output of the convolution only once.
    assert saved["backbone.1"] == 8 * pixels * FLOAT
    # The head saves only tensors that are already saved.
    assert saved.get("head", 0) == 0
    # Cross entropy: log-probabilities, the mask in int64, and one number.
    assert saved[LOSS] == 5 * pixels * FLOAT + 8 * pixels + FLOAT


def test_inference_peak_by_hand():
    pixels = 40 * 50
    # The image, the features and the logits, with or without a copy by the resizing.
    peak = compute_inference_peak(copy_to_meta(build_stub()), (40, 50))
    assert (3 + 8 + 5) * pixels * FLOAT <= peak <= (3 + 8 + 5 + 5) * pixels * FLOAT
