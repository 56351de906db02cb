"""Training from outside: what the run folder contains afterwards."""

import errno
import itertools
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from atrous.classes import IGNORE_INDEX
from atrous.data import compute_mask_statistics, open_dataset
from atrous.data.shapes import write_shapes
from atrous.data.write_shards import write_shards
from atrous.errors import CheckpointError, ConfigError, DataError, TrainingError, WeightsError
from atrous.evaluation import evaluate
from atrous.models import load_model
from atrous.recipe import format_recipe, load_recipe
from atrous.run import RunFolder, load_log
from atrous.training import checkpoint, train
from atrous.training.batches import load_batches
from atrous.training.learner import Learner
from atrous.training.verify import verify_resume

pytestmark = pytest.mark.slow  # trains


def steps_of(run, kind="train") -> list[int]:
    return [record["step"] for record in load_log(RunFolder(run).log) if record["kind"] == kind]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_recipe):
    """An uninterrupted run, with its recipe."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    recipe = make_recipe(
        loss__dice=0.5,
        loss__class_weights="median_frequency",
        train__precision="bf16",
        train__clip_norm=5.0,
    )
    train(recipe, folder)
    return folder, recipe


def test_a_run_folder_contains_the_documented_files(finished):
    folder, _ = finished
    names = {path.name for path in folder.iterdir()}
    assert {"recipe.toml", "plan.json", "log.jsonl", "checkpoints", "best.safetensors",
            "last.safetensors", "curves.png", "curves.svg"} <= names  # fmt: skip
    assert len(list((folder / "checkpoints").iterdir())) == 2
    assert steps_of(folder) == list(range(1, 9))
    assert steps_of(folder, "val") == [3, 6, 8]
    model = load_model(folder)
    assert not model.training
    assert model.card.classes.names[0] == "background"
    assert model.card.training["miou"] == max(
        record["miou"] for record in load_log(folder / "log.jsonl") if record["kind"] == "val"
    )


def test_sessions_of_any_length_workers_and_storage_give_the_same_run(
    finished, tmp_path, differences, file_server
):
    folder, recipe = finished
    write_shards(recipe.data.root, file_server.folder / "a", shard_bytes=20_000)
    file_server.faults = itertools.cycle(["", "drop", "slow", "truncate", "busy", "change", ""])
    for number, root in enumerate([f"{file_server.url}/a"] * 2 + [recipe.data.root] * 18):
        cache = str(tmp_path / "cache") if number else "off"
        data = recipe.data.model_copy(update={"root": root, "cache": cache})
        settings = recipe.train.model_copy(update={"workers": number % 2, "save_every": "1it"})
        result = train(
            recipe.model_copy(update={"train": settings, "data": data}),
            tmp_path / "run",
            stop_after="3it",
        )
        assert result.step == min(8, 3 * (number + 1))
        if result.reason == "finished":
            break
        assert result.reason == "stop-after"
    assert differences(folder, tmp_path / "run") == []
    sessions = [r for r in load_log(tmp_path / "run/log.jsonl") if r["kind"] == "session"]
    assert [(r["event"], r["step"]) for r in sessions] == [
        ("start", 0), ("end", 3), ("start", 3), ("end", 6), ("start", 6), ("end", 8)
    ]  # fmt: skip


def test_decoded_images_are_kept_until_the_run_is_finished(make_recipe, tmp_path):
    small = {"data__long_side": 32, "data__crop": 32, "data__scale": [0.5, 1.0]}
    recipe = make_recipe(train__duration="2it", **small)
    notes = []
    train(recipe, tmp_path / "run", stop_after="1it", listener=lambda r: notes.append(r))
    assert len(list((tmp_path / "run/decoded").iterdir())) == 10
    assert any("kept in" in r["message"] for r in notes if r["kind"] == "note")
    assert train(recipe, tmp_path / "run").reason == "finished"
    assert not (tmp_path / "run/decoded").exists()


def test_a_damaged_checkpoint_costs_only_time(finished, tmp_path, differences):
    folder, recipe = finished
    warnings = []
    train(recipe, tmp_path / "run", stop_after="5it")
    newest = checkpoint.list_checkpoints(tmp_path / "run/checkpoints")[-1]
    (newest / "state.pt").write_bytes(b"torn")
    train(
        recipe,
        tmp_path / "run",
        listener=lambda r: warnings.append(r["message"]) if r["kind"] == "warning" else None,
    )
    assert any(newest.name in message for message in warnings)
    assert differences(folder, tmp_path / "run") == []


def test_killed_at_random_moments_and_with_other_workers(make_recipe, tmp_path):
    recipe = make_recipe(train__duration="15it", train__validate_every="6it", loss__dice=0.5)
    result = verify_resume(recipe, tmp_path, num_kills=2)
    assert len(result.kills) == 2
    assert result.kills[1].resumed_from > 0, "the second session resumed no checkpoint"
    assert [check.name for check in result.checks if check.difference] == []


def test_verify_rejects_runs_too_short_and_folders_in_use(make_recipe, tmp_path):
    with pytest.raises(ConfigError, match="too few for 3 kills"):
        verify_resume(make_recipe(train__duration="5it"), tmp_path, num_kills=3)
    with pytest.raises(ConfigError, match="already holds such runs"):
        verify_resume(make_recipe(), tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_session_cleanly(make_recipe, tmp_path, number):
    recipe_path, run = tmp_path / "recipe.toml", tmp_path / "run"
    recipe_path.write_text(format_recipe(make_recipe(train__duration="100000it")))
    command = [sys.executable, "-m", "atrous", "train", "--recipe", recipe_path, "--out", run]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "log.jsonl").exists() or not steps_of(run):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "start the same command again to resume" in " ".join(output.split())
    newest = checkpoint.list_checkpoints(run / "checkpoints")[-1]
    assert newest.name == f"step-{steps_of(run)[-1]:08d}"


def test_a_finished_run_started_again_changes_nothing(finished):
    folder, recipe = finished
    before = (folder / "last.safetensors").read_bytes()
    assert train(recipe, folder).reason == "finished"
    assert (folder / "last.safetensors").read_bytes() == before
    assert steps_of(folder) == list(range(1, 9))


@pytest.mark.parametrize("step", [3, 8])
def test_stopping_in_a_validation_leaves_it_to_the_next_session(
    finished, tmp_path, step, differences
):
    folder, recipe = finished
    last = []

    def stop_at_a_validation(record):
        if record["kind"] == "train":
            last[:] = [record["step"]]
        if record["kind"] == "validating" and last == [step]:
            signal.raise_signal(signal.SIGTERM)

    result = train(recipe, tmp_path / "run", listener=stop_at_a_validation)
    assert (result.reason, result.step) == ("SIGTERM", step)
    assert step not in steps_of(tmp_path / "run", "val")
    assert train(recipe, tmp_path / "run").reason == "finished"
    assert differences(folder, tmp_path / "run") == []


def test_a_signal_before_the_first_step_ends_the_session_too(make_recipe, tmp_path):
    def stop_while_checking(record):
        if record["kind"] == "checking":
            signal.raise_signal(signal.SIGTERM)

    result = train(make_recipe(), tmp_path / "run", listener=stop_while_checking)
    assert (result.reason, result.step) == ("SIGTERM", 0)


def test_a_run_goes_on_without_its_initial_weights(finished, make_recipe, tmp_path):
    init = tmp_path / "init.safetensors"
    shutil.copy(finished[0] / "last.safetensors", init)
    recipe = make_recipe(model__init=str(init))
    train(recipe, tmp_path / "run", stop_after="2it")
    init.unlink()
    assert train(recipe, tmp_path / "run").reason == "finished"


def test_accumulated_batches_are_one_step_of_one_large_batch(make_recipe, shapes):
    # Group norm and no dropout, so that images do not depend on their neighbours.
    common = {"model__norm": "group", "model__dropout": 0.0, "train__optimizer": "sgd"}
    common |= {"data__crop": None, "data__size": 64}
    results = []
    for batch_size, accumulate in ((4, 1), (2, 2), (1, 4)):
        recipe = make_recipe(train__batch_size=batch_size, train__accumulate=accumulate, **common)
        dataset = open_dataset(shapes, "train")
        weights = [float(index % 4) for index in range(len(dataset.classes))]
        learner = Learner(recipe, dataset.classes, weights)
        batches = list(load_batches(recipe, dataset, first_step=0, num_steps=1))
        first = batches[0].mask[0]
        first[:] = IGNORE_INDEX
        first[:2, :3] = 1  # a scribble: few labelled pixels, which count no more than others
        loss, grad_norm = learner.update(iter(batches), step=0, lr=0.1).read()
        corner = learner.model.head.classifier.weight[:2, 0, 0, 0].tolist()
        results.append([loss, grad_norm, *corner])
    assert results[1] == pytest.approx(results[0], rel=1e-3)
    assert results[2] == pytest.approx(results[0], rel=1e-3)


def test_one_image_per_batch_trains(make_recipe, tmp_path):
    warnings = []
    result = train(
        make_recipe(train__batch_size=1, train__duration="2it", train__ema=0.0),
        tmp_path / "run",
        listener=lambda r: warnings.append(r["message"]) if r["kind"] == "warning" else None,
    )
    assert result.reason == "finished"
    assert "table 9" in warnings[0]
    assert "accumulating batches does not help" in warnings[0]


def test_frozen_norm_stays_as_it_was_and_needs_no_warning(make_recipe, shapes, tmp_path):
    heard = []
    recipe = make_recipe(model__freeze_norm=True, train__duration="2it", train__ema=0.0)
    train(recipe, tmp_path / "run", listener=lambda record: heard.append(record["kind"]))
    assert "warning" not in heard
    model = load_model(tmp_path / "run")
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() and not norm.bias.any() for norm in norms)
    trained = model.state_dict()
    assert not any(value.any() for name, value in trained.items() if name.endswith("running_mean"))


def test_fitting_rates_are_resolved_by_the_crop_and_kept(make_recipe, tmp_path):
    recipe = make_recipe(model__atrous_rates="fit", train__duration="2it", train__ema=0.0)
    train(recipe, tmp_path / "run", stop_after="1it")
    assert train(recipe, tmp_path / "run").reason == "finished"
    assert load_recipe(tmp_path / "run/recipe.toml").model.atrous_rates == (1, 1, 2)
    assert load_model(tmp_path / "run").options["atrous_rates"] == [1, 1, 2]


def test_clock_time_becomes_steps_once_and_for_all(make_recipe, tmp_path):
    recipe = make_recipe(train__duration="3s", train__validate_every="50it")
    first = train(recipe, tmp_path / "run", stop_after="1it")
    plan = json.loads((tmp_path / "run/plan.json").read_text())
    assert plan["speed"]["step_s"] > 0
    assert first.total_steps == plan["total_steps"] >= 1
    assert train(recipe, tmp_path / "run", stop_after="1it").total_steps == first.total_steps


@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_a_loss_that_is_not_finite_stops_and_names_the_images(
    make_recipe, tmp_path, monkeypatch, is_asynchronous
):
    train(make_recipe(), tmp_path / "good", stop_after="2it")
    original = Learner._accumulate

    def poisoned(self, *arguments):
        loss = original(self, *arguments)
        self.calls = getattr(self, "calls", 0) + 1
        return math.nan * loss if self.calls == 3 else loss

    monkeypatch.setattr(Learner, "_accumulate", poisoned)
    monkeypatch.setattr(Learner, "is_asynchronous", is_asynchronous)
    with pytest.raises(TrainingError, match="before step 3, because the loss is not finite"):
        train(make_recipe(), tmp_path / "run")
    batch = json.loads(next((tmp_path / "run/failed").glob("*/batch.json")).read_text())
    assert batch["step"] == 2
    assert len(batch["images"]) == 3
    assert all(Path(image).is_file() for image in batch["images"])
    assert steps_of(tmp_path / "run") == [1, 2]
    failed, good = (
        checkpoint.load_newest_checkpoint(tmp_path / folder, warn=print)[1]["learner"]["model"]
        for folder in ("run/failed", "good/checkpoints")
    )
    parameters = [name for name in good if "running" not in name and "tracked" not in name]
    assert all(good[name].equal(failed[name]) for name in parameters)


def test_a_full_disk_stops_with_the_previous_checkpoint_good(make_recipe, tmp_path, monkeypatch):
    recipe = make_recipe(train__validate_every="100it")
    original, calls = torch.save, []

    def save_until_full(state, file):
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        original(state, file)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.torch, "save", save_until_full)
        with pytest.raises(CheckpointError, match=r"disk is full.*step-00000002 is intact"):
            train(recipe, tmp_path / "run")
    assert train(recipe, tmp_path / "run").reason == "finished"
    assert steps_of(tmp_path / "run") == list(range(1, 9))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model__name": "deeplabv3_resnet5"}, ConfigError, "deeplabv3_resnet50"),
        ({"model__output_stride": 12}, ConfigError, "must be 8, 16 or 32, got 12"),
        ({"data__root": ""}, ConfigError, "No data is given"),
        ({"data__root": "/nowhere"}, DataError, "/nowhere"),
        ({"data__train_split": "training"}, DataError, "train"),
        ({"model__init": "/nowhere.pth"}, WeightsError, r"/nowhere\.pth"),
        ({"train__device": "cuda:99"}, ConfigError, "no such device"),
    ],
)
def test_an_invalid_recipe_is_rejected_before_anything_is_written(
    make_recipe, tmp_path, changes, error, message
):
    with pytest.raises(error, match=message):
        train(make_recipe(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_a_labelled_pixel_is_refused_before_the_first_step(
    make_recipe, tmp_path, split
):
    write_shapes(tmp_path / "data", num_train=2, num_val=1, size_px=64)
    for path in open_dataset(tmp_path / "data", split).mask_paths:
        Image.new("L", (64, 64), IGNORE_INDEX).save(path)
    recipe = make_recipe(data__root=str(tmp_path / "data"))
    with pytest.raises(DataError, match=f"Split '{split}' has no labelled pixel: all [12] masks"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["train", "validating", "computing_features"])
def test_an_exception_of_a_listener_is_passed_on_and_leaves_no_process(make_recipe, tmp_path, kind):
    raised = OSError(errno.ENOSPC, "of the listener")

    def listen(record):
        if record["kind"] == kind:
            assert multiprocessing.active_children()
            raise raised

    frozen = {"model__freeze": "backbone", "data__crop": None, "data__size": 64}
    recipe = make_recipe(
        train__workers=1, train__validate_every="1it", train__ema=0.0,
        **({**frozen, "data__brightness": 0.0} if kind == "computing_features" else {}),
    )  # fmt: skip
    with pytest.raises(OSError) as caught:  # noqa: PT011
        train(recipe, tmp_path / "run", listener=listen)
    assert caught.value is raised
    assert multiprocessing.active_children() == []


def test_masks_with_wrong_values_are_found_before_training(shapes, make_recipe, tmp_path):
    broken = tmp_path / "data"
    shutil.copytree(shapes, broken)
    mask = next((broken / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"))
    Image.new("L", (64, 64), 77).save(mask)
    with pytest.raises(DataError, match=rf"(?s)(?=.*77)(?=.*{mask.name})"):
        train(make_recipe(data__root=str(broken)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_changed_recipe_or_other_data_is_refused(finished, tmp_path, shapes):
    folder, recipe = finished
    changed = recipe.train.model_copy(update={"lr": 1.0, "workers": 5})
    with pytest.raises(ConfigError, match=r"changed: train\.lr: 0\.0005 → 1\.0\. Resuming"):
        train(recipe.model_copy(update={"train": changed}), folder)
    write_shapes(tmp_path / "other", num_train=11, num_val=2, size_px=64)
    other = recipe.data.model_copy(update={"root": str(tmp_path / "other")})
    with pytest.raises(DataError, match="it had 10 images and has 11"):
        train(recipe.model_copy(update={"data": other}), folder)


def test_two_trainings_do_not_share_a_folder(finished):
    folder, recipe = finished
    hold = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
    hold += "print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold, folder / ".lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout.readline()
    with pytest.raises(ConfigError, match="Another training is writing"):
        train(recipe, folder)
    other.kill()
    other.communicate()
    assert train(recipe, folder).reason == "finished"


def test_weights_that_cannot_be_written_are_an_error(make_recipe, tmp_path, monkeypatch):
    def fail(path, model, card):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("atrous.training.loop.save_weights", fail)
        with pytest.raises(CheckpointError, match=r"No space left.*start the same command again"):
            train(make_recipe(), tmp_path / "run")
    assert train(make_recipe(), tmp_path / "run").reason == "finished"
    assert steps_of(tmp_path / "run") == list(range(1, 9))


def test_weights_of_another_class_count_start_a_new_classifier(finished, make_recipe, tmp_path):
    folder, _ = finished
    events = []
    write = tmp_path / "pairs"
    for split in ("train", "val"):
        for kind, mode in (("images", "RGB"), ("masks", "L")):
            (write / split / kind).mkdir(parents=True)
            for number in range(3):
                Image.new(mode, (64, 64), number % 2 if mode == "L" else "white").save(
                    write / split / kind / f"{number}.png"
                )
    recipe = make_recipe(
        data__root=str(write), model__init=str(folder), train__duration="1it", train__ema=0.0
    )
    train(recipe, tmp_path / "run", listener=lambda r: events.append(r) if "loaded" in r else None)
    assert "head.classifier.weight" in events[0]["loaded"].missing
    assert load_model(tmp_path / "run").num_classes == 2


def test_a_run_of_some_classes_is_scored_on_the_masks_of_all(make_recipe, shapes, tmp_path):
    changes = {
        "data__classes": ["disc", "square"],
        "data__other": "rest",
        "data__long_side": 48,
        "train__backbone_lr": 0.1,
        "train__duration": "2it",
    }
    train(make_recipe(**changes), tmp_path / "run")
    num_labelled = sum(compute_mask_statistics(open_dataset(shapes, "val")).pixels)
    card = load_model(tmp_path / "run").card
    assert (card.classes.names, card.long_side) == (("rest", "disc", "square"), 48)
    for source in (tmp_path / "run", tmp_path / "run" / "best.safetensors"):
        report = evaluate(source, shapes)
        assert [row.name for row in report.scores.per_class] == ["rest", "disc", "square"]
        assert report.confusion.sum() == num_labelled


def test_tensorboard_gets_the_log(make_recipe, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(make_recipe(train__tensorboard=True, train__duration="3it"), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
