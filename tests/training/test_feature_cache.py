"""Cached features: the same training as without a cache, also if interrupted."""

import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from atrous.data import open_dataset
from atrous.errors import ConfigError
from atrous.images import normalize
from atrous.models import save_weights
from atrous.training import speed, train
from atrous.training.batches import load_batches
from atrous.training.features import FeatureCache, find_obstacle
from atrous.training.learner import Learner
from atrous.training.verify import verify_resume

pytestmark = pytest.mark.slow  # trains

FIXED = {"data__crop": None, "data__size": 48, "data__brightness": 0.0}
FEW_SAVES = {"train__ema": 0.0, "train__validate_every": "6it", "train__save_every": "100it"}


@pytest.fixture(scope="session")
def initial(tmp_path_factory, make_recipe, shapes):
    """Weights whose batch-norm statistics fit, so that features differ from image to image."""
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
        common = {"model__freeze": "backbone", "model__init": str(initial), **FIXED, **FEW_SAVES}
        return make_recipe(**(common | changes))

    return make


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_frozen):
    """An uninterrupted run, with its recipe."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    recipe = make_frozen(loss__dice=0.5)
    train(recipe, folder)
    return folder, recipe


def listen(kind, heard):
    return lambda record: heard.append(record) if record["kind"] == kind else None


def files_of(folder) -> dict[str, bytes]:
    """Return the content of all files of the only cache in a folder, by name."""
    (cache,) = folder.iterdir()
    return {path.name: path.read_bytes() for path in cache.iterdir()}


def open_cache(recipe, dataset, folder) -> tuple[FeatureCache, Learner]:
    learner = Learner(recipe, dataset.classes, None)
    learner.frozen.seal(learner.model)
    return build_cache(recipe, dataset, folder, learner), learner


def build_cache(recipe, dataset, folder, learner) -> FeatureCache:
    return FeatureCache(
        recipe,
        folder,
        dataset,
        cut=learner.cut,
        compute=learner.compute_features,
        frozen_sha256=learner.frozen.sha256,
    )


@pytest.mark.parametrize("freeze", ["backbone", "all-but-classifier"])
def test_batches_are_those_of_the_images(make_frozen, shapes, tmp_path, freeze):
    recipe, dataset = make_frozen(model__freeze=freeze), open_dataset(shapes, "train")
    cache, learner = open_cache(recipe, dataset, tmp_path)
    cache.build(should_stop=lambda: False, progress=lambda done, total: None)
    pairs = zip(
        load_batches(recipe, dataset, first_step=2, num_steps=4),  # over the end of an epoch
        cache.load_batches(first_step=2, num_steps=4),
        strict=True,
    )
    for batch, kept in pairs:
        assert batch.names == kept.names
        assert torch.equal(batch.mask, kept.mask)
        for now, then in zip(learner.compute_features(batch.image), kept.features, strict=True):
            assert now.dtype == then.dtype
            assert (now - then).abs().max() <= 2**-8 * now.abs().max()


def learn(learner, batches) -> torch.Tensor:
    """Train 8 steps and return all floating-point weights and statistics in one row."""
    for step in range(8):
        learner.update(batches, step=step, lr=0.01)
    return flatten(learner)


def flatten(learner) -> torch.Tensor:
    values = learner.model.state_dict().values()
    return torch.cat([value.flatten() for value in values if value.is_floating_point()])


@pytest.mark.parametrize(
    ("freeze", "precision"), [("backbone", "32"), ("all-but-classifier", "bf16")]
)
def test_the_weights_are_those_of_training_without(
    make_frozen, shapes, tmp_path, freeze, precision
):
    changes = {"model__freeze": freeze, "train__precision": precision, "train__optimizer": "sgd"}
    recipe, dataset = make_frozen(**changes), open_dataset(shapes, "train")
    cache, learner = open_cache(recipe, dataset, tmp_path)
    first = flatten(learner)
    cache.build(should_stop=lambda: False, progress=lambda done, total: None)
    cached = learn(learner, cache.load_batches(first_step=0, num_steps=8))

    def learn_without(rounded: bool) -> torch.Tensor:
        learner = Learner(recipe, dataset.classes, None)
        if rounded:
            round_output(learner.model.backbone)
        return learn(learner, load_batches(recipe, dataset, first_step=0, num_steps=8))

    plain = learn_without(rounded=False)
    assert (cached - plain).norm() < 0.05 * (plain - first).norm()
    if precision == "32":
        rounded = learn_without(rounded=True)
        assert (cached - rounded).norm() < 0.005 * (rounded - first).norm()


def round_output(backbone) -> None:
    backbone.register_forward_hook(lambda *args: [each.bfloat16().float() for each in args[2]])


def test_sessions_of_any_length_give_the_same_run(finished, tmp_path, differences):
    folder, recipe = finished
    heard = []
    for session in range(10):
        result = train(
            recipe, tmp_path / "run", stop_after="3it", listener=listen("features", heard)
        )
        if session == 0:  # made again, they are the same
            shutil.rmtree(tmp_path / "run/features")
        if session == 1:  # one file is cut short, another one is lost
            paths = sorted((tmp_path / "run/features").glob("*/*.safetensors"))
            paths[3].write_bytes(paths[3].read_bytes()[:-1])
            paths[5].unlink()
        if result.reason == "finished":
            break
    assert len(heard) == 3
    assert len(files_of(tmp_path / "run/features")) == 11
    ours, theirs = (files_of(run / "features") for run in (folder, tmp_path / "run"))
    assert ours == theirs
    assert differences(folder, tmp_path / "run") == []


def test_killed_at_a_random_moment_with_features_on_disk(make_frozen, tmp_path):
    recipe = make_frozen(train__duration="10it", train__validate_every="6it")
    result = verify_resume(recipe, tmp_path, num_kills=1)
    assert [check.name for check in result.checks if check.difference] == []
    assert len(files_of(tmp_path / "interrupted/features")) == 11


def test_an_interrupted_build_continues(finished, tmp_path, differences):
    folder, recipe = finished

    def stop_while_computing(record):
        if record["kind"] == "computing_features":
            signal.raise_signal(signal.SIGTERM)

    result = train(recipe, tmp_path / "run", listener=stop_while_computing)
    assert (result.reason, result.step) == ("SIGTERM", 0)
    kept = files_of(tmp_path / "run/features")
    assert set(kept) == {"facts.json", *(f"00000{index}.safetensors" for index in range(3))}
    torn = next((tmp_path / "run/features").iterdir()) / ".000003.safetensors.1.tmp"
    torn.write_bytes(b"torn by a kill")
    heard = []
    train(recipe, tmp_path / "run", listener=listen("computing_features", heard))
    assert [record["done"] for record in heard] == [6, 9, 10]
    torn.unlink()
    assert files_of(folder / "features") == files_of(tmp_path / "run/features")
    assert differences(folder, tmp_path / "run") == []


def test_the_name_follows_from_all_that_features_depend_on(make_frozen, shapes, tmp_path):
    names = [
        open_cache(make_frozen(**changes), open_dataset(shapes, "train"), tmp_path)[0].path
        for changes in (
            {},
            {"train__lr": 0.1, "model__dropout": 0.3, "train__batch_size": 2},  # of no concern
            {"model__init": "none"},
            {"data__size": 40},
            {"train__precision": "bf16"},
            {"model__output_stride": 8},  # the same weights, other rates
            {"data__flip": 0.0},
            {"model__freeze": "all-but-classifier"},
        )
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 7


def test_a_mask_of_the_same_size_but_other_content_is_noticed(make_frozen, tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    Image.new("RGB", (64, 64), "white").save(tmp_path / "train/images/a.png")
    mask = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) % 8
    Image.fromarray(mask).save(tmp_path / "train/masks/a.tif")
    recipe = make_frozen(data__root=str(tmp_path))
    dataset = open_dataset(tmp_path, "train")
    cache, learner = open_cache(recipe, dataset, tmp_path)
    fingerprint = dataset.fingerprint()
    Image.fromarray(7 - mask).save(tmp_path / "train/masks/a.tif")
    assert dataset.fingerprint() == fingerprint
    assert build_cache(recipe, dataset, tmp_path, learner).path != cache.path


def test_too_little_disk_space_is_an_error_at_the_start(make_frozen, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    message = r"10 images and their mirror images need \S+ .B in \S+features, where 100 kB are"
    with pytest.raises(ConfigError, match=message):
        train(make_frozen(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_an_error(make_frozen, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    recipe = make_frozen(train__feature_cache_dir=str(tmp_path / "file/features"))
    with pytest.raises(ConfigError, match=r"cannot be written to .*--feature-cache off"):
        train(recipe, tmp_path / "run")

    def fail(self, name, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FeatureCache, "_write", fail)
    with pytest.raises(ConfigError, match="No space left on device"):
        train(make_frozen(), tmp_path / "other")
    assert files_of(tmp_path / "other/features") == {}


def test_the_reason_for_no_cache_is_printed(make_frozen, make_recipe, tmp_path):
    heard = []
    recipe = make_recipe(model__freeze="backbone", train__duration="1it")
    train(recipe, tmp_path / "run", listener=listen("note", heard))
    reason = "data.crop = 48 scales and crops at random; --size 48 would not"
    assert any(reason in note["message"] for note in heard)
    assert "hue = 0.1 changes the colours" in find_obstacle(make_frozen(data__hue=0.1).data)
    assert find_obstacle(make_frozen().data) is None


def test_clock_time_is_measured_with_features(make_frozen, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "_MAX_STEPS", 2)
    monkeypatch.setattr(speed, "_IMAGES_S", 0.0)
    monkeypatch.setattr(Learner, "_prepare", refuse_whole_batches(Learner._prepare))
    recipe = make_frozen(train__duration="2s", train__validate_every="500it")
    result = train(recipe, tmp_path / "run", stop_after="1it")
    assert result.total_steps >= 1


def refuse_whole_batches(prepare):
    def prepare_in_evaluation(self, image):
        assert not self.model.training, "a step of training computed the frozen part"
        return prepare(self, image)

    return prepare_in_evaluation
