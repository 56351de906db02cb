"""The part of a network that training leaves as it is, and the proof that it did."""

from torch import nn

from atrous.errors import ConfigError
from atrous.models import Segmenter
from atrous.models.fitting import find_owner
from atrous.training.checkpoint import compute_state_sha256


class FrozenPart:
    """Weights and statistics that stay; its modules are in evaluation mode in training too.

    Args:
        model: The parameters of the part no longer ask for gradients.
        freeze: `backbone` or `all-but-classifier`.

    Attributes:
        names: Of its tensors in the model's state.
        sha256: Of all of them as they were when they were sealed.

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
        """Put the part into evaluation mode: no statistics move, nothing is dropped."""
        for module in self._modules:
            module.training = False

    def seal(self, model: nn.Module) -> str:
        """Remember every tensor of the part as it is now, and return one SHA-256 of them all."""
        self._hashes = self._compute_hashes(model)
        self.sha256 = compute_state_sha256(self._hashes)
        return self.sha256

    def find_changes(self, model: nn.Module) -> list[str]:
        """Return the names of the tensors that are no longer as they were sealed."""
        return [
            name
            for name, sha256 in self._compute_hashes(model).items()
            if self._hashes[name] != sha256
        ]

    def _compute_hashes(self, model: nn.Module) -> dict[str, str]:
        state = model.state_dict()
        return {name: compute_state_sha256(state[name]) for name in self.names}
