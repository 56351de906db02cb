"""The metadata of a weights file."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from atrous.bands import Ranges, check_ranges
from atrous.classes import IGNORE_INDEX, Classes, ClassSelection
from atrous.parsing import explain_validation, is_plain_name, parse_json

Read = TypeVar("Read")

MIN_SIDE_PX, MAX_SIDE_PX = 32, 16384

Side = Annotated[int, Field(ge=MIN_SIDE_PX, le=MAX_SIDE_PX)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Deviation = Annotated[float, Field(ge=1e-6, le=1e6)]


def check_name(name: str) -> str:
    """Return a name after checking that it is one line of printable characters.

    Raises:
        ValueError: The name is empty or has control characters.
    """
    if not name or not is_plain_name(name):
        raise ValueError("a name must be printable characters in one line")
    return name


def _check_option(value: Any) -> Any:
    """Check the type and size of an option, before a model is built with it."""
    parts = value if isinstance(value, list) else [value]
    is_plain = all(part is None or isinstance(part, bool | int | float | str) for part in parts)
    if not is_plain or len(parts) > 64:
        raise ValueError(
            "an option is a number, text, boolean or null, or a list of up to 64 of them"
        )
    if any(isinstance(part, int | float) and not abs(part) <= 2**16 for part in parts):
        raise ValueError("an option must be a number up to 65536")
    return value


def _check_classes(classes: Classes) -> Classes:
    names, colors = classes.names, classes.colors
    if not 1 <= len(names) == len(set(names)) <= IGNORE_INDEX:
        raise ValueError("there must be 1 to 255 different names")
    for name in names:
        check_name(name)
    if len(colors) != len(names):
        raise ValueError(f"there are {len(names)} names but {len(colors)} colors")
    if any(not 0 <= channel <= 255 for color in colors for channel in color):
        raise ValueError("a color is red, green and blue, each 0 to 255")
    return classes


@dataclass(frozen=True)
class ModelCard:
    """Everything needed to build a model, preprocess images and name the classes.

    `from_json` checks the constraints in the annotations; the constructor does not.

    Attributes:
        mean: Mean of each band, for the normalization of images in 0-1.
        size_hw: Height and width that images are resized to; None to keep their aspect ratio.
        training: Origin of the weights, such as step and score.
        temperature: Divisor of the logits that calibrates the probabilities; 1 unless
            `atrous calibrate` fitted another.
        long_side: Longer side in pixels that images are resized to, in proportion; None for
            `size_hw` or their own size.
        selection: The classes of the dataset that the model learned; None for all.
        ranges: Values of each band that become 0 and 1; None for 8-bit RGB images, where these are
            0 and 255.
    """

    name: Annotated[str, AfterValidator(check_name)]
    options: dict[str, Annotated[Any, AfterValidator(_check_option)]]
    classes: Annotated[Classes, AfterValidator(_check_classes)]
    mean: Annotated[tuple[_Share, ...], Field(min_length=1)]
    std: Annotated[tuple[_Deviation, ...], Field(min_length=1)]
    size_hw: tuple[Side, Side] | None
    training: dict[str, Any]
    temperature: Annotated[float, Field(ge=1e-3, le=1e3)] = 1.0
    long_side: Side | None = None
    selection: ClassSelection | None = None
    ranges: Annotated[Ranges | None, AfterValidator(check_ranges)] = None

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    @property
    def bands(self) -> int | None:
        """Number of bands of the images; None for 8-bit RGB."""
        return None if self.ranges is None else len(self.ranges)

    def compute_size_hw(self, height: int, width: int) -> tuple[int, int] | None:
        """Return the size that an image is resized to; None if it keeps its own."""
        if self.long_side is None:
            return self.size_hw
        factor = self.long_side / max(height, width)
        size_hw = max(1, round(height * factor)), max(1, round(width * factor))
        return None if size_hw == (height, width) else size_hw

    def to_json(self) -> str:
        """Format the card as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "ModelCard":
        """Parse a card from JSON.

        Raises:
            ValueError: The text is not a valid card; the message names the invalid keys.
        """
        return read_strictly(ModelCard, parse_json(text))


def read_strictly(kind: type[Read], values: Any) -> Read:
    """Build an object of a type from JSON values, without type conversions.

    Raises:
        ValueError: The values are invalid; the message names the keys.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise ValueError(explain_validation(error)) from None
