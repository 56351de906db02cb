"""From a run to an exported file that has proved to be the same."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from atrous.data import SegmentationDataset
from atrous.devices import resolve_precision
from atrous.engines import TTA, TorchEngine
from atrous.engines.export_records import (
    ExportRecord,
    compute_weights_hash,
    name_export,
    save_record,
)
from atrous.engines.exported import ExportCard, ExportedEngine
from atrous.engines.open_engine import open_export
from atrous.errors import ExportError
from atrous.evaluation.evaluate import open_run_data
from atrous.evaluation.evaluator import check_classes
from atrous.export import formats
from atrous.export.parity import MAX_MIOU_DROP, GateResult, run_gate
from atrous.export.program import build_program
from atrous.export.quantize import CalibrationImages, quantize_model
from atrous.export.request import (
    PACKAGES,
    check_target,
    choose_paths,
    choose_tta,
    find_train_split,
)
from atrous.files import compute_file_sha256
from atrous.models import Segmenter, load_model
from atrous.models.weights import find_weights

NUM_CALIBRATION_IMAGES = 100

Report = Callable[[str, int, int], object]
"""Called with what is being done, and the number of images done and of all."""


@dataclass(frozen=True)
class ExportReport:
    """An exported file that has passed its gate.

    Attributes:
        path: The file.
        record_path: What is remembered of it.
        record: The same, as written there.
        gates: What the gate found, by precision.
        restored: Whether layers were put back to float to pass (INT8 only).
    """

    path: Path
    record_path: Path
    record: ExportRecord
    gates: dict[str, GateResult]
    restored: bool


@dataclass(frozen=True)
class _Job:
    """All that one export needs, checked before anything is written."""

    source: Path
    out: Path
    record_path: Path
    model: Segmenter
    card: ExportCard
    tta: TTA
    gate_data: SegmentationDataset
    num_gate_images: int | None
    calibration: CalibrationImages | None
    progress: Report | None

    @property
    def kind(self) -> str:
        """Return `onnx`, `openvino` or `pt2`."""
        return self.card.target.partition("-")[0]


def export_model(
    run_or_file: Path | str,
    to: str,
    out: Path | str | None = None,
    *,
    data: Path | str | None = None,
    split: str | None = None,
    format: str = "auto",
    ignore_index: int | None = None,
    uint8_input: bool = False,
    mask_output: bool = False,
    size_hw: tuple[int, int] | None = None,
    num_gate_images: int | None = None,
    num_calibration_images: int = NUM_CALIBRATION_IMAGES,
    progress: Report | None = None,
) -> ExportReport:
    """Write a trained model as a file of another runtime, and check it against the original.

    The file is compared with the original on images of the validation split; see `run_gate` for
    the tolerances. One beyond them is kept as `NAME.rejected.SUFFIX`, an earlier export stays, and
    the error names the image and class that differ most. INT8 is calibrated on training images;
    if it does not pass, the layers that cost most accuracy are put back to float and it is tried
    once more.

        from atrous import export_model

        report = export_model("runs/camvid", to="openvino-int8")
        print(report.path, report.gates["int8"].miou_exported)

    Args:
        run_or_file: Run folder, of which the best weights are taken, or a weights file.
        to: `onnx`, `onnx-int8`, `openvino`, `openvino-int8` or `pt2` (torch.export).
        out: File to write; by default in the run's `exports` folder, or beside the weights file.
        data: Folder of the data set; unset, that of the run.
        split: Split of the gate; unset, the run's validation split, else `val`.
        format: `voc`, `pairs`, or `auto` to look.
        ignore_index: Mask value of no class; unset, what the run or the data says.
        uint8_input: Put normalisation inside: the file takes uint8 (batch, H, W, 3).
        mask_output: Put the comparison of the classes inside: it gives uint8 (batch, H, W).
        size_hw: The only height and width to take; None takes any from 32 up.
        num_gate_images: Images of the split to compare on; None for all.
        num_calibration_images: Training images that INT8 takes its ranges from.
        progress: Called after each image.

    Raises:
        ConfigError: An option cannot be used, a package is missing, or there is no data to check
            on. Nothing is written then.
        DataError: The data cannot be used, or is of other classes.
        WeightsError: The weights cannot be used.
        ExportError: The model cannot be exported, or the export did not pass its gate.
    """
    check_target(to, size_hw, num_gate_images, num_calibration_images)
    source = Path(run_or_file)
    model = load_model(source)
    assert model.card is not None
    card = ExportCard(model.card, to, uint8_input, mask_output, size_hw)
    gate_data = open_run_data(source, data, split, format, ignore_index)
    check_classes(model.card, gate_data)
    calibration = None
    if to.endswith("int8"):
        train_data = open_run_data(source, data, find_train_split(source), format, ignore_index)
        calibration = CalibrationImages(train_data, card, num_calibration_images)
    path, record_path = choose_paths(source, to, out, size_hw)
    tta = choose_tta(card)
    job = _Job(
        source, path, record_path, model, card, tta, gate_data, num_gate_images, calibration,
        progress,
    )  # fmt: skip
    with _write_aside(job) as folder:
        return _run(job, folder)


def _run(job: _Job, folder: Path) -> ExportReport:
    program = build_program(job.model, job.card)
    candidate = folder / job.out.name
    _write(job, program, candidate)
    gates = _gate(job, candidate)
    restored = False
    if "int8" in gates and not gates["int8"].passed:
        restored = True
        _write(job, program, candidate, max_miou_drop=MAX_MIOU_DROP["int8"])
        gates = _gate(job, candidate)
    record = _build_record(job, candidate, gates)
    if not next(iter(gates.values())).passed:
        rejected = job.out.with_suffix(f".rejected{job.out.suffix}")
        message = _explain_failure(job, rejected, gates, restored)
        _move(candidate, rejected)
        raise ExportError(message)
    _move(candidate, job.out)
    save_record(job.record_path, record)
    return ExportReport(job.out, job.record_path, record, gates, restored)


def _write(
    job: _Job, program: ExportedProgram, path: Path, *, max_miou_drop: float | None = None
) -> None:
    if job.kind == "pt2":
        formats.save_program(program, job.card, path)
        return
    onnx_model = formats.build_onnx(program, job.card)
    network: Any = onnx_model if job.kind == "onnx" else formats.build_openvino(onnx_model)
    if job.calibration is not None:
        if job.progress is not None:
            job.progress("calibrating", 0, 0)
        network = quantize_model(network, job.calibration, max_miou_drop=max_miou_drop)
    if job.kind == "onnx":
        formats.add_onnx_card(network, job.card)
        formats.save_onnx(network, path)
    else:
        formats.save_openvino(network, job.card, path)


def _gate(job: _Job, path: Path) -> dict[str, GateResult]:
    original = TorchEngine(job.model, tta=job.tta)
    engine = open_export(path, tta=job.tta, trust=True)
    engines: dict[str, ExportedEngine] = {engine.precision: engine}
    if job.card.target == "openvino" and resolve_precision("auto", engine.device) == "bf16":
        engines["bf16"] = open_export(path, tta=job.tta, precision="bf16")
    report = job.progress
    return run_gate(
        original,
        engines,
        job.gate_data,
        num_images=job.num_gate_images,
        progress=None if report is None else lambda done, total: report("checking", done, total),
    )


def _explain_failure(
    job: _Job, rejected: Path, gates: dict[str, GateResult], restored: bool
) -> str:
    result = next(iter(gates.values()))
    tried = " with the most sensitive layers put back to float" if restored else ""
    return (
        f"The export to {job.card.target}{tried} is not the same as its original: on "
        f"{result.num_images} images of '{job.gate_data.split}' {result.describe()}; asked for: "
        f"{result.tolerance}. It differs most on image {result.worst_image}, in class "
        f"'{result.worst_class}'. The file is kept as {rejected} for a look, and no engine "
        "uses it. Export to another target, or, for int8, calibrate on more images."
    )


def _build_record(job: _Job, path: Path, gates: dict[str, GateResult]) -> ExportRecord:
    files = formats.list_files(path)
    folder = job.record_path.parent
    targets = [job.out.with_suffix(file.suffix) for file in files]
    versions = {}
    for package in ("atrous", "torch", *PACKAGES[job.kind], "nncf"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    if job.calibration is None:
        versions.pop("nncf", None)
    return ExportRecord(
        name=name_export(job.card.target, job.card.size_hw),
        target=job.card.target,
        files=tuple(
            target.name if target.parent == folder else str(target.resolve()) for target in targets
        ),
        sha256=tuple(map(compute_file_sha256, files)),
        weights_sha256=compute_weights_hash(find_weights(job.source)),
        size_hw=job.card.size_hw,
        uint8_input=job.card.uint8_input,
        mask_output=job.card.mask_output,
        gates={precision: result.to_json() for precision, result in gates.items()},
        data={
            "root": str(job.gate_data.root),
            "split": job.gate_data.split,
            "fingerprint": job.gate_data.fingerprint(),
            "num_images": next(iter(gates.values())).num_images,
        },
        versions=versions,
    )


@contextmanager
def _write_aside(job: _Job) -> Iterator[Path]:
    """Give a folder beside the target, so that moving a whole file from it is one step."""
    folder = job.out.parent / f".{job.out.stem}.{os.getpid()}.tmp"
    try:
        job.record_path.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise ExportError(
            f"Cannot write the export to {job.out}: {error.strerror or error}. What an earlier "
            "export wrote there is untouched. Free space, or choose another file with --out."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(path: Path, target: Path) -> None:
    # The file that is opened first goes last; until then, the hashes in the record tell.
    for file in reversed(formats.list_files(path)):
        os.replace(file, target.with_suffix(file.suffix))
