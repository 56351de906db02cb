import pytest

from atrous.durations import Duration, parse_duration
from atrous.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20ep", Duration(20, "ep")),
        ("0.5ep", Duration(0.5, "ep")),
        ("30000it", Duration(30000, "it")),
        ("55min", Duration(3300, "s")),
        ("3h50m", Duration(13800, "s")),
        ("1h 30min", Duration(5400, "s")),
        ("90s", Duration(90, "s")),
    ],
)
def test_durations_are_parsed(text, expected):
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "20", "ep", "-5ep", "20 weeks", "3h50", "min"])
def test_other_texts_are_errors_with_examples(text):
    with pytest.raises(ConfigError, match="20ep, steps as 30000it"):
        parse_duration(text)


def test_steps():
    def steps(text: str) -> int:
        return parse_duration(text).compute_steps(steps_per_epoch=45.875, step_s=0.8)

    assert steps("1ep") == 46  # an epoch that ends within a step takes the step
    assert steps("8ep") == 367
    assert steps("100it") == 100
    assert steps("60s") == 75
    assert steps("0.1s") == 1
    assert steps("0s") == 0
