"""The profile of a model: parameters, FLOPs, memory, receptive fields and valid taps."""

from dataclasses import asdict, dataclass
from typing import Any

from atrous.errors import ConfigError
from atrous.models import Segmenter
from atrous.profile.activations import compute_inference_peak, compute_saved_bytes
from atrous.profile.atrous_convs import AtrousConv, compute_warnings, describe_atrous_convs
from atrous.profile.flops import copy_to_meta
from atrous.profile.parts import ModelPart, assign_parts, describe_parts, list_measured_paths
from atrous.profile.receptive_field import measure_receptive_fields
from atrous.profile.trace import AUXILIARY, trace_calls

MIN_SIZE_PX = 32
# Measuring receptive fields runs real forward and backward passes; above this they are skipped.
_MAX_MEASURED_BYTES = 4 * 10**9


@dataclass(frozen=True)
class ModelProfile:
    """The profile of a model for one image size.

    Attributes:
        gflops: FLOPs of inference on one image in 10⁹, without the auxiliary head.
        inference_mb: Peak memory of images, features and logits in inference, in 10⁶ bytes.
        saved_mb: Activations that a float32 forward pass saves for the backward pass, in 10⁶ bytes.
        warnings: Atrous rates with taps that never fall inside the feature map.
        notes: Atrous rates with fewer than half of their taps inside the feature map.
    """

    model: str
    options: dict[str, Any]
    size_hw: tuple[int, int]
    batch_size: int
    num_parameters: int
    gflops: float
    inference_mb: float
    saved_mb: float
    parts: tuple[ModelPart, ...]
    atrous_convs: tuple[AtrousConv, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the profile as values that JSON can hold."""
        return asdict(self)


def profile_model(
    model: Segmenter, *, size_hw: tuple[int, int] = (256, 256), batch_size: int = 1
) -> ModelProfile:
    """Compute the parameters, FLOPs, memory, receptive fields and valid taps of a model.

    The model is not changed. The memory is that of `batch_size` images. Raises ConfigError if the
    images are too small, or the batch is empty.
    """
    if min(size_hw) < MIN_SIZE_PX or batch_size < 1:
        raise ConfigError(
            f"Expected at least one image of at least {MIN_SIZE_PX} px a side, got {batch_size} of "
            f"{size_hw[0]}x{size_hw[1]}. Give a larger --size or --batch."
        )
    meta_model = copy_to_meta(model)
    calls = trace_calls(meta_model, size_hw)
    saved_bytes = compute_saved_bytes(meta_model, size_hw, batch_size=batch_size)
    receptive_fields_px: dict[str, int | None] = {}
    if sum(saved_bytes.values()) < _MAX_MEASURED_BYTES * batch_size:
        ends = list_measured_paths(assign_parts(meta_model, calls))
        measured = measure_receptive_fields(model, size_hw, list(ends.values()))
        receptive_fields_px = {part: measured[path] for part, path in ends.items()}
    parts = describe_parts(meta_model, calls, saved_bytes, receptive_fields_px)
    convs = describe_atrous_convs(calls)
    warnings, notes = compute_warnings(convs)
    return ModelProfile(
        model=model.name,
        options=model.options,
        size_hw=size_hw,
        batch_size=batch_size,
        num_parameters=sum(part.num_parameters for part in parts),
        gflops=sum(part.gflops for part in parts if part.name != AUXILIARY),
        inference_mb=compute_inference_peak(meta_model, size_hw, batch_size=batch_size) / 1e6,
        saved_mb=sum(part.saved_mb for part in parts),
        parts=tuple(parts),
        atrous_convs=convs,
        warnings=tuple(warnings),
        notes=tuple(notes),
    )
