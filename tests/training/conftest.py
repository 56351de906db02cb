from pathlib import Path

import pytest

from atrous.data.shapes import write_shapes
from atrous.recipe import Recipe, build_recipe
from atrous.run import RunFolder
from atrous.training.verify import compare_runs


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, num_train=10, num_val=2, size_px=64)
    return folder


@pytest.fixture(scope="session")
def make_recipe(shapes):
    def make(**changes) -> Recipe:
        """Build a recipe of seconds; changes are given as section__key=value."""
        values = {
            "model": {"name": "deeplabv3plus_mobilenet_v3_large", "decoder_channels": 8},
            "data": {"root": str(shapes), "crop": 48, "brightness": 0.2},
            "train": {
                "duration": "8it",
                "batch_size": 3,
                "workers": 0,
                "precision": "32",
                "ema": 0.9,
                "validate_every": "3it",
                "save_every": "2it",
            },
        }
        for name, value in changes.items():
            section, _, key = name.partition("__")
            values.setdefault(section, {})[key] = value
        return build_recipe(values)

    return make


@pytest.fixture(scope="session")
def differences():
    def compare(one, other) -> list[str]:
        checks = compare_runs(RunFolder(one), RunFolder(other))
        return [f"{check.name}: {check.difference}" for check in checks if check.difference]

    return compare
