import pytest

from atrous.run import load_log
from atrous.training.log import RunLog


def test_steps_after_the_saved_state_are_dropped_and_sessions_kept(tmp_path):
    path, values = tmp_path / "log.jsonl", {"epoch": 0.1, "loss": 1.0, "lr": 0.1}
    with RunLog(path) as log:
        log.write({"kind": "session", "event": "start", "step": 0})
        log.write({"kind": "train", "step": 1, **values})
        saved = log.sync()
        log.write({"kind": "train", "step": 2, **values})
        log.write({"kind": "session", "event": "start", "step": 1})
        log.write({"kind": "train", "step": 2, **values})
    with open(path, "ab") as file:
        file.write(b'{"kind": "train", "st')  # killed while writing
    assert len(load_log(path)) == 5
    with RunLog(path, num_bytes=saved) as log:
        log.write({"kind": "train", "step": 2, **values})
    assert [(record["kind"], record["step"]) for record in load_log(path)] == [
        ("session", 0),
        ("train", 1),
        ("session", 1),
        ("train", 2),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "5",
        '[{"kind": "train"}]',
        '{"step": 1}',
        '{"kind": ["train"], "step": 1}',
        '{"kind": "note", "step": "a"}',
        '{"kind": "session", "step": 3, "event": null}',
        '{"kind": "train", "step": 3, "epoch": 1, "loss": "0.5", "lr": 0.1}',
        '{"kind": "val", "step": 3, "epoch": 1, "loss": null}',
    ],
)
def test_lines_without_the_values_of_a_record_are_left_out(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text(f'{line}\n{{"kind": "session", "event": "start", "step": 0}}\n')
    assert [record["kind"] for record in load_log(path)] == ["session"]
    with RunLog(path) as log:
        log.write({"kind": "session", "event": "end", "step": 0})
    assert len(load_log(path)) == 2
