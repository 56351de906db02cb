"""Reading ahead and writing behind: order, concurrency, bounds, and the end of all threads."""

import threading
import time

import pytest

from atrous.prediction.pipeline import WriteBehind, read_ahead


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("ahead", [0, 1, 4, 50])
@pytest.mark.parametrize("threads", [1, 3])
def test_items_come_in_order_whatever_takes_longest(ahead, threads):
    def load(item):
        time.sleep(0.002 * (item % 3))
        return 2 * item

    assert list(read_ahead(range(20), load, ahead=ahead, threads=threads)) == list(range(0, 40, 2))
    assert list(read_ahead([], load, ahead=ahead, threads=threads)) == []


def test_the_next_items_are_loaded_while_one_is_used_and_no_more_than_asked_for():
    loaded = [threading.Event() for _ in range(10)]
    items = iter(range(10))

    def load(item):
        loaded[item].set()
        return item

    reading = read_ahead(items, load, ahead=2, threads=1)
    assert next(reading) == 0
    assert all(event.wait(10) for event in loaded[:3])
    time.sleep(0.05)
    assert next(items) == 3, "it walked further than it was allowed to"
    reading.close()


@pytest.mark.parametrize("stage", ["walk", "load"])
@pytest.mark.parametrize("ahead", [0, 3])
def test_a_failure_comes_up_when_its_turn_comes(stage, ahead):
    def walk():
        for item in range(9):
            if stage == "walk" and item == 4:
                raise ValueError("torn")
            yield item

    def load(item):
        if stage == "load" and item == 4:
            raise ValueError("torn")
        return item

    reading = read_ahead(walk(), load, ahead=ahead, threads=2)
    assert [next(reading) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="torn"):
        next(reading)


def test_one_writer_keeps_the_order_and_leaving_waits_for_all():
    written = []
    with WriteBehind(behind=3, threads=1) as writer:
        for item in range(20):
            writer.submit(lambda item=item: (time.sleep(0.001), written.append(item)))
    assert written == list(range(20))


def test_submit_waits_when_too_much_is_unwritten():
    gate, started = threading.Event(), []

    def write(item):
        started.append(item)
        gate.wait(10)

    with WriteBehind(behind=2, threads=1) as writer:
        for item in range(2):
            writer.submit(write, item)
        third = threading.Thread(target=writer.submit, args=(write, 2))
        third.start()
        third.join(0.1)
        assert third.is_alive()
        gate.set()
        third.join(10)
    assert started == [0, 1, 2]


@pytest.mark.parametrize("behind", [0, 2])
def test_a_write_that_fails_is_raised_and_nothing_more_begins(behind):
    written = []

    def write(item):
        if item == 1:
            raise OSError("full")
        written.append(item)

    def run():
        with WriteBehind(behind=behind, threads=1) as writer:
            for item in range(50):
                writer.submit(write, item)

    with pytest.raises(OSError, match="full"):
        run()
    assert len(written) < 50


def test_an_interrupt_drops_what_has_not_begun_and_finishes_what_has():
    begun, gate, finished = threading.Event(), threading.Event(), []

    def write(item):
        begun.set()
        gate.wait(10)
        finished.append(item)

    def run():
        with WriteBehind(behind=4, threads=1) as writer:
            for item in range(3):
                writer.submit(write, item)
            begun.wait(10)
            opener.start()
            raise KeyboardInterrupt

    opener = threading.Timer(0.05, gate.set)
    with pytest.raises(KeyboardInterrupt):
        run()
    opener.join()
    assert finished == [0]
