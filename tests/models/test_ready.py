"""The trained models of the package, found by name."""

from pathlib import Path

import matplotlib
import pytest
import torch

from atrous.data.shapes import write_shapes
from atrous.engines import open_engine
from atrous.errors import AtrousWarning, ConfigError, DataError
from atrous.evaluation import evaluate
from atrous.evaluation.calibration import calibrate
from atrous.images import read_image
from atrous.models import build_model, load_model
from atrous.models.ready import READY_FOLDER, READY_MODELS
from atrous.models.weights import init_weights

PORTRAIT = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


@pytest.mark.parametrize("name", READY_MODELS)
def test_a_ready_model_is_small_and_starts_another_training(name):
    assert (READY_FOLDER / f"{name}.safetensors").stat().st_size <= 9e6
    model = load_model(name)
    assert model.card.training["miou"] > 0.6
    assert all(p.dtype == torch.float32 for p in model.parameters())
    options = {key: model.options[key] for key in ("separable", "decoder_channels")}
    fresh = build_model(model.name, num_classes=3, **options)
    assert set(init_weights(fresh, name).missing) == {
        "head.classifier.weight",
        "head.classifier.bias",
    }


@pytest.mark.parametrize("factor", [1, 3])
def test_a_person_is_found_on_a_photograph_of_any_size(factor):
    engine = open_engine("animals")
    image = read_image(PORTRAIT).repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    mask = engine.predict_mask(image)
    assert mask.shape == image.shape[1:]
    person = mask == engine.classes.names.index("person")
    assert 0.4 < person.float().mean() < 0.9
    height, width = mask.shape
    assert person[height // 2, width // 2]


def test_a_folder_of_that_name_has_precedence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("animals").write_bytes((READY_FOLDER / "street.safetensors").read_bytes())
    with pytest.warns(AtrousWarning, match="'animals' is a file or folder here"):
        assert "sky" in load_model("animals").card.classes.names


def test_a_ready_model_is_not_changed_nor_scored_on_other_classes(tmp_path):
    write_shapes(tmp_path, num_train=2, num_val=2, size_px=64)
    with pytest.raises(ConfigError, match="ready model, whose file is not changed"):
        calibrate("street", tmp_path, split="val")
    with pytest.raises(DataError, match=r"has 8 classes.*was trained for 7"):
        evaluate("animals", tmp_path)
