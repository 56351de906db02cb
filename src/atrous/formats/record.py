"""`import.json`: where a dataset comes from, so that a second import of it changes nothing."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atrous.errors import ConfigError
from atrous.formats.source import Item
from atrous.parsing import parse_json

Files = list[list[str | int]]
"""Path and size in bytes of an image and of the files of its labels."""

_NAME = "import.json"


def describe_files(item: Item) -> Files:
    """Return the files of an image."""
    paths = (item.image, *item.more_bands, *item.labels)
    return [[str(path), path.stat().st_size if path.is_file() else 0] for path in paths]


def write_record(
    folder: Path,
    facts: Mapping[str, Any],
    images: Mapping[str, Files],
    skipped: Mapping[str, int],
    notes: Sequence[str],
) -> None:
    """Write what was imported: `images` has the files of each `SPLIT/STEM`."""
    content = {**facts, "skipped": skipped, "notes": notes, "images": images}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / _NAME).write_text(text + "\n", encoding="utf-8", errors="surrogateescape")


def read_record(
    folder: Path, facts: Mapping[str, Any], files: Sequence[Files]
) -> tuple[dict[str, int], dict[str, int], list[str]]:
    """Return the number of images per split, what was left out, and the notes of an import.

    Raises:
        ConfigError: The folder holds anything but an import with these facts and files.
    """
    path = folder / _NAME
    if not path.is_file():
        raise ConfigError(f"{folder} already holds other files. Give a new folder.")
    try:
        stored = parse_json(path.read_text(encoding="utf-8", errors="surrogateescape"))
        given = parse_json(json.dumps(facts))  # lists, as they are stored
        images = stored["images"]
        is_same = all(stored.get(key) == value for key, value in given.items())
        is_same = is_same and sorted(images.values()) == sorted(files)
        counts = Counter(name.partition("/")[0] for name in images)
        result = dict(sorted(counts.items())), dict(stored["skipped"]), list(stored["notes"])
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ConfigError(f"{path} cannot be read ({error!r}). Give a new folder.") from None
    if not is_same:
        raise ConfigError(
            f"{folder} already holds another import: of other files, or with other options. Give "
            "a new folder, or remove this one."
        )
    return result
