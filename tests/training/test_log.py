from atrous.run import load_log
from atrous.training.log import RunLog


def test_steps_after_the_saved_state_are_dropped_and_sessions_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    with RunLog(path) as log:
        log.write({"kind": "session", "event": "start", "step": 0})
        log.write({"kind": "train", "step": 1})
        saved = log.sync()
        log.write({"kind": "train", "step": 2})
        log.write({"kind": "session", "event": "start", "step": 1})
        log.write({"kind": "train", "step": 2})
    with open(path, "ab") as file:
        file.write(b'{"kind": "train", "st')  # killed while writing
    assert len(load_log(path)) == 5
    with RunLog(path, num_bytes=saved) as log:
        log.write({"kind": "train", "step": 2})
    assert [(record["kind"], record["step"]) for record in load_log(path)] == [
        ("session", 0),
        ("train", 1),
        ("session", 1),
        ("train", 2),
    ]
