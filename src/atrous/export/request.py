"""What may be asked of an export, and what follows from it: packages, paths, tta."""

from pathlib import Path

from atrous.engines import TTA
from atrous.engines.export_records import name_export
from atrous.engines.exported import ExportCard
from atrous.engines.open_engine import TARGETS
from atrous.errors import ConfigError, did_you_mean
from atrous.export.formats import SUFFIXES
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
    """Raise ConfigError unless an export can be asked for like this, on this installation."""
    if to not in TARGETS:
        raise ConfigError(f"There is no export to '{to}'.{did_you_mean(to, TARGETS)}")
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
    """Return the name of the split that a run was trained on."""
    recipe = RunFolder(source).recipe
    return load_recipe(recipe).data.train_split if recipe.is_file() else "train"


def choose_paths(
    source: Path, to: str, out: Path | str | None, size_hw: tuple[int, int] | None
) -> tuple[Path, Path]:
    """Return where the exported file and its record go."""
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
            f"A file of {to} ends in {suffix}, and {path} does not. Name it "
            f"{path.with_suffix(suffix)}."
        )
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of a file.")
    return path, record_path


def choose_tta(card: ExportCard) -> TTA:
    """Return the windows that make a file of one size take images of any size."""
    if card.size_hw in (None, card.model.size_hw):
        return TTA()
    height, width = card.size_hw
    if height != width:
        seen = "×".join(map(str, card.model.size_hw)) if card.model.size_hw else "its own size"
        raise ConfigError(
            f"A file for {height} × {width} pixels only (height × width) could not see images: "
            f"this model sees them at {seen}, and windows are square. Give --size that size or "
            "one number."
        )
    return TTA(window_px=height)
