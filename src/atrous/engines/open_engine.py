"""Opens the engine of a name, such as `openvino` or `auto`."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from atrous.devices import Precision, resolve_device, resolve_precision
from atrous.engines.engine import Engine
from atrous.engines.export_records import (
    ExportRecord,
    compute_weights_hash,
    find_files,
    load_records,
)
from atrous.engines.exported_engine import ExportedEngine
from atrous.engines.fastest import choose_fastest
from atrous.engines.torch_engine import TorchEngine
from atrous.engines.tta import TTA
from atrous.errors import ConfigError, WeightsError, did_you_mean
from atrous.models import Segmenter, load_model
from atrous.models.weights import find_weights, load_card
from atrous.run import RunFolder

TARGETS = ("onnx", "onnx-int8", "openvino", "openvino-int8", "pt2")
"""Export targets, which are also names of engines, beside `torch` and `auto`."""

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}


def open_engine(
    run_or_model: Path | str | Segmenter,
    engine: str = "torch",
    *,
    tta: TTA = TTA(),
    device: str = "auto",
    precision: Precision = "32",
    trust: bool = False,
) -> Engine:
    """Open an engine.

        from atrous.engines import open_engine

        engine = open_engine("runs/camvid", "auto")
        mask = engine.predict_mask(image)

    Args:
        run_or_model: Run folder, weights file, exported file (.onnx, .xml or .pt2) or model.
        engine: `torch`; an export of the run that passed its gate, such as `openvino-int8`; or
            `auto` for the fastest of them on this machine, see `choose_fastest`.
        device: Device of torch; exports run on the CPU. On a GPU, `auto` is torch.
        precision: Precision of torch and `openvino`.
        trust: Whether a .pt2 file may be opened: reading it can run any code. `auto` never
            chooses one.

    Raises:
        ConfigError: The engine or export does not exist, a package is missing, or a .pt2 file is
            not trusted.
        WeightsError: The weights or the exported file cannot be used.
    """
    if isinstance(run_or_model, Segmenter):
        _require_default(engine, "A model in memory")
        return TorchEngine(run_or_model, tta=tta, precision=precision)
    path = Path(run_or_model)
    if path.suffix in SUFFIXES.values():
        _require_default(engine, f"The exported file {path}", "auto")
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
    weights = find_weights(path)
    weights_sha256 = compute_weights_hash(weights)
    for record in records.values():
        if _is_equivalent(record, weights, weights_sha256, tta):
            for gated in filter(record.passed, record.gates):
                label = f"{record.name} {gated} {record.sha256[0][:16]}"
                candidates[label] = partial(_open_record, run, record, tta, gated)
    return choose_fastest(run, candidates)


def open_export(
    path: Path, *, tta: TTA = TTA(), precision: Precision = "32", trust: bool = False
) -> ExportedEngine:
    """Open an exported file: .onnx, .xml or .pt2, the last only with `trust`.

    The precision is that of an OpenVINO file that is not int8.

    Raises:
        ConfigError: A package is missing, or a .pt2 file is not trusted.
        WeightsError: The file cannot be used.
    """
    if path.suffix not in SUFFIXES.values():
        known = ", ".join(SUFFIXES.values())
        raise WeightsError(
            f"{path} is not an exported file, which ends in {known}. Export it again."
        )
    if path.suffix == SUFFIXES["onnx"]:
        from atrous.engines.onnx_engine import OnnxEngine

        return OnnxEngine(path, tta=tta)
    if path.suffix == SUFFIXES["openvino"]:
        from atrous.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(path, tta=tta, precision=precision)
    if not trust:
        raise ConfigError(
            f"{path} is a program of torch.export: reading it can run any code. If you trust its "
            "source, add --trust (in Python, trust=True); otherwise use --engine torch, or an "
            "export to onnx or openvino."
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
    if record.target != "openvino" and precision == "bf16":
        raise ConfigError(
            f"The export {record.name} cannot compute in bf16; only exports to openvino can. "
            "Use --precision 32, or another engine."
        )
    gated = "int8" if "int8" in record.target else "32"
    if record.target == "openvino":
        gated = resolve_precision(precision, torch.device("cpu"))
    if not record.passed(gated):
        passed = ", ".join(filter(record.passed, record.gates)) or "none"
        raise ConfigError(
            f"The export {record.name} of {run.path} has not passed its gate in precision "
            f"{gated} (passed: {passed}). Use another precision or engine, or export it again."
        )
    engine = open_export(file, tta=tta, precision=precision, trust=trust)  # type: ignore[arg-type]
    card = load_card(find_weights(run.path))
    if card is not None:  # its temperature may have been fitted after the export
        engine.card = replace(engine.card, temperature=card.temperature)
    engine.name = record.name
    return engine


def _find_record(path: Path, records: dict[str, ExportRecord], engine: str) -> ExportRecord:
    if engine in records:
        record = records[engine]
        if record.weights_sha256 != compute_weights_hash(find_weights(path)):
            raise ConfigError(
                f"The export {engine} was made of other weights than {path} has now. Export it "
                f"again: atrous export {path} --to {record.target}"
            )
        return record
    if engine in TARGETS:
        raise ConfigError(
            f"{path} has no export {engine}. Make it first: atrous export {path} --to {engine}"
        )
    known = ["torch", "auto", *TARGETS, *records]
    raise ConfigError(f"There is no engine '{engine}'.{did_you_mean(engine, known)}")


def _is_equivalent(record: ExportRecord, weights: Path, weights_sha256: str, tta: TTA) -> bool:
    """Return whether an export gives the predictions of the weights under `tta`."""
    if record.weights_sha256 != weights_sha256 or record.mask_output or record.target == "pt2":
        return False
    if tta.samples > 1:  # exports have no dropout
        return False
    if record.size_hw is None:
        return True
    card = load_card(weights)
    input_hw = card and card.size_hw and tta.compute_window_hw(*card.size_hw)
    return tta.scales == (1.0,) and record.size_hw == input_hw


def _require_default(engine: str, subject: str, *also: str) -> None:
    if engine not in ("torch", *also):
        raise ConfigError(
            f"{subject} has one engine only, so '{engine}' cannot be chosen for it. Give a run "
            "folder to choose among its exports."
        )
