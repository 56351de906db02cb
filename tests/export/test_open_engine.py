"""Opening engines by name, and the choice of the fastest."""

import json
import shutil
import sys

import pytest
import torch
from PIL import Image

from atrous.engines import TTA, fastest, open_engine
from atrous.engines.open_engine import open_export
from atrous.errors import ConfigError, WeightsError
from atrous.evaluation import evaluate
from atrous.export import export_model
from atrous.models import load_model, save_weights
from atrous.prediction import predict

pytestmark = pytest.mark.slow  # exports


@pytest.fixture
def copied_run(exported, run, tmp_path):
    """A copy of the run with one export."""
    exported("pt2")
    return copy_run(run, tmp_path / "run", "pt2")


def copy_run(run, target, *names):
    """Copy a run with some of its exports."""
    shutil.copytree(run, target, ignore=shutil.ignore_patterns("exports"))
    (target / "exports").mkdir()
    for name in names:
        for file in (run / "exports").glob(f"{name}.*"):
            shutil.copy(file, target / "exports")
    return target


def test_predict_and_evaluate_take_an_engine(exported, run, data, tmp_path):
    target = "onnx"
    path = exported(target).path
    by_torch = evaluate(run, data)
    by_export = evaluate(run, data, engine=target)
    assert (by_torch.engine, by_export.engine) == ("torch", target)
    assert by_export.scores.miou == pytest.approx(by_torch.scores.miou, abs=1e-4)
    assert by_export.confidence.temperature == 1.5
    image = tmp_path / "a.png"
    Image.new("RGB", (70, 50), "orange").save(image)
    for number, (source, engine) in enumerate([(run, "torch"), (run, target), (path, "torch")]):
        predict(source, image, tmp_path / str(number), engine=engine)
    masks = [(tmp_path / str(number) / "a.png").read_bytes() for number in range(3)]
    assert masks[1] == masks[2]
    assert len({len(mask) for mask in masks}) <= 2


@pytest.fixture
def measured(monkeypatch):
    """Replace the measurement; returns the measured labels."""
    calls = []

    def measure(openers):
        calls.append(list(openers))
        return {label: 1.0 if label.startswith("torch") else 0.5 for label in openers}

    monkeypatch.setattr(fastest, "measure_engines", measure)
    return calls


def test_auto_takes_the_fastest_passed_export_and_keeps_the_times(
    need, exported, run, measured, tmp_path
):
    need("onnx")
    exported("onnx")
    exported("pt2")
    run = copy_run(run, tmp_path / "run", "onnx", "pt2")
    assert open_engine(run, "auto", device="cpu").name == "onnx"
    assert open_engine(run, "auto", device="cpu").name == "onnx"
    assert len(measured) == 1
    assert "torch 32" in measured[0]
    assert not [label for label in measured[0] if "pt2" in label]
    (entry,) = json.loads((run / "exports" / "speed.json").read_text())
    assert entry["machine"]["versions"]["torch"]
    assert entry["seconds"]["torch 32"] == 1.0


def test_another_machine_measures_again(need, exported, run, measured, tmp_path, monkeypatch):
    need("onnx")
    exported("onnx")
    run = copy_run(run, tmp_path / "run", "onnx")
    open_engine(run, "auto", device="cpu")
    monkeypatch.setattr(fastest, "describe_machine", lambda: {"processor": "another"})
    open_engine(run, "auto", device="cpu")
    assert len(measured) == 2
    assert len(json.loads((run / "exports" / "speed.json").read_text())) == 2


def test_auto_without_exports_is_torch_and_exports_of_other_weights_are_refused(
    copied_run, new_run
):
    assert open_engine(new_run, "auto", device="cpu").name == "torch"
    assert not (new_run / "exports").exists()
    model = load_model(copied_run)
    assert open_engine(copied_run, "pt2", trust=True).name == "pt2"
    save_weights(copied_run / "best.safetensors", model, model.card)
    assert open_engine(copied_run, "pt2", trust=True).name == "pt2", (
        "the same weights, written again"
    )
    with torch.no_grad():
        model.head.classifier.bias += 1
    save_weights(copied_run / "best.safetensors", model, model.card)
    with pytest.raises(ConfigError, match="made of other weights"):
        open_engine(copied_run, "pt2", trust=True)
    assert open_engine(copied_run, "auto", device="cpu").name == "torch"


def test_engines_that_cannot_be_opened_are_not_measured(model):
    def broken():
        raise WeightsError("damaged")

    openers = {"torch": lambda: open_engine(model), "broken": broken}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastest, "IMAGE_HW", (64, 64))
        seconds = fastest.measure_engines(openers)
    assert seconds["torch"] > 0
    assert seconds["broken"] is None


def test_engines_that_cannot_be_opened_are_errors(copied_run, model):
    file = copied_run / "exports" / "pt2.pt2"
    cases = [
        ((copied_run, "openvinoo"), ConfigError, "Did you mean 'openvino'"),
        ((copied_run, "openvino"), ConfigError, r"atrous export .* --to openvino"),
        ((copied_run / "best.safetensors", "onnx"), ConfigError, "has no export onnx"),
        ((model, "onnx"), ConfigError, "one engine only"),
        ((file, "torch"), ConfigError, "--trust"),
        ((copied_run, "pt2"), ConfigError, "--trust"),
    ]
    for arguments, kind, message in cases:
        with pytest.raises(kind, match=message):
            open_engine(*arguments)
    with pytest.raises(ConfigError, match="cannot compute in bf16"):
        open_engine(copied_run, "pt2", trust=True, precision="bf16")
    with pytest.raises(ConfigError, match="exported without dropout"):
        open_engine(copied_run, "pt2", trust=True, tta=TTA(samples=2))
    with pytest.raises(ConfigError, match="--engine torch"):
        evaluate(copied_run, output_stride=8, engine="pt2")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="not the file that passed the gate"):
        open_engine(copied_run, "pt2", trust=True)
    with pytest.raises(WeightsError, match="cannot be read as an exported model"):
        open_export(file.with_name("none.pt2"), trust=True)
    file.unlink()
    with pytest.raises(WeightsError, match="is missing"):
        open_engine(copied_run, "pt2", trust=True)


def test_predict_evaluate_and_serve_pass_trust_on(copied_run, data, tmp_path):
    from atrous.serve.service import build_service

    image = tmp_path / "a.png"
    Image.new("RGB", (64, 64), "orange").save(image)
    calls = {
        "predict": lambda **options: predict(copied_run, image, tmp_path / "out", **options),
        "evaluate": lambda **options: evaluate(copied_run, data, **options),
        "serve": lambda **options: build_service([copied_run], **options).load(),
    }
    for call in calls.values():
        with pytest.raises(ConfigError, match="--trust"):
            call(engine="pt2")
        call(engine="pt2", trust=True)


def test_no_record_opens_a_program_without_trust(copied_run, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the file was read")

    monkeypatch.setattr(torch.export, "load", refuse)
    path = copied_run / "exports" / "pt2.json"
    record = json.loads(path.read_text())
    for target in ("pt2", "onnx", "onnx-int8", "openvino"):
        gates = {"int8" if "int8" in target else "32": {"passed": True}}
        path.write_text(json.dumps({**record, "name": target, "target": target, "gates": gates}))
        with pytest.raises(ConfigError, match="--trust"):
            open_engine(copied_run, target)
        assert open_engine(copied_run, "auto", device="cpu", trust=True).name == "torch"
    for damage in (
        {"files": [1]}, {"files": []}, {"sha256": []}, {"gates": 1}, {"size_hw": [0]}, {"more": 1},
    ):  # fmt: skip
        path.write_text(json.dumps({**record, **damage}))
        with pytest.raises(ConfigError, match="has no export pt2"):
            open_engine(copied_run, "pt2", trust=True)
    (copied_run / "exports" / "a.json").write_text("[" * 100_000)
    (copied_run / "exports" / "speed.json").write_text('[{"machine": {}, "seconds": []}]')
    assert open_engine(copied_run, "auto", device="cpu").name == "torch"


@pytest.mark.parametrize("target", ["onnx", "openvino"])
@pytest.mark.parametrize("content", [None, b"", b"rubbish", b"<?xml version='1.0'?><net/>"])
def test_a_damaged_file_is_named(need, target, content, tmp_path):
    need(target)
    path = tmp_path / {"onnx": "a.onnx", "openvino": "a.xml"}[target]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=str(path)):
        open_export(path)


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    for module, name in (("onnxruntime", "a.onnx"), ("openvino", "a.xml")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ConfigError, match=rf"{module}.*pip install 'atrous\[export\]'"):
            open_export(tmp_path / name)


def test_bf16_of_openvino_has_its_own_gate(exported, run):
    report = exported("openvino")
    if "bf16" not in report.gates:
        pytest.skip("this processor does not compute in bf16")
    assert report.gates["bf16"].max_logit_difference > report.gates["32"].max_logit_difference
    engine = open_engine(run, "openvino", tta=TTA(flip=True), precision="bf16")
    assert engine.precision == "bf16"


def test_a_file_of_fixed_size_needs_windows_of_that_size(data, new_run):
    export_model(new_run, "pt2", data=data, size_hw=(64, 64))
    image = torch.zeros(3, 80, 70, dtype=torch.uint8)
    engine = open_engine(new_run, "pt2-64x64", trust=True, tta=TTA(window_px=64))
    expected = open_engine(new_run, tta=TTA(window_px=64)).compute_logits(image)
    assert torch.allclose(engine.compute_logits(image), expected, atol=1e-4)
    assert engine.compute_logits(image[:, :50, :40]).shape[-2:] == (50, 40)
    with pytest.raises(ConfigError, match="64 × 64 pixels only"):
        open_engine(new_run, "pt2-64x64", trust=True).compute_logits(image)
