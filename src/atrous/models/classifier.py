"""Which part of a network is its classifier."""

from atrous.models.layers import on_meta_device
from atrous.models.segmenter import Segmenter
from atrous.models.zoo import build_model


def list_classifier_modules(model: Segmenter) -> list[str]:
    """Return the names of the modules that make up the classifier, the auxiliary head's too.

    The classifier is what follows the number of classes: every module with a tensor of another
    shape in the same network for another number of classes. So no head has to name its own.

    Example:
        >>> list_classifier_modules(build_model("deeplabv3_report"))
        ['head.classifier', 'head.classifier_norm']
    """
    num_classes = model.num_classes - 1 if model.num_classes > 1 else 2
    with on_meta_device():
        other = build_model(model.name, **{**model.options, "num_classes": num_classes})
    shapes = {name: tensor.shape for name, tensor in other.state_dict().items()}
    return list(
        dict.fromkeys(
            find_owner(name)
            for name, tensor in model.state_dict().items()
            if tensor.shape != shapes[name]
        )
    )


def find_owner(tensor_name: str) -> str:
    """Return the name of the module that holds a tensor."""
    return tensor_name.rpartition(".")[0]
