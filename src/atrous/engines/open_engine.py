"""From a name such as `openvino` or `auto` to the engine that runs a model."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from atrous.devices import Precision, resolve_device
from atrous.engines.engine import Engine
from atrous.engines.export_records import (
    ExportRecord,
    compute_weights_hash,
    find_files,
    load_records,
)
from atrous.engines.exported import ExportedEngine
from atrous.engines.fastest import choose_fastest
from atrous.engines.torch_engine import TorchEngine
from atrous.engines.tta import TTA
from atrous.errors import ConfigError, WeightsError, did_you_mean
from atrous.models import Segmenter, load_model
from atrous.models.weights import find_weights, load_card
from atrous.run import RunFolder

TARGETS = ("onnx", "onnx-int8", "openvino", "openvino-int8", "pt2")
"""What a model can be exported to, and so the engines beside `torch` and `auto`."""

_SUFFIXES = {".onnx": "onnx", ".xml": "openvino", ".pt2": "pt2"}


def open_engine(
    run_or_model: Path | str | Segmenter,
    engine: str = "torch",
    *,
    tta: TTA = TTA(),
    device: str = "auto",
    precision: Precision = "32",
    trust: bool = False,
) -> Engine:
    """Make what runs a model.

        from atrous.engines import open_engine

        engine = open_engine("runs/camvid", "auto")
        mask = engine.predict_mask(image)

    Args:
        run_or_model: Run folder, weights file, exported file (.onnx, .xml or .pt2) or model.
        engine: `torch`; an export of the run that passed its gate, such as `openvino-int8`; or
            `auto` for the fastest of all these on this machine, measured once and remembered in
            the run folder.
        tta: Test-time augmentation and sliding windows.
        device: For torch; exports run on the CPU. On a GPU, `auto` is torch.
        precision: For torch and `openvino`; `auto` chooses among all that passed their gate.
        trust: Whether a .pt2 file may be opened, which can run any code when it is read. `auto`
            never chooses one.

    Raises:
        ConfigError: There is no such engine or export, a package is missing, or a .pt2 file is
            not trusted.
        WeightsError: The weights or the exported file cannot be used.
    """
    if isinstance(run_or_model, Segmenter):
        _refuse_other_engines(engine, "A model in memory")
        return TorchEngine(run_or_model, tta=tta, precision=precision)
    path = Path(run_or_model)
    if path.suffix in _SUFFIXES:
        _refuse_other_engines(engine, f"The exported file {path}", "auto")
        return open_export(path, tta=tta, precision=precision, trust=trust)
    open_torch = partial(_open_torch, path, tta=tta, device=device, precision=precision)
    if engine == "torch":
        return open_torch()
    torch_device = resolve_device(device)
    run = RunFolder(path)
    records = load_records(run) if path.is_dir() else {}
    if engine != "auto":
        return _open_record(run, _find_record(path, records, engine), tta, precision, trust)
    if torch_device.type != "cpu":
        return open_torch()
    candidates: dict[str, Callable[[], Engine]] = {f"torch {precision}": open_torch}
    weights_sha256 = compute_weights_hash(find_weights(path))
    for record in records.values():
        if _gives_the_same(record, weights_sha256, tta, run):
            for gated in filter(record.passed, record.gates):
                label = f"{record.name} {gated} {record.sha256[0][:16]}"
                candidates[label] = partial(_open_record, run, record, tta, gated)
    return choose_fastest(run, candidates)


def open_export(
    path: Path,
    *,
    tta: TTA = TTA(),
    precision: Precision = "32",
    trust: bool = False,
) -> ExportedEngine:
    """Open an exported file.

    Args:
        path: A .onnx, .xml or .pt2 file.
        tta: Test-time augmentation and sliding windows.
        precision: For OpenVINO files that are not int8.
        trust: Whether a .pt2 file may be opened, which can run any code when it is read.

    Raises:
        ConfigError: A package is missing, or a .pt2 file is not trusted.
        WeightsError: The file cannot be used.
    """
    kind = _SUFFIXES.get(path.suffix)
    if kind is None:
        known = ", ".join(_SUFFIXES)
        raise WeightsError(f"{path} is no exported file: those end in {known}. Export it again.")
    if kind == "onnx":
        from atrous.engines.onnx_engine import OnnxEngine

        return OnnxEngine(path, tta=tta)
    if kind == "openvino":
        from atrous.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(path, tta=tta, precision=precision)
    if not trust:
        raise ConfigError(
            f"{path} is a program of torch.export, which can run any code when it is read. If it "
            "comes from you or from somebody you trust, add --trust (in Python, trust=True); "
            "otherwise use --engine torch, or an export to onnx or openvino."
        )
    from atrous.engines.pt2_engine import Pt2Engine

    return Pt2Engine(path, tta=tta)


def _open_torch(path: Path, *, tta: TTA, device: str, precision: Precision) -> Engine:
    model = load_model(path, device=resolve_device(device))
    return TorchEngine(model, tta=tta, precision=precision)


def _open_record(
    run: RunFolder, record: ExportRecord, tta: TTA, precision: str, trust: bool = False
) -> ExportedEngine:
    file = find_files(run, record)[0]
    if "int8" not in record.target and record.target == "openvino":
        engine = open_export(file, tta=tta, precision=precision)  # type: ignore[arg-type]
        _check_gate(run, record, engine.precision)
    else:
        if precision == "bf16":
            raise ConfigError(
                f"The export {record.name} cannot compute in bf16: of the exports only openvino "
                "can. Use --precision 32, or another engine."
            )
        _check_gate(run, record, "int8" if "int8" in record.target else "32")
        engine = open_export(file, tta=tta, trust=trust)
    engine.card = replace(engine.card, temperature=_read_temperature(run, engine))
    engine.name = record.name
    return engine


def _read_temperature(run: RunFolder, engine: ExportedEngine) -> float:
    """Return that of the run, which may have been fitted after the export."""
    card = load_card(find_weights(run.path))
    return engine.card.temperature if card is None else card.temperature


def _find_record(path: Path, records: dict[str, ExportRecord], engine: str) -> ExportRecord:
    if engine in records:
        record = records[engine]
        if record.weights_sha256 != compute_weights_hash(find_weights(path)):
            raise ConfigError(
                f"The export {engine} of {path} was made of other weights than the run has now. "
                f"Make it again: atrous export {path} --to {record.target}"
            )
        return record
    if engine in TARGETS:
        raise ConfigError(
            f"{path} has no export {engine}. Make it first: atrous export {path} --to {engine}"
        )
    known = ["torch", "auto", *TARGETS, *records]
    raise ConfigError(f"There is no engine '{engine}'.{did_you_mean(engine, known)}")


def _check_gate(run: RunFolder, record: ExportRecord, precision: str) -> None:
    if not record.passed(precision):
        passed = ", ".join(filter(record.passed, record.gates)) or "none"
        raise ConfigError(
            f"The export {record.name} of {run.path} has not passed its gate in precision "
            f"{precision} (passed: {passed}). Use another precision or engine, or export it again."
        )


def _gives_the_same(record: ExportRecord, weights_sha256: str, tta: TTA, run: RunFolder) -> bool:
    """Say whether an export may stand in for the run's own weights."""
    if record.weights_sha256 != weights_sha256 or record.mask_output or record.target == "pt2":
        return False
    if tta.samples > 1:  # exports have no dropout
        return False
    if record.size_hw is None:
        return True
    card = load_card(find_weights(run.path))
    seen_hw = card and card.size_hw and tta.compute_window_hw(*card.size_hw)
    return tta.scales == (1.0,) and record.size_hw == seen_hw


def _refuse_other_engines(engine: str, what: str, *also: str) -> None:
    if engine not in ("torch", *also):
        raise ConfigError(
            f"{what} brings its own engine, so '{engine}' cannot be chosen for it. Give a run "
            "folder to choose among its exports."
        )
