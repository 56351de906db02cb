"""Options of an export: validation, file paths and windows."""

from pathlib import Path

from atrous.engines import TTA
from atrous.engines.export_records import name_export
from atrous.engines.exported_engine import ExportCard
from atrous.engines.open_engine import SUFFIXES, TARGETS
from atrous.errors import ConfigError, did_you_mean
from atrous.extras import import_extra
from atrous.recipe import load_recipe
from atrous.run import RunFolder

PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "pt2": (),
}


def check_target(
    to: str, size_hw: tuple[int, int] | None, num_gate_images: int | None, num_calibration: int
) -> None:
    """Raise a ConfigError if an option is invalid or a package is missing."""
    if to not in TARGETS:
        raise ConfigError(f"There is no export target '{to}'.{did_you_mean(to, TARGETS)}")
    if size_hw is not None and min(size_hw) < 32:
        raise ConfigError(f"A size of {size_hw[0]} × {size_hw[1]} is below 32 × 32 pixels.")
    for number, what in ((num_gate_images, "gate"), (num_calibration, "calibration")):
        if number is not None and number < 1:
            raise ConfigError(f"The {what} needs at least one image, not {number}.")
    for package in PACKAGES[to.partition("-")[0]]:
        import_extra(package, "export")
    if to.endswith("int8"):
        import_extra("nncf", "export")


def find_train_split(source: Path) -> str:
    """Return the name of the training split of a run; `train` for a weights file."""
    recipe = RunFolder(source).recipe
    return load_recipe(recipe).data.train_split if recipe.is_file() else "train"


def choose_paths(
    source: Path, to: str, out: Path | str | None, size_hw: tuple[int, int] | None
) -> tuple[Path, Path]:
    """Return the paths of the exported file and its record."""
    name, suffix = name_export(to, size_hw), SUFFIXES[to.partition("-")[0]]
    if source.is_dir():
        folder = RunFolder(source).exports
        default, record_path = folder / f"{name}{suffix}", folder / f"{name}.json"
    else:
        default = source.with_name(f"{source.stem}-{name}{suffix}")
        record_path = (Path(out) if out else default).with_suffix(".json")
    path = Path(out) if out else default
    if path.suffix != suffix:
        raise ConfigError(
            f"The name of an export to {to} must end in {suffix}, unlike {path}. Use "
            f"{path.with_suffix(suffix)}."
        )
    if path.is_dir():
        raise ConfigError(f"{path} is a folder. Give a file name.")
    return path, record_path


def choose_tta(card: ExportCard) -> TTA:
    """Return the windows through which a file of fixed size takes images of any size."""
    if card.size_hw in (None, card.model.size_hw):
        return TTA()
    height, width = card.size_hw
    if height != width:
        input_hw = "×".join(map(str, card.model.size_hw)) if card.model.size_hw else "any size"
        raise ConfigError(
            f"A file for {height} × {width} pixels only (height × width) cannot be used: this "
            f"model takes images of {input_hw}, and windows are square. Give --size one number, or "
            "the input size of the model."
        )
    return TTA(window_px=height)
