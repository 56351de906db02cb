import signal

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.data import (
    TrainTransform,
    build_eval_loader,
    build_train_loader,
    compute_sample_order,
    open_dataset,
)
from atrous.data.loader import stream_position
from atrous.errors import ConfigError, DataError
from atrous.seeds import compute_seed

NUM_SAMPLES = 7
TRANSFORM = TrainTransform(crop_hw=(16, 16), brightness=0.3)


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    for sub in ("images", "masks"):
        (tmp_path / "train" / sub).mkdir(parents=True)
    for index in range(NUM_SAMPLES):
        pixels = rng.integers(0, 256, (20 + index, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"train/images/{index}.png")
        Image.fromarray(pixels[..., 0] % 3).save(tmp_path / f"train/masks/{index}.png")
    return open_dataset(tmp_path, "train")


def load(dataset, workers=0, start=0, num=6, **options):
    options = {"batch_size": 3, "seed": 1, **options}
    return list(
        build_train_loader(
            dataset, TRANSFORM, start_batch=start, num_batches=num, workers=workers, **options
        )
    )


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.names == other.names
        assert torch.equal(batch.image, other.image)
        assert torch.equal(batch.mask, other.mask)


def test_an_epoch_is_a_permutation_that_seed_and_epoch_give():
    order = compute_sample_order(100, 0, 0)
    assert sorted(order) == list(range(100))
    assert np.array_equal(order, compute_sample_order(100, 0, 0))
    assert not np.array_equal(order, compute_sample_order(100, 0, 1))
    assert not np.array_equal(order, compute_sample_order(100, 1, 0))


def test_sample_seeds_differ():
    triples = [(s, e, i) for s in range(5) for e in range(12) for i in range(112)]
    assert len({compute_seed(*triple) for triple in triples}) == len(triples)


def test_the_stream_goes_through_all_samples_in_every_epoch():
    for epoch in range(3):
        positions = range(epoch * 7, (epoch + 1) * 7)
        places = [stream_position(position, 7, 0) for position in positions]
        assert {found for found, _ in places} == {epoch}
        assert sorted(index for _, index in places) == list(range(7))


def test_batches_are_full_and_channels_last_and_run_over_the_ends_of_epochs(dataset):
    batches = load(dataset, num=7)
    names = [name for batch in batches for name in batch.names]
    assert [sorted(names[at : at + 7]) for at in (0, 7, 14)] == [sorted(dataset.names)] * 3
    for batch in batches:
        assert (batch.image.shape, batch.image.dtype) == ((3, 3, 16, 16), torch.uint8)
        assert (batch.mask.shape, batch.mask.dtype) == ((3, 16, 16), torch.uint8)
        assert batch.image.is_contiguous(memory_format=torch.channels_last)
        assert type(batch.image) is torch.Tensor


def test_a_batch_may_be_longer_than_the_data(dataset):
    (batch,) = load(dataset, num=1, batch_size=17)
    assert len(batch.names) == 17


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_no_batch(dataset, workers):
    assert_equal(load(dataset, workers=workers), load(dataset))


def test_starting_anywhere_gives_the_batches_of_the_whole(dataset):
    assert_equal(load(dataset, start=4, num=2), load(dataset)[4:])
    assert load(dataset, start=10**9, num=1)[0].image.shape == (3, 3, 16, 16)


def test_the_ranks_share_each_batch(dataset):
    whole = load(dataset, batch_size=6, num=3)
    ranks = [load(dataset, num=3, rank=rank, world_size=2) for rank in (0, 1)]
    for batch, first, second in zip(whole, *ranks, strict=True):
        assert batch.names == first.names + second.names
        assert torch.equal(batch.image, torch.cat([first.image, second.image]))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_random_state_of_the_process_is_left_alone(dataset, workers):
    before = torch.get_rng_state()
    load(dataset, workers=workers)
    list(build_eval_loader(dataset, workers=workers))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_reads_in_order_at_the_images_own_size(dataset, workers):
    samples = list(build_eval_loader(dataset, workers=workers))
    assert [sample.name for sample in samples] == dataset.names
    for index, sample in enumerate(samples):
        assert torch.equal(sample.image, dataset.load(index).image)
        assert torch.equal(sample.mask, dataset.load(index).mask)
    shares = [build_eval_loader(dataset, workers=workers, rank=r, world_size=3) for r in range(3)]
    assert [len(list(share)) for share in shares] == [3, 2, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_gives_its_own_message_without_a_traceback(dataset, workers):
    dataset.image_paths[2].write_text("no image")
    with pytest.raises(DataError) as expected:
        dataset.load(2)
    for iterate in (
        lambda: load(dataset, workers=workers),
        lambda: list(build_eval_loader(dataset, workers=workers)),
    ):
        with pytest.raises(DataError) as caught:
            iterate()
        assert str(caught.value) == str(expected.value)


def test_a_negative_number_of_workers(dataset):
    with pytest.raises(ConfigError, match="0 or more, not -1"):
        build_eval_loader(dataset, workers=-1)


def test_reading_in_this_process_leaves_its_signals(dataset):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    list(build_eval_loader(dataset, workers=0))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
