"""The frozen part stays bit for bit, and a run that changes it fails."""

import json

import pytest
import torch
from torch import nn

from atrous.data import open_dataset
from atrous.errors import ConfigError, TrainingError
from atrous.models import Segmenter, load_model
from atrous.recipe import build_recipe
from atrous.training import train
from atrous.training.batches import load_batches
from atrous.training.checkpoint import list_checkpoints
from atrous.training.freeze import FrozenPart
from atrous.training.learner import Learner

pytestmark = pytest.mark.slow  # trains

FEW_SAVES = {"train__save_every": "100it"}
CLASSIFIER = {"head.classifier.weight", "head.classifier.bias"}


@pytest.mark.parametrize("freeze", ["backbone", "all-but-classifier"])
def test_the_frozen_part_stays_and_all_else_learns(make_recipe, shapes, tmp_path, freeze):
    recipe = make_recipe(model__freeze=freeze, train__weight_decay=0.5, train__duration="2it")
    result = train(recipe, tmp_path / "run")
    before = Learner(recipe, open_dataset(shapes, "train").classes, None).model.state_dict()
    after = load_model(tmp_path / "run").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    if freeze == "backbone":
        assert not any(name.startswith("backbone.") for name in changed)
        assert {name for name in before if name.startswith("head.")} == changed
    else:
        assert changed == CLASSIFIER
    plan = json.loads((tmp_path / "run/plan.json").read_text())
    assert result.frozen_sha256 == plan["frozen_sha256"]
    assert len(result.frozen_sha256) == 64


def test_the_optimizer_holds_only_what_learns(make_recipe, shapes):
    recipe = make_recipe(model__freeze="all-but-classifier")
    learner = Learner(recipe, open_dataset(shapes, "train").classes, None)
    held = [p for group in learner.optimizer.param_groups for p in group["params"]]
    assert [id(p) for p in held] == [id(p) for p in learner.model.head.classifier.parameters()]
    assert not learner.has_small_batch_norm
    learner.update(load_batches(recipe, open_dataset(shapes, "train"), first_step=0, num_steps=1),
                   step=0, lr=0.1)  # fmt: skip
    modes = {name for name, module in learner.model.named_modules() if module.training}
    assert modes == {"head.classifier"}


def tamper_weight(learner):
    with torch.no_grad():
        next(learner.model.backbone.parameters())[0, 0, 0, 0] += 1e-6


def tamper_statistics(learner):
    next(m for m in learner.model.modules() if isinstance(m, nn.BatchNorm2d)).running_var[0] += 1e-6


def tamper_average(learner):
    next(learner.average.backbone.buffers())[0] += 1e-6


@pytest.mark.parametrize("tamper", [tamper_weight, tamper_statistics, tamper_average])
def test_a_frozen_part_that_changes_fails_the_run(make_recipe, tmp_path, monkeypatch, tamper):
    recipe = make_recipe(model__freeze="backbone", train__duration="5it", **FEW_SAVES)
    update = Learner.update

    def update_badly(self, batches, *, step, lr):
        result = update(self, batches, step=step, lr=lr)
        if step == 3:
            tamper(self)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", update_badly)
        with pytest.raises(TrainingError, match=r"between step 3 and 5: backbone\.0\.\S+ no"):
            train(recipe, tmp_path / "run")
    steps = [path.name for path in list_checkpoints(tmp_path / "run/checkpoints")]
    assert steps[-1] == "step-00000003"
    if tamper is tamper_weight:
        assert train(recipe, tmp_path / "run").reason == "finished"


def test_changed_statistics_are_detected(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(FrozenPart, "set_eval", lambda self: None)
    with pytest.raises(TrainingError, match="frozen part changed between step 0 and 3: backbone"):
        train(make_recipe(model__freeze="backbone", **FEW_SAVES), tmp_path / "run")
    assert not (tmp_path / "run/best.safetensors").exists()


def test_a_resumed_session_compares_with_the_plan(make_recipe, tmp_path):
    recipe = make_recipe(model__freeze="backbone")
    train(recipe, tmp_path / "run", stop_after="2it")
    plan = json.loads((tmp_path / "run/plan.json").read_text())
    plan["frozen_sha256"] = "0" * 64
    (tmp_path / "run/plan.json").write_text(json.dumps(plan))
    with pytest.raises(TrainingError, match=r"step-00000002 is not the one the run started with"):
        train(recipe, tmp_path / "run")


def test_freezing_everything_is_rejected():
    with pytest.raises(
        ConfigError, match=r"model\.freeze = 'all': input should be 'none', 'backbone' or"
    ):
        build_recipe({"model": {"freeze": "all"}})
    with pytest.raises(ConfigError, match="'none', 'backbone' or 'all-but-classifier'"):
        build_recipe({"model": {"freeze": "head"}})
    with pytest.raises(ConfigError, match="auxiliary head"):
        build_recipe({"model": {"freeze": "backbone", "auxiliary": True}})
    bare = Segmenter(
        nn.Conv2d(3, 2, 1), nn.Identity(), None, name="bare", options={"num_classes": 2}
    )
    with pytest.raises(ConfigError, match="leaves nothing of bare to train"):
        FrozenPart(bare, "backbone")


def test_a_random_frozen_part_is_a_warning(make_recipe, tmp_path):
    def warnings_of(recipe, run) -> list[str]:
        heard = []
        train(recipe, run, listener=lambda r: heard.append(r) if r["kind"] == "warning" else None)
        return [record["message"] for record in heard if "random" in record["message"]]

    common = {"model__freeze": "backbone", "train__duration": "1it"}
    message = "The frozen part has random weights, which training does not change: backbone"
    assert warnings_of(make_recipe(**common), tmp_path / "run")[0].startswith(message)
    recipe = make_recipe(**common, model__init=str(tmp_path / "run"))
    assert warnings_of(recipe, tmp_path / "next") == []
