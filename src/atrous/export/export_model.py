"""Export of a trained model to a file of another runtime, which must pass the gate."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from atrous.engines.exported_engine import ExportCard, ExportedEngine, list_export_files
from atrous.engines.open_engine import open_export
from atrous.errors import ConfigError, ExportError
from atrous.evaluation.evaluate import open_run_data
from atrous.evaluation.evaluator import Progress, check_classes
from atrous.export import formats
from atrous.export.gate import MAX_MIOU_DROP, GateResult, run_gate
from atrous.export.options import (
    PACKAGES,
    check_target,
    choose_paths,
    choose_tta,
    find_train_split,
)
from atrous.export.program import build_program
from atrous.export.quantize import CalibrationImages, quantize_model
from atrous.extras import find_versions
from atrous.files import compute_file_sha256
from atrous.models import Segmenter, load_model
from atrous.models.weights import find_weights

NUM_CALIBRATION_IMAGES = 100


@dataclass(frozen=True)
class ExportReport:
    """An exported file that has passed its gate.

    Attributes:
        gates: Results of the gate, by precision.
        restored: Whether layers were reverted to float to pass (INT8 only).
    """

    path: Path
    record_path: Path
    record: ExportRecord
    gates: dict[str, GateResult]
    restored: bool


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
    progress: Progress | None = None,
) -> ExportReport:
    """Export a trained model to another runtime, and compare the file with the original.

    The comparison runs on images of the validation split; see `run_gate` for the tolerances. A
    file that fails is kept as `NAME.rejected.SUFFIX`, and an earlier export is not changed. INT8 is
    calibrated on training images; if it fails, the export is repeated once with the most sensitive
    layers in float.

        from atrous import export_model

        report = export_model("runs/camvid", to="openvino-int8")
        print(report.path, report.gates["int8"].miou_exported)

    Args:
        run_or_file: Run folder, for its best weights, or a weights file.
        to: `onnx`, `onnx-int8`, `openvino`, `openvino-int8` or `pt2` (torch.export).
        out: File to write; by default in the run's `exports` folder, or beside the weights file.
        data: Dataset folder; by default, that of the run.
        split: Split of the gate; by default, the run's validation split, else `val`.
        ignore_index: Mask value of ignored pixels; by default, that of the run or dataset.
        uint8_input: Include normalization: the file takes uint8 (batch, H, W, 3). Only for models
            of 8-bit RGB images.
        mask_output: Include argmax: the file returns uint8 (batch, H, W).
        size_hw: Fixed height and width in pixels; None for any size from 32 up.
        num_gate_images: Images of the split to compare on; None for all.
        num_calibration_images: Maximum number of training images to calibrate INT8 on.
        progress: Called as `progress(done, total)` after each compared image.

    Raises:
        ConfigError: An option is invalid, a package is missing, or no dataset is given. Nothing
            is written.
        DataError: The dataset cannot be read, or has other classes.
        WeightsError: The weights cannot be used.
        ExportError: The model cannot be exported, or the file does not pass the gate.
    """
    check_target(to, size_hw, num_gate_images, num_calibration_images)
    source = Path(run_or_file)
    model = load_model(source)
    assert model.card is not None
    if uint8_input and model.card.ranges is not None:
        raise ConfigError(
            f"--uint8 is for models of 8-bit RGB images, but {source} takes images of "
            f"{len(model.card.ranges)} bands with ranges of their own. Leave it out: the file then "
            "takes normalized float32, and its metadata holds ranges, mean and std."
        )
    card = ExportCard(model.card, to, uint8_input, mask_output, size_hw)
    gate_data = open_run_data(source, model.card, data, split, format, ignore_index)
    check_classes(model.card, gate_data)
    calibration = None
    if to.endswith("int8"):
        train_split = find_train_split(source)
        train_data = open_run_data(source, model.card, data, train_split, format, ignore_index)
        calibration = CalibrationImages(train_data, card, num_calibration_images)
    path, record_path = choose_paths(source, to, out, size_hw)
    export = _Export(
        source, path, record_path, model, card, choose_tta(card), gate_data, num_gate_images,
        calibration, progress,
    )  # fmt: skip
    with _open_temporary_folder(path, record_path) as folder:
        return export.run(folder / path.name)


@dataclass(frozen=True)
class _Export:
    """One export with valid options."""

    source: Path
    out: Path
    record_path: Path
    model: Segmenter
    card: ExportCard
    tta: TTA
    gate_data: SegmentationDataset
    num_gate_images: int | None
    calibration: CalibrationImages | None
    progress: Progress | None

    @property
    def runtime(self) -> str:
        return self.card.target.partition("-")[0]

    def run(self, candidate: Path) -> ExportReport:
        """Write the file to a temporary path, check it, and move it to its place."""
        program = build_program(self.model, self.card)
        self._write(program, candidate)
        gates = self._check(candidate)
        restored = "int8" in gates and not gates["int8"].passed
        if restored:
            self._write(program, candidate, max_miou_drop=MAX_MIOU_DROP["int8"])
            gates = self._check(candidate)
        record = self._build_record(candidate, gates)
        result = next(iter(gates.values()))
        if not result.passed:
            rejected = self.out.with_suffix(f".rejected{self.out.suffix}")
            _move(candidate, rejected)
            raise ExportError(self._explain_failure(rejected, result, restored))
        _move(candidate, self.out)
        save_record(self.record_path, record)
        return ExportReport(self.out, self.record_path, record, gates, restored)

    def _write(
        self, program: ExportedProgram, path: Path, *, max_miou_drop: float | None = None
    ) -> None:
        if self.runtime == "pt2":
            formats.save_program(program, self.card, path)
            return
        onnx_model = formats.build_onnx(program, self.card)
        network: Any = onnx_model if self.runtime == "onnx" else formats.build_openvino(onnx_model)
        if self.calibration is not None:
            network = quantize_model(network, self.calibration, max_miou_drop=max_miou_drop)
        if self.runtime == "onnx":
            formats.add_onnx_card(network, self.card)
            formats.save_onnx(network, path)
        else:
            formats.save_openvino(network, self.card, path)

    def _check(self, path: Path) -> dict[str, GateResult]:
        engine = open_export(path, tta=self.tta, trust=True)
        engines: dict[str, ExportedEngine] = {engine.precision: engine}
        if self.card.target == "openvino" and resolve_precision("auto", engine.device) == "bf16":
            engines["bf16"] = open_export(path, tta=self.tta, precision="bf16")
        return run_gate(
            TorchEngine(self.model, tta=self.tta),
            engines,
            self.gate_data,
            num_images=self.num_gate_images,
            progress=self.progress,
        )

    def _explain_failure(self, rejected: Path, result: GateResult, restored: bool) -> str:
        restoring = " with the most sensitive layers in float" if restored else ""
        return (
            f"The export to {self.card.target}{restoring} differs from its original: on "
            f"{result.num_images} images of '{self.gate_data.split}' {result.describe()}; "
            f"required: {result.tolerance}. It differs most on image {result.worst_image}, in "
            f"class '{result.worst_class}'. The file is kept as {rejected}, and no engine uses it. "
            "Export to another target, or, for int8, calibrate on more images."
        )

    def _build_record(self, path: Path, gates: dict[str, GateResult]) -> ExportRecord:
        files = list_export_files(path)
        folder = self.record_path.parent
        targets = [self.out.with_suffix(file.suffix) for file in files]
        packages = ["atrous", "torch", *PACKAGES[self.runtime]]
        packages += [] if self.calibration is None else ["nncf"]
        return ExportRecord(
            name=name_export(self.card.target, self.card.size_hw),
            target=self.card.target,
            files=tuple(
                target.name if target.parent == folder else str(target.resolve())
                for target in targets
            ),
            sha256=tuple(map(compute_file_sha256, files)),
            weights_sha256=compute_weights_hash(find_weights(self.source)),
            size_hw=self.card.size_hw,
            uint8_input=self.card.uint8_input,
            mask_output=self.card.mask_output,
            gates={precision: result.to_json() for precision, result in gates.items()},
            data={
                "root": str(self.gate_data.root),
                "split": self.gate_data.split,
                "fingerprint": self.gate_data.fingerprint(),
                "num_images": next(iter(gates.values())).num_images,
            },
            versions=find_versions(packages),
        )


@contextmanager
def _open_temporary_folder(path: Path, record_path: Path) -> Iterator[Path]:
    """Make a folder beside a file, from which a finished file is moved in one step."""
    folder = path.parent / f".{path.stem}.{os.getpid()}.tmp"
    try:
        record_path.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise ExportError(
            f"The export cannot be written to {path}: {error.strerror or error}. An earlier export "
            "there is unchanged. Free space, or choose another file with --out."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(path: Path, target: Path) -> None:
    # The file to open is moved last; until then, the hashes in the record do not match.
    for file in reversed(list_export_files(path)):
        os.replace(file, target.with_suffix(file.suffix))
