"""The log of a run as TensorBoard reads it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from atrous.extras import import_extra


def build_tensorboard_listener(folder: Path, step: int) -> Callable[[dict[str, Any]], None]:
    """Return a listener that writes every number of the log; what is beyond `step` is dropped.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    import_extra("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=step + 1)

    def listen(record: dict[str, Any]) -> None:
        if record["kind"] in ("train", "val"):
            for name, value in record.items():
                if name not in ("kind", "step") and value is not None:
                    writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])
        elif record["kind"] == "session" and record["event"] == "end":
            writer.close()

    return listen
