"""Ready models: trained weights that ship with the package, found by name."""

import warnings
from pathlib import Path

from atrous.errors import AtrousWarning

READY_MODELS = {
    "animals": "background, person, cat, cow, dog, horse, sheep; photos of any size",
    "street": "11 classes of road scenes, from CamVid",
}
"""Name and classes of each ready model; docs/ready-models.md describes them."""

READY_FOLDER = Path(__file__).with_name("ready_models")


def find_ready_model(path: Path) -> Path | None:
    """Return the weights file of a ready model; None for other names.

    A file or folder of that name has precedence, with a warning.
    """
    name = str(path)
    if name not in READY_MODELS:
        return None
    if path.exists():
        warnings.warn(
            f"'{name}' is a file or folder here, so the ready model of that name is not used. "
            "Change to another folder to use the ready model.",
            AtrousWarning,
            stacklevel=2,
        )
        return None
    return READY_FOLDER / f"{name}.safetensors"
