"""What a model is made of, what it takes and what it sees, in one report."""

from dataclasses import asdict, dataclass
from typing import Any

from atrous.errors import ConfigError
from atrous.inspect.atrous_convs import AtrousConv, compute_warnings, describe_atrous_convs
from atrous.inspect.fits import Fit, compute_fits
from atrous.inspect.memory import compute_kept_bytes, compute_use_peak
from atrous.inspect.parts import Part, assign_parts, describe_parts, list_measured_paths
from atrous.inspect.receptive_field import compute_receptive_fields, measure_receptive_fields
from atrous.inspect.trace import AUXILIARY, trace_calls
from atrous.models import Segmenter
from atrous.models.flops import build_shadow

SMALLEST_PX = 32
# Measuring a receptive field computes forward and backward; above this it is not worth the memory.
_MOST_MEASURED_BYTES = 4 * 10**9


@dataclass(frozen=True)
class Inspection:
    """All that `atrous inspect` says of a model.

    Attributes:
        model: Its name.
        options: What it was built with.
        size_hw: Height and width of the pictures.
        batch_size: Pictures per batch, for the memory.
        num_parameters: Weights of all parts.
        gflops: Operations of using it on one picture, so without the auxiliary head, in 10⁹.
        use_mb: Most memory of pictures, features and logits at a time in use, in 10⁶ bytes.
        training_mb: What a forward pass in float32 keeps for the backward pass, in 10⁶ bytes.
        parts: Its parts, in the order in which they work.
        atrous_convs: Its atrous convolutions, likewise.
        warnings: Rates that reach past the map at this size.
        notes: Rates that mostly do.
        memory_mb: The memory that was asked about, in 10⁶ bytes; None if none was.
        fits: Which batch that memory holds.
    """

    model: str
    options: dict[str, Any]
    size_hw: tuple[int, int]
    batch_size: int
    num_parameters: int
    gflops: float
    use_mb: float
    training_mb: float
    parts: tuple[Part, ...]
    atrous_convs: tuple[AtrousConv, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    memory_mb: float | None
    fits: tuple[Fit, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as values that JSON can hold."""
        return asdict(self)


def inspect_model(
    model: Segmenter,
    *,
    size_hw: tuple[int, int] = (256, 256),
    batch_size: int = 1,
    memory_bytes: int | None = None,
) -> Inspection:
    """Say what a model is made of, what it takes and what its atrous convolutions see.

    Args:
        model: Stays as it is.
        size_hw: Height and width of the pictures.
        batch_size: Pictures per batch, for the memory.
        memory_bytes: A memory, to find out which batch it holds.

    Raises:
        ConfigError: The pictures are too small, or none are in the batch.
    """
    if min(size_hw) < SMALLEST_PX or batch_size < 1:
        raise ConfigError(
            f"A model takes one or more pictures of at least {SMALLEST_PX} px a side, got "
            f"{batch_size} of {size_hw[0]}x{size_hw[1]}. Give a larger --size or --batch."
        )
    shadow = build_shadow(model)
    calls = trace_calls(shadow, size_hw)
    kept_bytes = compute_kept_bytes(shadow, size_hw, batch_size=batch_size)
    measured_px: dict[str, int | None] = {}
    if sum(kept_bytes.values()) < _MOST_MEASURED_BYTES * batch_size:
        ends = list_measured_paths(assign_parts(shadow, calls))
        measured = measure_receptive_fields(model, size_hw, list(ends.values()))
        measured_px = {part: measured[path] for part, path in ends.items()}
    fields = compute_receptive_fields(shadow)
    parts = describe_parts(shadow, calls, kept_bytes, fields, measured_px)
    convs = describe_atrous_convs(calls)
    warnings, notes = compute_warnings(convs)
    return Inspection(
        model=model.name,
        options=model.options,
        size_hw=size_hw,
        batch_size=batch_size,
        num_parameters=sum(part.num_parameters for part in parts),
        gflops=sum(part.gflops for part in parts if part.name != AUXILIARY),
        use_mb=compute_use_peak(shadow, size_hw, batch_size=batch_size) / 1e6,
        training_mb=sum(part.kept_mb for part in parts),
        parts=tuple(parts),
        atrous_convs=convs,
        warnings=tuple(warnings),
        notes=tuple(notes),
        memory_mb=None if memory_bytes is None else memory_bytes / 1e6,
        fits=() if memory_bytes is None else tuple(compute_fits(shadow, size_hw, memory_bytes)),
    )
