"""The frozen part of a model, and the check that it does not change."""

from torch import nn

from atrous.errors import ConfigError
from atrous.models import Segmenter
from atrous.models.fitting import find_owner
from atrous.training.checkpoint import compute_state_sha256


class FrozenPart:
    """Weights and statistics that do not change; their modules stay in evaluation mode.

    Args:
        model: The model; frozen parameters no longer require gradients.
        freeze: `backbone` or `all-but-classifier`.

    Attributes:
        names: State-dict names of the frozen tensors.
        sha256: SHA-256 of the frozen tensors when `seal` was called.

    Raises:
        ConfigError: Nothing is left to train.
    """

    def __init__(self, model: Segmenter, freeze: str) -> None:
        trained = () if freeze == "backbone" else model.list_classifier_paths()

        def is_frozen(module: str) -> bool:
            if freeze == "backbone":
                return module.partition(".")[0] == "backbone"
            return module not in trained

        self.names = [name for name in model.state_dict() if is_frozen(find_owner(name))]
        self._modules = [module for name, module in model.named_modules() if is_frozen(name)]
        self.sha256: str | None = None
        self._hashes: dict[str, str] = {}
        for name, parameter in model.named_parameters():
            if is_frozen(find_owner(name)):
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ConfigError(
                f"Freezing '{freeze}' leaves nothing of {model.name} to train. Freeze less of it."
            )

    def set_eval(self) -> None:
        """Put the frozen modules into evaluation mode, without statistics updates and dropout."""
        for module in self._modules:
            module.training = False

    def seal(self, model: nn.Module) -> str:
        """Record the current hash of every frozen tensor, and return the SHA-256 of all of them."""
        self._hashes = self._compute_hashes(model)
        self.sha256 = compute_state_sha256(self._hashes)
        return self.sha256

    def find_changes(self, model: nn.Module) -> list[str]:
        """Return the names of the tensors that changed since `seal`."""
        return [
            name
            for name, sha256 in self._compute_hashes(model).items()
            if self._hashes[name] != sha256
        ]

    def _compute_hashes(self, model: nn.Module) -> dict[str, str]:
        state = model.state_dict()
        return {name: compute_state_sha256(state[name]) for name in self.names}
