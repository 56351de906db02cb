"""Classes of a dataset: names, colours and the ignore index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from atrous.errors import ConfigError, did_you_mean

IGNORE_INDEX = 255
"""Value of ignored pixels in memory, whatever their value on disk."""

Color = tuple[int, int, int]

VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip


@cache
def voc_color(index: int) -> Color:
    """Return the RGB colour of an index from 0 to 255 in the palette of PASCAL VOC."""
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (index & 1) << bit
        green |= (index >> 1 & 1) << bit
        blue |= (index >> 2 & 1) << bit
        index >>= 3
    return red, green, blue


@dataclass(frozen=True)
class Classes:
    """Names and RGB colours of the classes, in the order of their mask values."""

    names: tuple[str, ...]
    colors: tuple[Color, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> list[int]:
        """768 numbers for `PIL.Image.putpalette`: the classes' colours, then VOC's."""
        colors = list(self.colors) + [voc_color(i) for i in range(len(self.colors), 256)]
        return [channel for color in colors for channel in color]


def build_classes(names: Sequence[str], colors: Sequence[Sequence[int]] | None = None) -> Classes:
    """Build `Classes`; without colours, they have those of VOC's palette."""
    if colors is None:
        colors = [voc_color(index) for index in range(len(names))]
    return Classes(tuple(names), tuple((int(r), int(g), int(b)) for r, g, b in colors))


@dataclass(frozen=True)
class ClassSelection:
    """The classes of a dataset that a model learns.

    Attributes:
        names: The classes to learn, in the order of the model; None for all.
        other: Class that every other class becomes; None: other pixels are ignored. A name that
            the dataset does not have is a new class, the first one unless `names` lists it.
        merge: Classes that become one, by its name; it takes the place of its first part.
        ignore: Classes, after merging, whose pixels are ignored.
    """

    names: tuple[str, ...] | None = None
    other: str | None = None
    merge: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()

    def apply(self, classes: Classes) -> tuple[Classes, tuple[int, ...]]:
        """Select among the classes of a dataset.

        Returns:
            The selected classes, and for each class of the dataset its index among them, or
            `IGNORE_INDEX`.

        Raises:
            ConfigError: A class does not exist, is in two merged classes, or is both selected and
                ignored; or no class is left.
        """
        merged_into = self._list_merged(classes)
        merged = [merged_into.get(name, name) for name in classes.names]
        colors = dict(reversed(list(zip(merged, classes.colors, strict=True))))
        _check_known("ignore", self.ignore, list(colors))
        unselected = [name for name in dict.fromkeys(merged) if name not in self.ignore]
        names = unselected if self.names is None else list(self.names)
        _check_known("classes", [name for name in names if name != self.other], list(colors))
        if self.other is not None and self.other not in names:
            names.insert(0, self.other)
        if both := [name for name in names if name in self.ignore]:
            raise ConfigError(f"The class '{both[0]}' is both selected and ignored.")
        if not names:
            raise ConfigError("All classes are ignored. At least one class must be left.")
        selected = build_classes(names, [colors.get(name, (0, 0, 0)) for name in names])
        rest = IGNORE_INDEX if self.other is None else names.index(self.other)
        indices = {name: names.index(name) if name in names else rest for name in merged}
        indices |= dict.fromkeys(self.ignore, IGNORE_INDEX)
        return selected, tuple(indices[name] for name in merged)

    def _list_merged(self, classes: Classes) -> dict[str, str]:
        """Return the name of the merged class of each class that is part of one."""
        merged_into: dict[str, str] = {}
        for name, parts in self.merge.items():
            _check_known("merge", parts, classes.names)
            for part in parts:
                if part in merged_into:
                    raise ConfigError(
                        f"merge has '{part}' in both '{merged_into[part]}' and '{name}': a class "
                        "can become one class only."
                    )
                merged_into[part] = name
            if name in classes.names and name not in parts:
                raise ConfigError(
                    f"merge makes a class '{name}' without the class of that name in the dataset. "
                    "Add it to the merged classes, or choose another name."
                )
        return merged_into

    def describe(self, selected: Classes) -> str:
        """Return a text on the classes that `apply` has selected."""
        names = [
            f"{name} ({', '.join(self.merge[name])})" if name in self.merge else name
            for name in selected.names
        ]
        rest = f"; ignored: {', '.join(self.ignore)}" if self.ignore else ""
        if self.names is not None:
            ignored = "pixels of other classes are ignored"
            rest += f"; other classes become {self.other}" if self.other else f"; {ignored}"
        return f"Classes to learn: {', '.join(names)}{rest}."


def _check_known(key: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{key}: the dataset has no class '{name}'.{did_you_mean(name, known)}"
            )
