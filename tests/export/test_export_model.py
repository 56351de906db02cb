"""Exports: equality with torch, metadata, records and the gate."""

import copy
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import atrous
from atrous.data import open_dataset
from atrous.engines import TTA, TorchEngine, open_engine
from atrous.engines.exported_engine import ExportCard, list_export_files
from atrous.engines.logits import compute_mask
from atrous.engines.open_engine import open_export
from atrous.errors import ConfigError, DataError, ExportError, WeightsError
from atrous.export import export_model, formats, run_gate
from atrous.export.program import build_program
from atrous.export.quantize import CalibrationImages, quantize_model

pytestmark = pytest.mark.slow  # exports

SIZES = [(64, 96), (65, 97), (33, 47)]


def random_image(height, width):
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("target", ["onnx", "openvino", "pt2"])
def test_an_export_equals_torch_at_any_size(target, exported, model):
    engine = open_export(exported(target).path, trust=True)
    original = TorchEngine(model)
    for size in SIZES:
        image = random_image(*size)
        expected = original.compute_logits(image)
        assert torch.allclose(engine.compute_logits(image), expected, atol=1e-4)
        agreement = (engine.predict_mask(image) == compute_mask(expected)).float().mean()
        assert agreement > 0.999


@pytest.mark.parametrize("target", ["onnx", "openvino", "pt2"])
def test_tta_of_an_export_equals_torch(target, exported, model):
    tta, image = TTA((0.75, 1.0), flip=True, window_px=48), random_image(50, 81)
    engine = open_export(exported(target).path, tta=tta, trust=True)
    expected = TorchEngine(model, tta=tta).compute_logits(image)
    assert torch.allclose(engine.compute_logits(image), expected, atol=1e-4)


@pytest.mark.parametrize("target", ["onnx", "openvino", "pt2"])
def test_the_file_has_the_card_and_no_paths_of_this_machine(target, exported, model):
    report = exported(target)
    assert open_export(report.path, trust=True).card == model.card
    source = str(Path(atrous.__file__).parent).encode()
    for file in list_export_files(report.path):
        assert source not in file.read_bytes()


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_the_metadata_can_be_read_without_this_package(target, exported, model):
    path = exported(target).path
    if target == "onnx":
        onnx = pytest.importorskip("onnx")
        text = {item.key: item.value for item in onnx.load(str(path)).metadata_props}["atrous"]
        onnx.checker.check_model(str(path))
    else:
        openvino = pytest.importorskip("openvino")
        text = openvino.Core().read_model(str(path)).get_rt_info(["atrous", "card"]).value
    values = json.loads(text)
    assert tuple(values["classes"]["names"]) == model.card.classes.names
    assert values["mean"] == [0.5, 0.4, 0.3]
    assert values["temperature"] == 1.5
    assert values["export"] == {
        "target": target, "uint8_input": False, "mask_output": False, "size_hw": None
    }  # fmt: skip


@pytest.mark.parametrize("target", ["onnx-int8", "openvino-int8"])
def test_int8_is_small_and_close(target, exported, model):
    report = exported(target)
    assert report.gates["int8"].passed
    num_bytes = sum(file.stat().st_size for file in list_export_files(report.path))
    assert num_bytes < 0.4 * 4 * sum(tensor.numel() for tensor in model.state_dict().values())
    image = (
        open_dataset(json.loads(report.record_path.read_text())["data"]["root"], "val")
        .load(0)
        .image
    )
    exact = TorchEngine(model).compute_logits(image)
    engine = open_export(report.path)
    assert engine.precision == "int8"
    near = engine.compute_logits(image)
    assert not torch.equal(near, exact)
    assert (near - exact).square().mean().sqrt() < 0.2 * exact.std()


def test_the_record_holds_hashes_and_gates(exported, model, run):
    report = exported("pt2")
    assert report.record_path == run / "exports" / "pt2.json"
    record = json.loads(report.record_path.read_text())
    assert record["files"] == ["pt2.pt2"]
    gate = record["gates"]["32"]
    assert gate["passed"]
    assert gate["max_logit_difference"] <= 1e-4
    assert gate["pixel_agreement"] == 1
    assert gate["miou_original"] == gate["miou_exported"]
    assert record["data"]["num_images"] == 3
    assert not [path for path in report.path.parent.iterdir() if path.name.startswith(".")]


def test_normalization_and_argmax_at_a_fixed_size(need, data, model, new_run):
    need("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    report = export_model(
        new_run, "onnx", data=data, uint8_input=True, mask_output=True, size_hw=(64, 64)
    )
    assert report.path.name == "onnx-64x64.onnx"
    image = random_image(64, 64)
    session = onnxruntime.InferenceSession(str(report.path))
    (mask,) = session.run(None, {"image": image.permute(1, 2, 0)[None].numpy()})
    assert (mask.dtype, mask.shape) == (np.uint8, (1, 64, 64))
    expected = TorchEngine(model).predict_mask(image)
    assert (torch.from_numpy(mask[0]) == expected).float().mean() > 0.999

    engine = open_export(report.path)
    assert torch.equal(engine.predict_mask(image), torch.from_numpy(mask[0]))
    with pytest.raises(ConfigError, match=r"64 × 64 pixels only.*--window 64"):
        engine.predict_mask(random_image(64, 65))
    with pytest.raises(ConfigError, match="masks only"):
        engine.compute_logits(image)
    windowed = open_export(report.path, tta=TTA(window_px=64))
    assert windowed.predict_mask(random_image(90, 40)).shape == (90, 40)


@pytest.fixture
def tampered(model):
    """The model with other weights in one layer."""
    wrong = copy.deepcopy(model)
    with torch.no_grad():
        wrong.backbone.layer2[1].conv1.weight.mul_(8)
    return wrong


def test_a_tampered_export_fails_and_names_image_and_class(tampered, data, monkeypatch, new_run):
    save_program = formats.save_program

    def save_wrong(program, card, path):
        save_program(build_program(tampered, card), card, path)

    monkeypatch.setattr(formats, "save_program", save_wrong)
    with pytest.raises(ExportError, match=r"differs most on image .+, in class '") as error:
        export_model(new_run, "pt2", data=data)
    assert "required: logits within 0.001 and 99.99% of the pixels" in str(error.value)
    assert [path.name for path in (new_run / "exports").iterdir()] == ["pt2.rejected.pt2"]
    with pytest.raises(ConfigError, match="has no export pt2"):
        open_engine(new_run, "pt2")


def test_a_failed_export_does_not_change_the_earlier_one(
    exported, run, data, tmp_path, monkeypatch
):
    exported("pt2")
    run = shutil.copytree(run, tmp_path / "run")
    before = {path: path.read_bytes() for path in (run / "exports").iterdir()}

    def fail(program, card, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "save_program", fail)
    with pytest.raises(ExportError, match=r"No space left.*earlier export there is unchanged"):
        export_model(run, "pt2", data=data)
    assert {path: path.read_bytes() for path in (run / "exports").iterdir()} == before


def test_nan_does_not_pass_the_gate(exported, model, data, monkeypatch):
    engine = open_export(exported("pt2").path, trust=True)
    run = engine.run
    factors = iter([np.nan, np.nan])  # for both precisions of the first image
    monkeypatch.setattr(engine, "run", lambda array: next(factors, 1) * run(array))
    dataset = open_dataset(data, "val")
    gate = run_gate(TorchEngine(model), {"32": engine, "int8": engine}, dataset, num_images=2)
    assert not gate["32"].passed
    assert not gate["int8"].passed
    assert np.isnan([gate["32"].max_logit_difference, gate["int8"].max_logit_difference]).all()
    assert json.dumps(gate["32"].to_json(), allow_nan=False)
    assert gate["32"].num_images == 2


def test_invalid_options_write_nothing(run, data, tmp_path, monkeypatch):
    weights = run / "best.safetensors"
    out = tmp_path / "new" / "a.pt2"
    cases = [
        ((run, "onxx", out), {}, ConfigError, "Did you mean 'onnx'"),
        ((run, "pt2", out), {}, ConfigError, "give the data"),
        ((weights, "pt2", out), {}, ConfigError, "give the data"),
        ((run, "pt2", out), {"data": tmp_path / "none"}, DataError, "no folder"),
        ((run, "pt2", out), {"data": data, "split": "test"}, DataError, "no split 'test'"),
        ((run, "pt2", tmp_path / "new" / "a.onnx"), {"data": data}, ConfigError, r"a\.pt2"),
        ((run, "pt2", out), {"data": data, "size_hw": (16, 64)}, ConfigError, "below 32"),
        ((run, "pt2", out), {"data": data, "size_hw": (64, 96)}, ConfigError, "windows are square"),
        ((run, "pt2", out), {"data": data, "num_gate_images": 0}, ConfigError, "at least one"),
        ((tmp_path, "pt2", out), {"data": data}, WeightsError, r"neither best\.safetensors"),
    ]
    for arguments, options, kind, message in cases:
        with pytest.raises(kind, match=message):
            export_model(*arguments, **options)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"package onnx.*pip install 'atrous\[export\]'"):
        export_model(run, "onnx", out.with_suffix(".onnx"), data=data)
    assert not out.parent.exists()


def test_a_weights_file_is_exported_beside_itself(data, new_run):
    report = export_model(new_run / "best.safetensors", "pt2", data=data, num_gate_images=1)
    assert {path.name for path in new_run.iterdir()} == {
        "best.safetensors", "best-pt2.pt2", "best-pt2.json"
    }  # fmt: skip
    assert report.record.files == ("best-pt2.pt2",)


@pytest.mark.parametrize("target", ["onnx-int8", "openvino-int8"])
def test_layers_that_int8_breaks_are_reverted_to_float(need, target, data, model, tmp_path):
    need(target)
    torch.manual_seed(0)
    # One channel is 1000 times as large as the others, whose values then need more than 8 bits.
    first, last = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 1)
    with torch.no_grad():
        first.weight[0] *= 1000
        last.weight[:, 0] /= 1000
    network = torch.nn.Sequential(first, torch.nn.ReLU(), last).eval()
    shutil.copytree(data, tmp_path / "data")
    card = ExportCard(model.card, target, uint8_input=False, mask_output=False, size_hw=None)
    images = CalibrationImages(open_dataset(tmp_path / "data", "train"), card, 4)
    arrays = [torch.from_numpy(images.load(index)[0]) for index in images.indices]
    with torch.no_grad():
        last.bias -= torch.cat([network(array) for array in arrays]).mean((0, 2, 3))
        for index, array in zip(images.indices, arrays, strict=True):
            mask = network(array)[0].argmax(dim=0)
            Image.fromarray(mask.byte().numpy()).save(images.dataset.mask_paths[index])
    onnx_model = formats.build_onnx(build_program(network, card), card)
    exact = onnx_model if target == "onnx-int8" else formats.build_openvino(onnx_model)

    def compute_agreement(quantized, path):
        if target == "onnx-int8":
            formats.add_onnx_card(quantized, card)
            formats.save_onnx(quantized, path)
        else:
            formats.save_openvino(quantized, card, path)
        engine = open_export(path, trust=True)
        samples = [images.dataset.load(index) for index in images.indices]
        masks = [engine.predict_mask(sample.image) for sample in samples]
        pairs = zip(masks, samples, strict=True)
        return torch.stack([(mask == sample.mask).float().mean() for mask, sample in pairs]).mean()

    suffix = ".onnx" if target == "onnx-int8" else ".xml"
    broken = quantize_model(exact, images)
    mended = quantize_model(exact, images, max_miou_drop=0.005)
    assert compute_agreement(broken, tmp_path / f"broken{suffix}") < 0.9
    assert compute_agreement(mended, tmp_path / f"mended{suffix}") > 0.99
