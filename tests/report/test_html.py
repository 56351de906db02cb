"""What every page has in common."""

import base64
import io

import pytest
from jinja2 import UndefinedError
from PIL import Image

from atrous.report.html import (
    format_data_uri,
    format_number,
    format_percent,
    format_score,
    render_page,
)


def test_numbers_and_their_absence():
    scores = [format_score(value) for value in (0.57912, None, float("nan"))]
    assert [*scores, format_score(0.5, 4)] == ["0.579", "–", "–", "0.5000"]
    assert [format_percent(0.0314), format_percent(None)] == ["3.1 %", "–"]
    assert [format_number(1234567), format_number(None)] == ["1,234,567", "–"]


def test_a_missing_variable_is_an_error():
    with pytest.raises(UndefinedError, match="sections"):
        render_page("run.html")


@pytest.mark.parametrize("mode", ["P", "L", "RGBA", "RGB"])
def test_images_survive_as_data_uris(mode):
    image = Image.new("RGB", (9, 7), (200, 30, 40)).convert(mode)
    if mode == "P":
        image.info["transparency"] = bytes([0] * 256)
    kind, _, text = format_data_uri(image).partition(";base64,")
    assert kind == ("data:image/jpeg" if mode == "RGB" else "data:image/png")
    with Image.open(io.BytesIO(base64.b64decode(text))) as back:
        assert back.size == (9, 7)
        assert (
            mode == "RGB"
            or back.convert("RGBA").getpixel((0, 0))[:3]
            == (image.convert("RGBA").getpixel((0, 0))[:3])
        )
        assert mode != "P" or back.convert("RGBA").getpixel((0, 0))[3] == 0
