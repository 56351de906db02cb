"""Training and evaluation on a GPU."""

import pytest
import torch

from atrous.data import open_dataset
from atrous.evaluation import validate_model
from atrous.models.layers import upsample, upsample_by_products
from atrous.training import train
from atrous.training.learner import Learner

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_resume_is_exact_with_deterministic_algorithms(
    make_recipe, tmp_path, differences, precision
):
    recipe = make_recipe(
        train__device="cuda", train__deterministic=True, train__precision=precision
    )
    train(recipe, tmp_path / "whole")
    for stop_after in ("3it", "2it", None):
        train(recipe, tmp_path / "parts", stop_after=stop_after)
    torch.use_deterministic_algorithms(False)
    assert differences(tmp_path / "whole", tmp_path / "parts") == []


def test_scores_equal_those_of_a_cpu(make_recipe, shapes):
    dataset = open_dataset(shapes, "val")
    model = Learner(make_recipe(train__device="cpu"), dataset.classes, None).model.eval()
    counts = [
        validate_model(model.to(device), dataset, precision="32").counts.confusion
        for device in ("cpu", "cuda")
    ]
    assert abs(counts[0] - counts[1]).sum() <= 1e-3 * counts[0].sum()


def test_upsampling_by_products_is_deterministic():
    features = torch.randn(2, 5, 33, 23, device="cuda", requires_grad=True)
    results = [upsample_by_products(features, (129, 90)) for _ in range(2)]
    gradients = [torch.autograd.grad(result.square().sum(), features)[0] for result in results]
    assert gradients[0].equal(gradients[1])
    torch.testing.assert_close(results[0], upsample(features, (129, 90)), rtol=0, atol=1e-5)
