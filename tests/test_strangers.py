"""What a stranger's file may not do: run code, speak to the terminal, or crash the program."""

import ast
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import atrous
from atrous.classes import build_classes
from atrous.cli.console import Console
from atrous.cli.output import STDOUT, write_json
from atrous.data.classes_file import read_classes_file
from atrous.engines import TTA
from atrous.engines.exported_engine import ExportCard, ExportedEngine
from atrous.errors import AtrousError, CheckpointError, ConfigError, DataError, WeightsError
from atrous.models import ModelCard, build_model, load_model, load_weights
from atrous.models.weights import init_weights, load_card
from atrous.parsing import MAX_DEPTH, escape_controls, is_plain_name, parse_json, parse_toml
from atrous.recipe import load_recipe
from atrous.run import load_log
from atrous.training.checkpoint import load_newest_checkpoint, save_checkpoint
from atrous.training.plan import Plan

SOURCE = Path(atrous.__file__).parent

SAFE_IF = {
    "torch.load": ("weights_only", True),
    "get_state_dict": ("weights_only", True),
    "load_state_dict_from_url": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "read_array": ("allow_pickle", False),
    "write_array": ("allow_pickle", False),
}
ONLY_IN = {
    "torch.export.load": "engines/pt2_engine.py",
    "pickle.loads": "data/workers.py",  # what it has just pickled itself
}
NEVER = {
    "eval", "exec", "compile", "jit.load", "hub.load", "yaml.load", "joblib.load", "pickle.load",
    "Unpickler", "marshal.loads", "shelve.open", "dill.load", "torch.package",
    "aoti_load_package", "load_pt2", "register_custom_ops_library",
}  # fmt: skip


def test_every_loader_of_the_package_is_one_that_runs_no_code():
    wrong, seen = [], set()
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            for call, (keyword, value) in SAFE_IF.items():
                if name == call or name.endswith(f".{call}"):
                    seen.add(call)
                    given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
                    if given.get(keyword) is not value:
                        wrong.append(f"{place}:{node.lineno} {name} without {keyword}={value}")
            for call, home in ONLY_IN.items():
                if name == call and place != home:
                    wrong.append(f"{place}:{node.lineno} {name}")
            if name in NEVER or any(name.endswith(f".{call}") for call in NEVER - {"eval"}):
                wrong.append(f"{place}:{node.lineno} {name}")
    assert {"torch.load", "get_state_dict"} <= seen, "the calls are found at all"
    assert not [text for text in wrong if not text.endswith((" re.compile", " torch.compile"))]


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_runs(tmp_path, monkeypatch):
    marker, model = tmp_path / "ran", build_model("deeplabv3_resnet18", num_classes=2)
    weights = tmp_path / "weights.pth"
    torch.save({"model": Payload(marker)}, weights)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Payload(marker)))
    for path in (weights, plain):
        with pytest.raises(WeightsError, match=path.name):
            load_weights(model, path)
        with pytest.raises(WeightsError, match=path.name):
            init_weights(model, str(path))
    # The cache of published weights: a file there is taken as it is, whoever put it there.
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    cached = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    cached.write_bytes(weights.read_bytes())
    with pytest.raises(WeightsError, match="not a plain state dict"):
        init_weights(model, "imagenet")
    save_checkpoint(tmp_path / "run", 7, {"model": Payload(marker)}, keep=1)
    with pytest.raises(CheckpointError, match="not written by atrous"):
        load_newest_checkpoint(tmp_path / "run", warn=print)
    assert not marker.exists()
    pickle.loads(plain.read_bytes())
    assert marker.exists(), "the payload works"


ESC, OSC, TURN = "\x1b[31mred", "\x1b]0;title\x07", "\u202egnp.exe"


@pytest.mark.parametrize("name", [ESC, OSC, TURN, "a\nb", "a\tb", "\x9b2J", "\x7f", "\ud800", "\r"])
def test_names_with_control_characters_are_refused_and_never_printed(name, tmp_path, capsys):
    assert not is_plain_name(name)
    path = tmp_path / "classes.toml"
    text = "".join(f"\\u{ord(letter):04x}" for letter in name)
    path.write_text(f'names = ["road", "{text}"]')
    with pytest.raises(DataError, match=r"classes\.toml"):
        read_classes_file(path)
    save_card(tmp_path / "a.safetensors", {"classes": {"names": [name], "colors": [[0, 0, 0]]}})
    with pytest.raises(WeightsError, match=r"a\.safetensors"):
        load_card(tmp_path / "a.safetensors")
    Console().print(f"one {name} two", highlight=False)
    Console(stderr=True).print(f"one {name} two", highlight=False)
    write_json({name: name}, STDOUT)
    captured = capsys.readouterr()
    for printed in (captured.out, captured.err):
        assert not set(name) & set(printed) - set("\n\t") - set("ab[]0123456789mdJ;redtilgnp.x")
    assert json.loads(captured.out[captured.out.index("{") :]) == {name: name}


def test_names_of_all_languages_are_plain():
    for name in ("Bäume", "道路", "سماء", "עץ", "👩‍🌾", "$x_1$", "a b", "[/] :car:"):
        assert is_plain_name(name)
        assert escape_controls(name) == name


def test_a_name_is_printed_as_it_is(capsys):
    from rich.markup import escape

    Console().print(escape("[bold] [/] :car: $x_1$"), highlight=False)
    assert capsys.readouterr().out == "[bold] [/] :car: $x_1$\n"


def test_the_command_prints_through_one_console():
    for path in (SOURCE / "cli").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path.name == "console.py" or "rich.console" not in text, path


GOOD = json.loads(
    ModelCard(
        "deeplabv3_resnet18", {"num_classes": 2}, build_classes(["a", "b"]), (0.5,) * 3, (0.2,) * 3,
        (64, 64), {"step": 1},
    ).to_json()
)  # fmt: skip


def save_card(path, changes=None, *, text=None):
    text = json.dumps({**GOOD, **(changes or {})}) if text is None else text
    save_file({"a": torch.zeros(1)}, path, {"atrous": text})
    return path


COLORS = [[1, 2, 3], [4, 5, 6]]
MALFORMED = [
    {"name": 5}, {"name": "nothing_like_it"}, {"name": ""}, {"name": None},
    {"options": []}, {"options": {"nothing": 1}}, {"options": {"num_classes": 3}},
    {"options": {"num_classes": "2"}}, {"options": {"num_classes": 2, "dropout": {"a": 1}}},
    {"options": {"num_classes": 2, "in_channels": 10**12}},
    {"options": {"num_classes": 2, "atrous_rates": [1] * 1000}},
    {"options": {"num_classes": 2, "multi_grid": "abc"}},
    {"options": {"num_classes": 2, "output_stride": float("nan")}},
    {"classes": None}, {"classes": [["a", "b"], COLORS]}, {"classes": {}},
    {"classes": {"names": "ab", "colors": COLORS}},
    {"classes": {"colors": COLORS, "names": [1, 2]}},
    {"classes": {"names": ["a", "a"], "colors": COLORS}},
    {"classes": {"names": [], "colors": []}},
    {"classes": {"names": ["a", "b"], "colors": COLORS[:1]}},
    {"classes": {"names": ["a", "b"], "colors": [[1, 2], [3, 4]]}},
    {"classes": {"names": ["a", "b"], "colors": [[1, 2, 256], [0, 0, 0]]}},
    {"classes": {"names": ["a", "b"], "colors": [[1, 2, 0.5], [0, 0, 0]]}},
    {"mean": 0.5}, {"mean": []}, {"mean": [0.5, 0.5]}, {"mean": [float("nan")] * 3},
    {"mean": ["0.5"] * 3}, {"mean": [1e9] * 3}, {"mean": [None] * 3},
    {"std": [0, 1, 1]}, {"std": [-1, 1, 1]}, {"std": [float("inf")] * 3}, {"std": [0.5] * 2},
    {"size_hw": [0, 0]}, {"size_hw": [-64, 64]}, {"size_hw": [64]}, {"size_hw": 64},
    {"size_hw": [10**9, 10**9]}, {"size_hw": [64.5, 64]}, {"size_hw": ["64", "64"]},
    {"size_hw": []}, {"size_hw": False},
    {"training": None}, {"training": []},
    {"temperature": 0}, {"temperature": -1}, {"temperature": float("nan")}, {"temperature": "1"},
    {"temperature": None}, {"temperature": True}, {"temperature": 10**400}, {"more": 1},
]  # fmt: skip


@pytest.mark.parametrize("changes", MALFORMED, ids=lambda changes: str(changes)[:60])
def test_a_malformed_card_is_an_error_that_names_file_and_key(changes, tmp_path):
    path = save_card(tmp_path / "a.safetensors", changes)
    for load in (load_card, load_model):
        with pytest.raises(WeightsError, match=r"a\.safetensors") as caught:
            load(path)
    keys = {*changes, "num_classes", "in_channels", "multi_grid", "nothing"}
    assert any(key in str(caught.value) for key in keys)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", "[" * 10**5, '{"a":' * 10**5])
def test_a_card_that_is_none_is_an_error(text, tmp_path):
    with pytest.raises(WeightsError, match=r"a\.safetensors"):
        load_card(save_card(tmp_path / "a.safetensors", text=text))


def test_a_good_card_is_read_and_its_model_must_fit_the_tensors(tmp_path):
    path = save_card(tmp_path / "a.safetensors")
    assert json.loads(load_card(path).to_json()) == GOOD
    with pytest.raises(WeightsError, match="Missing key"):
        load_model(path)
    sizes = {"backbone.conv1.weight": torch.zeros(1, 2, 3, 4)}
    save_file(sizes, path, {"atrous": json.dumps(GOOD)})
    with pytest.raises(WeightsError, match=r"backbone\.conv1\.weight has the shape \(1, 2, 3, 4\)"):
        load_model(path)


DEEP_JSON = ["[" * 10**5, '{"a":' * 10**5, "[" * 70 + "]" * 70]
DEEP_TOML = [
    "names = " + "[" * 10**4, "names = " + "[" * 200 + "]" * 200,
    "names = " + "{a = " * 200 + "1" + "}" * 200, "names" + ".a" * 5000 + " = 1",
    "[" + ".".join(["a"] * 2000) + "]",
]  # fmt: skip


def test_deeply_nested_text_is_a_value_error():
    for text in DEEP_JSON:
        with pytest.raises(ValueError, match="nested deeper"):
            parse_json(text)
    for text in DEEP_TOML:
        with pytest.raises(ValueError, match=r"nested deeper|[Ii]nvalid"):
            parse_toml(text)
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(ValueError):  # noqa: PT011 (Python's own words)
        parse_toml("a = " + "1" * 10_000)


def test_deeply_nested_files_are_errors_everywhere(tmp_path):
    path = tmp_path / "a.toml"
    for text in DEEP_TOML:
        path.write_text(text)
        for read, error in ((load_recipe, ConfigError), (read_classes_file, DataError)):
            with pytest.raises(error, match=r"a\.toml"):
                read(path)
    for text in DEEP_JSON:
        path.write_text(text)
        with pytest.raises(AtrousError, match=r"a\.toml"):
            Plan.load(path)
        assert load_log(path) == []


def test_json_and_toml_are_parsed_in_one_place():
    for path in SOURCE.rglob("*.py"):
        if path.name not in ("parsing.py", "cost.py"):  # cost.py asks a process of its own
            text = path.read_text(encoding="utf-8")
            assert "json.load" not in text, path
            assert "tomllib." not in text, path


@pytest.mark.parametrize("shape", [(1, 9, 32, 32), (1, 32, 32), (1, 2, 32)])
def test_an_exported_file_must_give_the_classes_of_its_card(shape):
    class Fake(ExportedEngine):
        def run(self, array):
            return np.zeros(shape, np.float32)

    model = ModelCard.from_json(json.dumps({**GOOD, "size_hw": None}))
    card = ExportCard(model, "onnx", uint8_input=True, mask_output=False, size_hw=None)
    engine = Fake(Path("a.onnx"), card, precision="32", tta=TTA())
    with pytest.raises(WeightsError, match=r"a\.onnx returns outputs of shape"):
        engine.predict_mask(torch.zeros(3, 32, 32, dtype=torch.uint8))
