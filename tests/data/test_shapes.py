import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

from atrous.classes import IGNORE_INDEX
from atrous.data import compute_mask_statistics, open_dataset
from atrous.data.shapes import SHAPES, draw_scene, write_shapes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, num_train=240, num_val=60, size_px=128)
    return folder


def sample_pixels(dataset, per_image):
    """Return colours (N, 3) and classes (N,) of random pixels that are not ignored."""
    rng = np.random.default_rng(0)
    colors, labels = [], []
    for index in range(len(dataset)):
        sample = dataset.load(index)
        chosen = rng.choice(np.flatnonzero(sample.mask.numpy() != IGNORE_INDEX), per_image)
        colors.append(sample.image.flatten(1).T.numpy()[chosen])
        labels.append(sample.mask.flatten().numpy()[chosen])
    return np.concatenate(colors), np.concatenate(labels)


def compute_miou(predicted, labels):
    ious = [
        np.sum((predicted == index) & (labels == index))
        / np.sum((predicted == index) | (labels == index))
        for index in range(len(SHAPES))
    ]
    return float(np.mean(ious))


def test_the_real_loader_reads_it(shapes):
    for split, length in (("train", 240), ("val", 60)):
        dataset = open_dataset(shapes, split)
        assert (dataset.format, len(dataset), dataset.classes) == ("voc", length, SHAPES)
    sample = dataset.load(0)
    assert (sample.image.shape, sample.mask.shape) == ((3, 128, 128), (128, 128))
    with Image.open(dataset.mask_paths[0]) as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[3:6] == list(SHAPES.colors[1])


def test_every_class_occurs_and_one_is_rare(shapes):
    for split in ("train", "val"):
        statistics = compute_mask_statistics(open_dataset(shapes, split))
        share = np.array(statistics.pixels) / sum(statistics.pixels)
        assert share.argmin() == SHAPES.names.index("moon")
        assert 0.005 < share.min() < 0.03 < np.sort(share)[1]
        assert 0.5 < share[0] < 0.75
        assert 0.05 < statistics.num_ignored / sum(statistics.pixels) < 0.15


def test_ignored_pixels_surround_every_object():
    _, mask = draw_scene(np.random.default_rng(0), 128)
    for a, b in ((mask[:, 1:], mask[:, :-1]), (mask[1:], mask[:-1])):
        assert ((a == b) | (a == IGNORE_INDEX) | (b == IGNORE_INDEX)).all()


def test_colour_alone_is_not_enough(shapes, capsys):
    colors, labels = sample_pixels(open_dataset(shapes, "train"), 400)
    val_colors, val_labels = sample_pixels(open_dataset(shapes, "val"), 2000)
    forest = RandomForestClassifier(30, max_depth=14, min_samples_leaf=5, random_state=0)
    by_color = compute_miou(forest.fit(colors, labels).predict(val_colors), val_labels)
    constant = max(
        compute_miou(np.full_like(val_labels, index), val_labels) for index in range(len(SHAPES))
    )
    with capsys.disabled():
        print(f"\nshapes, val mIoU: one class {constant:.3f}, random forest on RGB {by_color:.3f}")
    assert constant < 0.2
    assert by_color < 0.5


def test_the_same_numbers_give_the_same_files(tmp_path):
    for folder, num_train in (("one", 3), ("two", 3), ("longer", 5)):
        write_shapes(tmp_path / folder, num_train=num_train, num_val=1, size_px=64)
    write_shapes(tmp_path / "other", num_train=3, num_val=1, size_px=64, seed=1)
    one, two, longer, other = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / name for name in ("one", "two", "longer", "other"))
    )
    assert len(one) == 2 * 4 + 3
    assert one == two
    images = [path for path in one if path.suffix in (".jpg", ".png")]
    assert all(one[path] == longer[path] for path in images)
    assert all(one[path] != other[path] for path in images)
