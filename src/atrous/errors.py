"""What can go wrong on the user's side, each as one readable paragraph."""

import difflib
from collections.abc import Iterable


class AtrousError(Exception):
    """A mistake or mishap outside the program; the message says what to do."""


class ConfigError(AtrousError):
    """An option, recipe key or name that cannot be used."""


class DataError(AtrousError):
    """A data set, image or mask that cannot be used; the message names the file."""


class WeightsError(AtrousError):
    """A weights file that is missing, damaged or made for another model."""


class CheckpointError(AtrousError):
    """A training state that cannot be saved or read."""


class ExportError(AtrousError):
    """A model that cannot be exported, or an export that does not agree with its original."""


class TrainingError(AtrousError):
    """Training that cannot go on, such as a loss that is not finite."""


class AtrousWarning(UserWarning):
    """Something to know that stops nothing; the command prints it as one paragraph."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest known names, or all of them if few, or ''."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return " Did you mean " + " or ".join(f"'{match}'" for match in near) + "?"
    return f" Known: {', '.join(known)}." if known else ""
