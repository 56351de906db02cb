import errno
import json

import pytest
import torch

from atrous.errors import CheckpointError
from atrous.training import checkpoint
from atrous.training.checkpoint import (
    compute_state_sha256,
    list_checkpoints,
    load_newest_checkpoint,
    save_checkpoint,
)


def make_state(value: float) -> dict:
    return {"model": {"weight": torch.full((3,), value)}, "step": int(value), "best": None}


def load(folder) -> tuple[str, dict, list[str]]:
    warnings: list[str] = []
    path, state = load_newest_checkpoint(folder, warn=warnings.append)
    return path.name, state, warnings


def test_the_newest_are_kept_and_come_back_equal(tmp_path):
    for step in (1, 2, 10, 11):
        save_checkpoint(tmp_path, step, make_state(step), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000010", "step-00000011"]
    name, state, warnings = load(tmp_path)
    assert (name, warnings) == ("step-00000011", [])
    assert compute_state_sha256(state) == compute_state_sha256(make_state(11))


def test_no_checkpoint_yet_is_no_error(tmp_path):
    assert load_newest_checkpoint(tmp_path / "none", warn=pytest.fail) is None


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "no state", "no manifest"])
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(tmp_path, damage):
    save_checkpoint(tmp_path, 1, make_state(1), keep=2)
    newest = save_checkpoint(tmp_path, 2, make_state(2), keep=2)
    state = newest / "state.pt"
    content = bytearray(state.read_bytes())
    if damage == "truncated":
        state.write_bytes(content[: len(content) // 2])
    elif damage == "flipped bit":
        content[len(content) // 2] ^= 1
        state.write_bytes(content)
    else:
        (newest / {"no state": "state.pt", "no manifest": "manifest.json"}[damage]).unlink()
    name, loaded, warnings = load(tmp_path)
    assert (name, loaded["step"]) == ("step-00000001", 1)
    assert len(warnings) == 1
    assert "step-00000002 is damaged" in warnings[0]
    # It no longer counts among those that are kept.
    save_checkpoint(tmp_path, 2, make_state(2), keep=2)
    assert load(tmp_path)[0] == "step-00000002"


def test_all_damaged_is_an_error_that_does_not_start_over(tmp_path):
    path = save_checkpoint(tmp_path, 1, make_state(1), keep=2)
    (path / "manifest.json").write_text(json.dumps({"step": 1, "sha256": "0"}))
    for _ in range(2):  # nor is it one the second time
        with pytest.raises(CheckpointError, match="None of the 1 checkpoints"):
            load(tmp_path)


def test_a_second_state_of_a_step_does_not_touch_the_first(tmp_path):
    first = save_checkpoint(tmp_path, 5, make_state(1), keep=2)
    second = save_checkpoint(tmp_path, 5, make_state(2), keep=2)
    assert first.exists()
    assert load(tmp_path)[0] == second.name
    assert load(tmp_path)[1]["step"] == 2
    save_checkpoint(tmp_path, 6, make_state(3), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == [second.name, "step-00000006"]


def test_an_incomplete_checkpoint_is_removed(tmp_path):
    save_checkpoint(tmp_path, 1, make_state(1), keep=2)
    torn = tmp_path / ".writing-00000002"
    torn.mkdir()
    (torn / "state.pt").write_bytes(b"half")
    assert load(tmp_path)[0] == "step-00000001"
    assert not torn.exists()


def test_a_full_disk_leaves_the_previous_checkpoint_intact(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, make_state(1), keep=1)

    def fill_the_disk(state, file):
        file.write(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.torch, "save", fill_the_disk)
        with pytest.raises(CheckpointError, match=r"the disk is full\. step-00000001 is intact"):
            save_checkpoint(tmp_path, 2, make_state(2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert load(tmp_path)[1]["step"] == 1


def test_the_digest_sees_every_bit_type_and_shape():
    base = {"a": torch.zeros(4), "b": [1, None]}
    digests = {
        compute_state_sha256(state)
        for state in (
            base,
            {**base, "a": torch.tensor([0.0, 0.0, 0.0, -0.0])},
            {**base, "a": torch.zeros(4, dtype=torch.float64)},
            {**base, "a": torch.zeros(2, 2)},
            {**base, "b": [1, 0]},
        )
    }
    assert len(digests) == 5
    assert compute_state_sha256(base) == compute_state_sha256({"a": torch.zeros(4), "b": [1, None]})
