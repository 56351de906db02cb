"""The queue: bounded, in batches of one key, without cancelled items."""

import threading

import pytest

from atrous.serve.batcher import Batcher
from atrous.serve.errors import RequestError


class Worker:
    """Records its batches, blocks until `go` is set, and fails on an item `bad`."""

    def __init__(self):
        self.batches = []
        self.go = threading.Event()
        self.started = threading.Event()

    def __call__(self, key, items, check):
        self.started.set()
        assert self.go.wait(10)
        self.batches.append((key, list(items)))
        if "bad" in items:
            raise ValueError("bad item")
        return [item * 2 for item in items]


@pytest.fixture
def worker():
    return Worker()


@pytest.fixture
def batcher(worker):
    batcher = Batcher(worker, max_batch=lambda key: 3, max_waiting=6)
    batcher.submit("first", "0")  # the following items arrive while this one is running
    assert worker.started.wait(10)
    yield batcher
    worker.go.set()
    batcher.stop()


def finish(worker, futures):
    worker.go.set()
    return [future.result(10) for future in futures]


def test_items_of_one_key_are_batched_up_to_the_limit_oldest_first(worker, batcher):
    keys = ["a", "b", "a", "a", "a", "b"]
    futures = [batcher.submit(key, str(number)) for number, key in enumerate(keys)]
    assert finish(worker, futures) == ["00", "11", "22", "33", "44", "55"]
    assert worker.batches[1:] == [("a", ["0", "2", "3"]), ("b", ["1", "5"]), ("a", ["4"])]


def test_cancelled_items_are_not_run_and_free_their_place(worker, batcher):
    futures = [batcher.submit("a", str(number)) for number in range(6)]
    with pytest.raises(RequestError, match="6 images are waiting") as caught:
        batcher.submit("a", "6")
    assert caught.value.status == 429
    assert int(caught.value.headers["Retry-After"]) >= 1
    assert futures[0].cancel()
    assert futures[3].cancel()
    assert batcher.num_waiting == 4
    last = batcher.submit("a", "6")
    finish(worker, [last])
    assert [item for _, items in worker.batches for item in items] == ["0", "1", "2", "4", "5", "6"]


def test_an_error_reaches_only_its_batch(worker, batcher):
    bad = [batcher.submit("a", item) for item in ("x", "bad")]
    good = batcher.submit("b", "y")
    assert finish(worker, [good]) == ["yy"]
    for future in bad:
        with pytest.raises(ValueError, match="bad item"):
            future.result(10)


def test_stopping_completes_queued_items(worker, batcher):
    futures = [batcher.submit("a", str(number)) for number in range(4)]
    stopping = threading.Thread(target=batcher.stop)
    stopping.start()
    worker.go.set()
    stopping.join(10)
    assert [future.result(0) for future in futures] == ["00", "11", "22", "33"]
    with pytest.raises(RequestError, match="shutting down"):
        batcher.submit("a", "5")
