"""Studies: what a study file may say, and a small one run to its page."""

import json
from dataclasses import replace

import pytest
import torch

from atrous.data.shapes import write_shapes
from atrous.engines import TTA
from atrous.errors import ConfigError
from atrous.models import build_model
from atrous.profile.cost import Cost
from atrous.recipe import load_recipe
from atrous.study import (
    list_studies,
    load_study,
    render_study_page,
    run_study,
    runner,
    summarize,
)

STUDY = """
title = "Flip or not"
source = "nobody"
runs = [
    { name = "plain", set = { "data.flip" = 0.0 }, paper = { miou = 50.0 } },
    { name = "broken", set = { "model.init" = "no/such/file" }, departs = "cannot work" },
    { name = "flipped", set = { "data.flip" = 1.0 } },
]
[recipe.model]
name = "deeplabv3_mobilenet_v3_large"
[recipe.data]
size = 64
[recipe.train]
duration = "2it"
batch_size = 2
workers = 0
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "own.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", list_studies())
def test_studies_of_the_package_can_be_built(name):
    study = load_study(name)
    recipes = [study.build_recipe(run, {}, 0) for run in study.runs]
    assert len(set(map(str, recipes))) == len(study.runs)
    with torch.device("meta"):
        for recipe in recipes:
            build_model(recipe.model.name, **recipe.model.build_options())
    assert all(not run.paper or study.source for run in study.runs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title =", "titel ="), r"there is no key 'titel'\. Did you mean 'title'"),
        (("departs =", "departures ="), r"no key 'runs\.1\.departures'"),
        (('"flipped"', '"plain"'), "each run needs its own name"),
        (
            ('source = "nobody"', 'convention = "image-micros"'),
            r"'image-micros'\. Did you mean 'image-micro'",
        ),
        (('source = "nobody"', "scales = [0]"), r"scales.*greater than 0"),
        (("data.flip", "train.duration"), "sets train.duration; budgets are equal"),
        (("data.flip", "data.flop"), r"Run 'plain' of the study: .*there is no key 'data\.flop'"),
        (("runs = [", "runs = 3 #["), "not valid TOML"),
    ],
)
def test_a_study_file_that_cannot_be_used_says_why(write, change, message):
    with pytest.raises(ConfigError, match=message):
        load_study(write(STUDY.replace(*change)))


def test_unknown_studies_and_runs_are_named(write, tmp_path):
    with pytest.raises(ConfigError, match=r"no study 'rate'\. Did you mean 'rates'"):
        load_study("rate")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_study("missing.toml")
    with pytest.raises(ConfigError, match=r"no run 'x'\. Its runs: plain, broken, flipped"):
        run_study(load_study(write(STUDY)), tmp_path, overrides={}, overrides_by_run={"x": {}})


@pytest.mark.slow
def test_a_study_survives_a_failing_run_and_is_not_done_twice(write, tmp_path):
    write_shapes(tmp_path / "data", num_train=4, num_val=3, size_px=64)
    study, out = load_study(write("scales = [0.5]" + STUDY)), tmp_path / "out"
    options = {"overrides": {"data.root": str(tmp_path / "data")}, "overrides_by_run": {}}
    outcomes = run_study(study, out, **options)
    assert [outcome.error == "" for outcome in outcomes] == [True, False, True]
    assert "see " in outcomes[1].error
    assert "no/such/file" in (out / "broken-0.txt").read_text()
    assert load_recipe(out / "flipped-0" / "recipe.toml").data.flip == 1

    kept = (out / "plain-0" / "last.safetensors").stat().st_mtime_ns
    events = []
    run_study(study, out, **options, listener=events.append)
    assert events[0] == {"kind": "note", "message": "plain-0: already finished"}
    assert (out / "plain-0" / "last.safetensors").stat().st_mtime_ns == kept
    with pytest.raises(ConfigError, match=r"trained with another recipe; changed: model\.dropout"):
        run_study(
            study, out, overrides={**options["overrides"], "model.dropout": 0.2},
            overrides_by_run={},
        )  # fmt: skip

    summary = summarize(study, outcomes, cost=False, device="cpu")
    assert summary.budget.endswith(", evaluated at scale 0.5")
    scores = json.loads((out / "plain-0" / "evaluation" / "val.json").read_text())
    assert scores["tta"]["scales"] == [0.5]
    plain, broken, flipped = summary.rows
    assert (plain.paper, plain.difference) == ({"miou": 50.0}, None)
    assert flipped.difference.value == pytest.approx(flipped.miou.value - plain.miou.value)
    assert (broken.miou, len(broken.errors)) == (None, 1)
    assert json.loads(json.dumps(summary.to_json()))["rows"][2]["name"] == "flipped"
    cost = Cost(1, 1.0, 1.0, (1.0, 1.0), None, (48, 64), TTA((0.5,)), "32", "here")
    page = render_study_page(replace(summary, rows=(replace(plain, cost=cost), broken, flipped)))
    assert "at a time, 64×48 px, scale 0.5, no flip, no windows, float32, on here." in page
    assert "50.00" in page
    assert page.count('alt="Prediction of ') == 2 * 3
    assert "seed 0 failed" in page


def test_all_speeds_are_measured_before_the_first_training(write, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        runner, "_train", lambda folder, recipe, jobs, *options: calls.append(
            (folder.path.name, *options)
        ) or "",
    )  # fmt: skip
    study, options = load_study(write(STUDY)), {"overrides_by_run": {}}
    run_study(study, tmp_path, overrides={"train.duration": "1min"}, **options)
    names = [(f"{run.name}-0",) for run in study.runs]
    assert calls == [*((*name, "--stop-after", "0it") for name in names), *names]
    calls.clear()
    run_study(study, tmp_path, overrides={}, **options)
    assert calls == names  # durations in steps need no speed
