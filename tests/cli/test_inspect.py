"""`atrous inspect` from outside."""

import json
from functools import partial

import pytest

from atrous.classes import build_classes
from atrous.models import ModelCard, build_model, save_weights


@pytest.fixture
def inspect(atrous, monkeypatch):
    """Run `atrous inspect`, 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")
    return partial(atrous, "inspect")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A weights file of a small model with three classes, made for images of 64×64."""
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    model = build_model("deeplabv3plus_mobilenet_v3_large", num_classes=3, decoder_channels=8)
    classes = build_classes(["a", "b", "c"], [[0, 0, 0], [1, 1, 1], [2, 2, 2]])
    card = ModelCard(model.name, model.options, classes, (0, 0, 0), (1, 1, 1), (64, 64), {})
    save_weights(path, model, card)
    return path


def test_the_reports_setting_in_80_columns(inspect, tmp_path):
    code, output = inspect("deeplabv3_report", "--size", 256, "--plot", tmp_path / "taps.png")
    assert code == 0
    assert max(map(len, output.out.splitlines())) <= 80
    rows = [line.split() for line in output.out.splitlines()]
    assert ["head.aspp.3", "16", "16×16", "1.00", "of", "9", "11%", "4,194,304"] in rows
    assert "39,703,423 parameters" in output
    assert output.count("Warning:") == 1
    assert (tmp_path / "taps.png").read_bytes().startswith(b"\x89PNG")


def test_json_alone_goes_to_the_screen(inspect):
    code, output = inspect(
        "deeplabv3_resnet18", "--size", "64x96", "--set", "atrous_rates=[2, 4]", "--json", "-",
        "--num-classes", 4,
    )  # fmt: skip
    assert code == 0
    values = json.loads(output.out)
    assert values["size_hw"] == [64, 96]
    assert values["options"]["num_classes"] == 4
    assert {conv["rate"] for conv in values["atrous_convs"]} == {2, 4}


def test_a_weights_file_and_its_run_folder(inspect, weights, tmp_path):
    code, output = inspect(weights.parent, "--json", tmp_path / "new" / "model.json")
    assert code == 0
    assert "64×64 px" in output
    values = json.loads((tmp_path / "new/model.json").read_text())
    assert values["options"]["num_classes"] == 3
    code, output = inspect(weights, "--set", "model.output_stride=8", "--json", "-")
    assert code == 0
    assert json.loads(output.out)["options"]["output_stride"] == 8


def test_taps_that_training_never_reached_are_listed(inspect, weights):
    size = ["--size", "512", "--train-size", "64"]
    code, output = inspect("deeplabv3plus_efficientnet_lite0", *size)
    assert code == 0
    assert "Training images of 64×64 px never reached these taps, but 512×512 px do" in output
    rows = [line.split() for line in output.out.splitlines() if "not zero" in line]
    assert [row[1:5] for row in rows] == [[rate, "8", "of", "9"] for rate in ("6", "12", "18")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deeplabv3_resnet5"], "Did you mean"),
        (["{tmp}"], "best.safetensors"),
        (["deeplabv3_report", "--size", "big"], "256x512"),
        (["deeplabv3_report", "--size", "16"], "at least 32 px"),
        (["deeplabv3_report", "--set", "output_stride"], "option=value"),
        (["deeplabv3_report", "--set", "outputstride=8"], "Did you mean 'output_stride'"),
        (["deeplabv3_report", "--set", "atrous_rates=8,x"], "atrous_rates"),
        (["{weights}", "--num-classes", "4"], "keep its weights"),
        (["{weights}", "--plot", "{tmp}/taps.gif"], ".svg"),
        (["{weights}", "--json", "{weights}/x.json"], "cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_a_paragraph(inspect, weights, tmp_path, arguments, message):
    places = {"weights": weights, "tmp": tmp_path}
    code, errors = inspect(*(argument.format(**places) for argument in arguments))
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
