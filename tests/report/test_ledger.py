"""The ledger says what was measured, and only that."""

import re

import pytest

from atrous.classes import VOC_NAMES
from atrous.recipe import build_recipe
from atrous.report import published
from atrous.report.ledger import build_ledger, find_data, find_system

CAMVID_NAMES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian",
    "bicyclist",
)  # fmt: skip
AS_IN_THE_PAPER = {
    "model": {"name": "deeplabv3_resnet101", "multi_grid": [1, 2, 4], "init": "imagenet"},
    "data": {"crop": 513},
    "train": {"batch_size": 16, "optimizer": "sgd", "lr": 0.007},
}
PLAN = {"num_train": 10582, "total_steps": 30000}
SCORES = {"num_images": 1449, "output_stride": 16, "tta": {"scales": [1.0], "flip": False}}


def list_departures(change, *, plan=PLAN, scores=SCORES, names=VOC_NAMES):
    values = {
        section: {**keys, **change.get(section, {})} for section, keys in AS_IN_THE_PAPER.items()
    }
    values |= {section: keys for section, keys in change.items() if section not in values}
    (entry,) = build_ledger(build_recipe(values), plan, scores, names)
    return {departure.what: departure for departure in entry.departures}


def test_the_papers_own_recipe_departs_in_the_words_for_its_course_alone():
    assert list(list_departures({})) == ["optimizer and learning rate"]


@pytest.mark.parametrize(
    ("what", "change", "scores", "points"),
    [
        ("batch size", {"train": {"batch_size": 4}}, {}, -12.78),
        ("batch size", {"train": {"batch_size": 8}}, {}, -1.45),
        ("batch size", {"train": {"batch_size": 32}}, {}, None),
        ("crop, px", {"data": {"crop": 321}}, {}, -9.99),
        ("crop, px", {"data": {"crop": None, "size": 256}}, {}, None),
        ("normalisation", {"model": {"freeze_norm": True}}, {}, -1.26),
        ("normalisation", {"model": {"norm": "group"}}, {}, None),
        ("multi-grid", {"model": {"multi_grid": [1, 1, 1]}}, {}, -1.22),
        ("backbone", {"model": {"name": "deeplabv3_resnet50"}}, {}, -1.88),
        ("backbone", {"model": {"name": "deeplabv3_resnet18"}}, {}, None),
        ("initial weights", {"model": {"init": "none"}}, {}, None),
        ("output stride, training / evaluation", {}, {"output_stride": 8}, 1.30),
        (
            "output stride, training / evaluation",
            {"model": {"output_stride": 32}},
            {"output_stride": 32},
            -1.78,
        ),
        (
            "test-time augmentation",
            {},
            {"output_stride": 8, "tta": {"scales": [0.5, 1.0], "flip": True}},
            1.26,
        ),
        ("test-time augmentation", {}, {"tta": {"scales": [1.0], "flip": True}}, None),
        ("evaluated images", {}, {"num_images": 325}, None),
        ("class weights", {"loss": {"class_weights": "inverse"}}, {}, None),
        ("loss", {"loss": {"dice": 0.5}}, {}, None),
    ],
)
def test_each_departure_has_the_cost_that_the_table_gives(what, change, scores, points):
    departure = list_departures(change, scores={**SCORES, **scores})[what]
    assert departure.points == points
    assert (points is None) or departure.source.startswith("arXiv:")


def test_beside_an_unmeasured_number_stand_the_measured_ones():
    departure = list_departures({"train": {"batch_size": 6}})["batch size"]
    assert departure.points is None
    assert departure.remark == "nearest measured: 4, −12.78; 8, −1.45"


def test_training_without_sbd_is_said():
    departure = list_departures({}, plan={**PLAN, "num_train": 1464})["training images"]
    assert (departure.paper, departure.run) == ("10,582", "1,464")
    assert "SBD" in departure.remark


def test_another_model_on_known_data_gives_two_entries():
    recipe = build_recipe({"model": {"name": "deeplabv3plus_resnet18", "output_stride": 32}})
    scores = {**SCORES, "num_images": 101, "output_stride": 32}
    of_data, of_model = build_ledger(recipe, {"num_train": 367}, scores, CAMVID_NAMES)
    assert (of_data.figure.system, of_data.nearest_in) == ("SegNet-Basic", "data")
    assert (of_model.figure.system, of_model.nearest_in) == ("DeepLabv3+", "model")
    costs = {departure.what: departure for departure in of_model.departures}
    assert costs["output stride, training / evaluation"].points == -1.48
    assert costs["batch size"].remark == "on DeepLabv3"
    scored = {departure.what: departure for departure in of_data.departures}["evaluated images"]
    assert (scored.paper, scored.run) == ("233 (test)", "101")


def test_data_and_systems_are_told_by_their_names():
    assert find_data(VOC_NAMES) == "VOC 2012"
    assert find_data(CAMVID_NAMES) == "CamVid"
    assert find_data([name.replace("pavement", "Sidewalk") for name in CAMVID_NAMES]) == "CamVid"
    assert find_data(["cat", "dog"]) is None
    assert find_data(["class"] * 21) is None
    assert [find_system(name) for name in ("deeplabv3_resnet50", "deeplabv3plus_resnet18")] == [
        "DeepLabv3", "DeepLabv3+",
    ]  # fmt: skip


def test_every_figure_names_its_table_and_every_measurement_its_own_reference():
    for figure in published.PUBLISHED:
        assert re.match(r"arXiv:\d{4}\.\d{5}, table \d+|the student report", figure.source)
        assert 0 < figure.miou < 1
    for measured in (published.BATCH_SIZE, published.CROP, published.NORM):
        assert published.PUBLISHED[0].miou in measured.systems["DeepLabv3"].values()
