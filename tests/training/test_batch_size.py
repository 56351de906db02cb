"""`--batch-size auto`: limited by memory, and the same for every session of a run."""

import json
import sys

import pytest

from atrous.errors import ConfigError
from atrous.recipe import load_recipe
from atrous.training import batch_size as module
from atrous.training import session, train
from atrous.training.batch_size import find_batch_size, read_available_bytes

MB = 10**6


def test_the_memory_limit_bounds_the_batch_size(make_recipe):
    recipe = make_recipe(data__crop=96)
    size, peak_bytes = find_batch_size(recipe, 3, max_batch_size=256, memory_bytes=500 * MB)
    assert size in (2, 4, 8, 16, 32)
    assert 100 * MB < peak_bytes <= 500 * MB


def test_the_number_of_images_bounds_it_with_cached_features_too(make_recipe):
    recipe = make_recipe(model__freeze="backbone", data__crop=None, data__size=48,
                         data__brightness=0.0, train__ema=0.0)  # fmt: skip
    assert find_batch_size(recipe, 3, max_batch_size=3, memory_bytes=10**10)[0] == 2


def test_too_little_memory_for_one_image_is_an_error(make_recipe):
    with pytest.raises(ConfigError, match=r"not train on one image per batch: .*smaller --size"):
        find_batch_size(make_recipe(), 3, max_batch_size=8, memory_bytes=20 * MB)


def test_a_resumed_run_uses_the_batch_size_that_was_found(make_recipe, tmp_path, monkeypatch):
    searched = []

    def find(recipe, num_classes, *, max_batch_size, memory_bytes, bands):
        searched.append((num_classes, max_batch_size))
        return 2, MB

    monkeypatch.setattr(session, "find_batch_size", find)
    recipe = make_recipe(train__duration="4it", train__batch_size=7)
    for _ in range(2):
        train(recipe, tmp_path / "run", max_batch_size=sys.maxsize, stop_after="2it")
    assert searched == [(8, 10)]
    assert json.loads((tmp_path / "run/plan.json").read_text())["batch_size"] == 2
    assert load_recipe(tmp_path / "run/recipe.toml").train.batch_size == 2
    with pytest.raises(ConfigError, match=r"train\.batch_size: 2 → 7"):
        train(recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("available", "more", "searched", "batch_size"),
    [(2**40, [], [], 8), (2**20, [], [8], 2), (2**20, ["--batch-size", 4], [], 4),
     (2**20, ["--set", "train.batch_size=4"], [], 4)],
)  # fmt: skip
def test_without_a_recipe_it_searches_where_memory_is_scarce(
    atrous, shapes, tmp_path, monkeypatch, available, more, searched, batch_size
):
    found = []

    def find(recipe, num_classes, *, max_batch_size, memory_bytes, bands):
        found.append(max_batch_size)
        return 2, MB

    monkeypatch.setattr(session, "find_batch_size", find)
    monkeypatch.setattr(module, "read_available_bytes", lambda: available)
    options = ["--crop", 32, "--device", "cpu", "--workers", 0, "--stop-after", "1it", *more]
    code, printed = atrous("train", shapes, "--out", tmp_path / "run", *options)
    assert code == 0, printed
    assert found == searched
    assert load_recipe(tmp_path / "run/recipe.toml").train.batch_size == batch_size


@pytest.mark.parametrize(
    ("line", "folder", "names"),
    [
        ("0::/job/1", "job", ("memory.max", "memory.current")),
        ("4:memory:/job/1", "memory/job/1", ("memory.limit_in_bytes", "memory.usage_in_bytes")),
    ],
)
def test_cgroups_bound_the_available_memory(tmp_path, line, folder, names):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    (tmp_path / "proc/self/cgroup").write_text(f"8:pids:/job/1\n{line}\n")
    assert read_available_bytes(tmp_path) == 8000 * 1024
    group = tmp_path / "sys/fs/cgroup" / folder
    group.mkdir(parents=True)
    for name, text in zip(names, ("5000000", "4000000"), strict=True):
        (group / name).write_text(f"{text}\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 300000\n")
    assert read_available_bytes(tmp_path) == 1_300_000
    (group / names[0]).write_text("max\n")
    assert read_available_bytes(tmp_path) == 8000 * 1024
