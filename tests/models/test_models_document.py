"""docs/models.md lists every variant with the numbers it has."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from atrous.models import build_model, model_names

DOCUMENT = Path(__file__).parents[2] / "docs/models.md"
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| ([\d.]+) \| (\d+) \|$", flags=re.MULTILINE)


def measure(name, options):
    """Return million parameters, and GFLOPs of one image of 513x513."""
    with torch.device("meta"):
        model = build_model(name, **options).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.inference_mode():
            model(torch.empty(1, 3, 513, 513))
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return f"{num_parameters / 1e6:.2f}", f"{counter.get_total_flops() / 1e9:.0f}"


@pytest.mark.slow
def test_every_variant_is_listed_with_its_size_and_cost():
    rows = ROW.findall(DOCUMENT.read_text())
    assert [name for name, options, *_ in rows if not options] == model_names()
    for name, text, *numbers in rows:
        options = {key: json.loads(value) for key, value in re.findall(r"`(\w+)=(\S+?)`", text)}
        assert (name, text, *measure(name, options)) == (name, text, *numbers)
