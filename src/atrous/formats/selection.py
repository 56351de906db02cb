"""The classes of an import: those of the source, selected, merged, ignored or renamed."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from atrous.classes import IGNORE_INDEX, Classes, ClassSelection
from atrous.errors import ConfigError, DataError
from atrous.formats.source import BACKGROUND, Source
from atrous.parsing import is_plain_name


def choose_classes(
    source: Source, selection: ClassSelection, class_name: str | None
) -> tuple[ClassSelection, Classes, np.ndarray]:
    """Apply a selection to the classes of a source.

    Returns:
        The selection that was applied, the selected classes, and the new value of each mask value,
        uint8 (256,).

    Raises:
        ConfigError: A class of the selection does not exist, or `class_name` has no single class
            to name.
        DataError: A name cannot be that of a class.
    """
    _check_names(source.classes.names)
    classes = source.classes
    if class_name is not None:
        if len(classes) != 2 or classes.names[0] != BACKGROUND:
            raise ConfigError(
                f"--class {class_name} names the only class besides {BACKGROUND}, but the source "
                f"has {', '.join(classes.names)}. Use --merge {class_name}=A,B for several."
            )
        classes = replace(classes, names=(BACKGROUND, class_name))
    names = selection.names
    if names and selection.other is None and BACKGROUND in {*classes.names} - {*names}:
        selection = replace(selection, other=BACKGROUND)
        source.notes.append(f"Pixels of other classes than {', '.join(names)} are {BACKGROUND}.")
    selected, indices = selection.apply(classes)
    table = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, np.uint8)
    table[: len(indices)] = indices
    return selection, selected, table


def _check_names(names: Sequence[str]) -> None:
    if wrong := [name for name in names if not name or not is_plain_name(name)]:
        raise DataError(
            f"The source has a class named {wrong[0]!a}. A name is one line of printable "
            "characters: rename it in the source."
        )
    if len(names) > IGNORE_INDEX:
        raise DataError(
            f"The source has {len(names)} classes; masks hold up to {IGNORE_INDEX}. Merge or leave "
            "out classes in the labelling tool."
        )
