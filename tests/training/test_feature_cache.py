"""Features on disk: the same training as without, whatever interrupts the building."""

import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from atrous.data import normalize, open_dataset
from atrous.errors import ConfigError
from atrous.models import save_weights
from atrous.run import RunFolder
from atrous.training import feature_file, train
from atrous.training.batches import load_batches
from atrous.training.features import FeatureCache, find_obstacle
from atrous.training.learner import Learner
from atrous.training.verify import compare_runs, verify_resume

FIXED = {"data__crop": None, "data__size": 48, "data__brightness": 0.0}


@pytest.fixture(scope="session")
def initial(tmp_path_factory, make_recipe, shapes):
    """Weights whose batch-norm statistics fit, so that features differ from picture to picture."""
    recipe, dataset = make_recipe(**FIXED), open_dataset(shapes, "train")
    model = Learner(recipe, dataset.classes, None).model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.inference_mode():
        for batch in load_batches(recipe, dataset, first_step=0, num_steps=6):
            model(normalize(batch.image))
    path = tmp_path_factory.mktemp("initial") / "initial.safetensors"
    save_weights(path, model, model.card)
    return path


@pytest.fixture(scope="session")
def make_frozen(make_recipe, initial):
    def make(**changes):
        common = {"model__freeze": "backbone", "model__init": str(initial), **FIXED}
        return make_recipe(**(common | changes))

    return make


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_frozen):
    """A run that nothing interrupted, with its recipe."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    recipe = make_frozen(loss__dice=0.5)
    train(recipe, folder)
    return folder, recipe


def differences(one, other) -> list[str]:
    comparisons = compare_runs(RunFolder(one), RunFolder(other))
    return [f"{row.name}: {row.difference}" for row in comparisons if row.difference]


def listen(kind, heard):
    return lambda record: heard.append(record) if record["kind"] == kind else None


def features_of(folder):
    return sorted(folder.glob("*.features"))


def open_cache(recipe, dataset, folder) -> tuple[FeatureCache, Learner]:
    learner = Learner(recipe, dataset.classes, None)
    learner.frozen.seal(learner.model)
    cache = FeatureCache(recipe, folder, dataset, learner)
    return cache, learner


@pytest.mark.parametrize("freeze", ["backbone", "all-but-classifier"])
def test_batches_are_those_of_the_pictures(make_frozen, shapes, tmp_path, freeze):
    recipe, dataset = make_frozen(model__freeze=freeze), open_dataset(shapes, "train")
    cache, learner = open_cache(recipe, dataset, tmp_path)
    cache.build(should_stop=lambda: False, on_progress=lambda count: None)
    pairs = zip(
        load_batches(recipe, dataset, first_step=2, num_steps=4),  # over the end of an epoch
        cache.load_batches(first_step=2, num_steps=4),
        strict=True,
    )
    for pictures, kept in pairs:
        assert pictures.names == kept.names
        assert torch.equal(pictures.mask, kept.mask)
        for now, then in zip(learner.compute_features(pictures.image), kept.features, strict=True):
            assert now.dtype == then.dtype
            assert (now - then).abs().max() <= 2**-8 * now.abs().max()


@pytest.mark.parametrize(
    ("freeze", "precision"), [("backbone", "32"), ("all-but-classifier", "bf16")]
)
def test_the_weights_are_those_of_training_without(
    make_frozen, shapes, tmp_path, freeze, precision
):
    dataset = open_dataset(shapes, "train")
    trained = []
    for choice in ("auto", "off"):
        recipe = make_frozen(
            model__freeze=freeze, train__precision=precision, train__feature_cache=choice
        )
        if choice == "auto":
            cache, learner = open_cache(recipe, dataset, tmp_path)
            cache.build(should_stop=lambda: False, on_progress=lambda count: None)
            batches = cache.load_batches(first_step=0, num_steps=8)
        else:
            learner = Learner(recipe, dataset.classes, None)
            batches = load_batches(recipe, dataset, first_step=0, num_steps=8)
        first = {name: value.clone() for name, value in learner.model.state_dict().items()}
        for step in range(8):
            learner.update(batches, step=step, lr=5e-4)
        trained.append(learner.model.state_dict())
    cached, plain = trained
    learnt = [name for name in first if not torch.equal(first[name], plain[name])]
    assert all(torch.equal(first[name], cached[name]) for name in first if name not in learnt)
    apart, went = (
        torch.stack([(plain[name] - other[name]).float().norm() for name in learnt]).norm()
        for other in (cached, first)
    )
    assert 0 < apart < 0.03 * went


def test_sessions_of_any_length_give_the_same_run(finished, tmp_path):
    folder, recipe = finished
    heard = []
    for session in range(10):
        result = train(
            recipe, tmp_path / "run", stop_after="3it", listener=listen("features", heard)
        )
        if session == 0:  # made anew, it is the same
            shutil.rmtree(tmp_path / "run/features")
        if result.reason == "finished":
            break
    assert [record["missing_bytes"] > 0 for record in heard] == [True, True, False]
    assert differences(folder, tmp_path / "run") == []


@pytest.mark.slow
def test_killed_at_random_moments_with_features_on_disk(make_frozen, tmp_path):
    recipe = make_frozen(train__duration="16it", train__validate_every="9it")
    result = verify_resume(recipe, tmp_path, num_kills=2)
    assert [row.name for row in result.comparisons if row.difference] == []
    assert features_of(tmp_path / "interrupted/features")


def test_a_building_that_was_stopped_goes_on(finished, tmp_path):
    folder, recipe = finished

    def stop_while_computing(record):
        if record["kind"] == "computing_features":
            signal.raise_signal(signal.SIGTERM)

    result = train(recipe, tmp_path / "run", listener=stop_while_computing)
    assert (result.reason, result.step) == ("SIGTERM", 0)
    assert features_of(tmp_path / "run/features") == []
    part = next((tmp_path / "run/features").glob("*.part"))
    with open(part, "ab") as file:
        file.write(b"torn by a kill")
    heard = []
    train(recipe, tmp_path / "run", listener=listen("computing_features", heard))
    assert [record["done"] for record in heard] == [6, 9, 10]  # 3 pictures were kept
    assert {path.suffix for path in (tmp_path / "run/features").iterdir()} == {
        ".features", ".json", ".lock"
    }  # fmt: skip
    ours, theirs = (features_of(run / "features")[0] for run in (folder, tmp_path / "run"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert differences(folder, tmp_path / "run") == []


def test_a_building_that_was_killed_before_its_first_note_begins_anew(finished, tmp_path):
    folder, recipe = finished
    name = features_of(folder / "features")[0].with_suffix(".part").name
    (tmp_path / "run/features").mkdir(parents=True)
    (tmp_path / "run/features" / name).write_bytes(bytes(10_000))
    train(recipe, tmp_path / "run")
    assert differences(folder, tmp_path / "run") == []


def test_features_that_were_cut_short_are_made_again(finished, tmp_path):
    folder, recipe = finished
    train(recipe, tmp_path / "run", stop_after="2it")
    path = features_of(tmp_path / "run/features")[0]
    path.write_bytes(path.read_bytes()[:-1])
    train(recipe, tmp_path / "run")
    assert differences(folder, tmp_path / "run") == []


def test_a_folder_is_shared_by_runs_of_the_same_features_alone(make_frozen, tmp_path):
    kept, heard = tmp_path / "kept", []
    for number, changes in enumerate(
        (
            {},
            {"train__lr": 0.1, "model__dropout": 0.3, "train__feature_cache_dir": str(kept)},
            {"model__init": "none"},  # other weights
            {"data__size": 40},
            {"train__precision": "bf16"},
            {"model__output_stride": 8},  # the same weights, other rates
            {"data__flip": 0.0},
        )
    ):
        recipe = make_frozen(
            **{"train__feature_cache_dir": str(kept), "train__duration": "1it"} | changes
        )
        train(recipe, tmp_path / f"run{number}", listener=listen("features", heard))
    assert [record["missing_bytes"] == 0 for record in heard] == [False, True, *[False] * 5]
    assert len(features_of(kept)) == 6
    sizes = {path.stat().st_size for path in features_of(kept)}
    assert sizes == {record["num_bytes"] for record in heard}
    assert not (tmp_path / "run0/features").exists()


def test_a_mask_of_the_same_size_but_other_content_is_noticed(make_frozen, tmp_path):
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        Image.new("RGB", (64, 64), "white").save(tmp_path / split / "images/a.png")
        mask = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) % 2
        Image.fromarray(mask).save(tmp_path / split / "masks/a.tif")
    recipe, files = make_frozen(data__root=str(tmp_path)), []
    for _ in range(2):
        dataset = open_dataset(tmp_path, "train")
        files.append((dataset.fingerprint(), open_cache(recipe, dataset, tmp_path)[0].file.path))
        Image.fromarray(1 - mask).save(tmp_path / "train/masks/a.tif")
    assert files[0][0] == files[1][0]
    assert files[0][1] != files[1][1]


def test_too_little_disk_is_refused_beforehand(make_frozen, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(feature_file.shutil, "disk_usage", lambda folder: usage)
    message = r"10 pictures and their mirror images need \S+ .B in \S+features, where 100 kB are"
    with pytest.raises(ConfigError, match=message):
        train(make_frozen(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_an_error_in_words(make_frozen, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    recipe = make_frozen(train__feature_cache_dir=str(tmp_path / "file/features"))
    with pytest.raises(ConfigError, match=r"cannot be written to .*--feature-cache off"):
        train(recipe, tmp_path / "run")

    def fail(self, file, count):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_file.FeatureFile, "_write_note", fail)
    with pytest.raises(ConfigError, match="No space left on device"):
        train(make_frozen(), tmp_path / "other")
    assert features_of(tmp_path / "other/features") == []


def test_why_nothing_is_kept_is_said(make_frozen, make_recipe, tmp_path):
    heard = []
    recipe = make_recipe(model__freeze="backbone", train__duration="1it")
    train(recipe, tmp_path / "run", listener=listen("note", heard))
    assert "data.crop = 48 scales and cuts at random; --size 48 would not" in heard[0]["message"]
    assert "hue = 0.1 changes the colours" in find_obstacle(make_frozen(data__hue=0.1).data)
    assert find_obstacle(make_frozen().data) is None


def test_clock_time_is_measured_with_features(make_frozen, tmp_path):
    recipe = make_frozen(train__duration="2s", train__validate_every="500it")
    result = train(recipe, tmp_path / "run", stop_after="1it")
    assert result.total_steps >= 1
    assert features_of(tmp_path / "run/features")
