"""Receptive fields: published values, and gradients of networks that are linear."""

import pytest
import torch
from torch import nn
from torchvision.models import vgg16

from atrous.inspect.fields import FieldMode
from atrous.inspect.receptive_field import (
    compute_extent,
    compute_receptive_fields,
    measure_receptive_fields,
)
from atrous.models import Segmenter, build_model


def build_stub(backbone, head=None):
    options = {"num_classes": 2, "in_channels": 3}
    return Segmenter(backbone, head or nn.Identity(), None, name="stub", options=options)


def build_on_meta(name, **options):
    with torch.device("meta"):
        return build_model(name, **options)


@pytest.mark.parametrize(
    ("name", "size_px"),
    [("resnet18", 435), ("resnet34", 899), ("resnet50", 427), ("resnet101", 971)],
)
def test_resnets_at_stride_32(name, size_px):
    fields = compute_receptive_fields(build_on_meta(f"deeplabv3_{name}", output_stride=32))
    assert fields["backbone.layer4"].size_px == size_px
    assert not fields["backbone.layer4"].whole_picture
    assert fields["head"].whole_picture


@pytest.mark.parametrize(("depth", "size_px"), [(50, 483), (101, 1027)])
def test_resnets_as_published_with_the_stride_in_the_first_convolution(depth, size_px):
    """Araujo et al. 2019, https://distill.pub/2019/computing-receptive-fields, its table."""
    model = build_on_meta(f"deeplabv3_resnet{depth}", output_stride=32)
    for layer in (model.backbone.layer2, model.backbone.layer3, model.backbone.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    assert compute_receptive_fields(model)["backbone.layer4"].size_px == size_px


def test_vgg16_as_published():
    """The same table."""
    with torch.device("meta"):
        features = vgg16().features
    assert compute_receptive_fields(build_stub(features))["backbone"].size_px == 212


def test_rates_widen_the_field_by_twice_their_span():
    narrow, wide = (
        compute_receptive_fields(build_on_meta("deeplabv3_resnet18", atrous_rates=rates))
        for rates in ((6, 12, 18), (6, 12, 24))
    )
    backbone_px = narrow["backbone.layer4"].size_px
    assert narrow["head.0"].size_px == backbone_px + 2 * 18 * 16
    assert wide["head.0"].size_px == backbone_px + 2 * 24 * 16
    # The image pooling alone sees no window at all.
    assert narrow["head.0.convs.4"].size_px is None


LINEAR_NETWORKS = {
    "strides and rates": nn.Sequential(
        nn.Conv2d(3, 2, 7, stride=2, padding=3), nn.Conv2d(2, 2, 3, padding=4, dilation=4)
    ),
    "pooling": nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.Conv2d(3, 1, 3), nn.AvgPool2d(2)),
    "transposed": nn.Sequential(
        nn.Conv2d(3, 2, 3, stride=2), nn.ConvTranspose2d(2, 1, 3, stride=2, padding=1)
    ),
    "bilinear": nn.Sequential(
        nn.Conv2d(3, 1, 3, stride=3), nn.Upsample(size=(20, 31), mode="bilinear")
    ),
    "nearest": nn.Sequential(nn.Conv2d(3, 1, 3, stride=2), nn.Upsample(scale_factor=3)),
    "padding": nn.Sequential(nn.ZeroPad2d((1, 4, 2, 3)), nn.Conv2d(3, 1, 3, stride=2)),
}


@pytest.mark.parametrize("network", LINEAR_NETWORKS.values(), ids=LINEAR_NETWORKS)
def test_fields_are_where_gradients_are(network):
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    image = torch.ones(1, 3, 37, 29)
    with torch.no_grad(), FieldMode() as mode:
        mode.start(image)
        field = mode.fields[network(image)]
    image.requires_grad_()
    output = network(image)
    assert tuple(map(len, field.spans)) == tuple(output.shape[-2:])
    for row, column in ((0, 0), (3, 2), (output.shape[-2] - 1, output.shape[-1] // 2)):
        (gradient,) = torch.autograd.grad(output[0, 0, row, column], image, retain_graph=True)
        for span, place, axis in zip(field.spans, (row, column), (1, 0), strict=True):
            # Bilinear weights of 0 come out as crumbs in float32.
            touched = (gradient[0, 0].sum(axis) > 1e-5).nonzero().flatten()
            assert (span.first[place], span.last[place]) == (touched.min(), touched.max())


def test_unpooling_puts_fields_back():
    image = torch.rand(1, 3, 8, 12)
    with torch.no_grad(), FieldMode() as mode:
        mode.start(image)
        pooled, indices = nn.functional.max_pool2d(image, 2, return_indices=True)
        flat = image.new_zeros(image.shape).flatten(2)
        flat = flat.scatter(2, indices.flatten(2), pooled.flatten(2))
        rows, columns = mode.fields[flat.unflatten(2, (8, 12))].spans
    assert rows.first.tolist() == [0, 0, 2, 2, 4, 4, 6, 6]
    assert columns.last.tolist() == [1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11]


def test_the_measured_square_holds_its_share():
    energy = torch.zeros(31, 31)
    energy[10:15, 12:19] = 1
    assert compute_extent(energy, 1.0) == 7
    energy[12, 15] = 1e9
    assert compute_extent(energy, 0.95) == 1
    assert compute_extent(torch.zeros(9, 9), 0.95) is None


def test_measured_fields_of_a_linear_network_are_the_computed_ones():
    backbone = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=rate, dilation=rate) for rate in (1, 2)))
    for parameter in backbone.parameters():
        nn.init.ones_(parameter)
    measured = measure_receptive_fields(
        build_stub(backbone), (33, 40), ["backbone.0", "backbone"], share=1.0
    )
    assert measured == {"backbone.0": 3, "backbone": 7}


def test_new_weights_are_measured_with_open_branches_and_stay_as_they_are():
    torch.manual_seed(0)
    model = build_model("deeplabv3_resnet18")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measured = measure_receptive_fields(model, (96, 96), ["backbone.layer1", "backbone.layer4"])
    # Through the shortcuts alone the stem's 11 px would be all there is.
    assert 11 < measured["backbone.layer1"] <= 43
    assert measured["backbone.layer1"] < measured["backbone.layer4"]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
