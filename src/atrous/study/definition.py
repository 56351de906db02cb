"""Definition of a study: a shared recipe, and the keys that each run changes."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from atrous.errors import ConfigError, did_you_mean
from atrous.evaluation.conventions import CONVENTION_KEYS
from atrous.recipe import Recipe, build_recipe, load_toml, set_key

Score = Literal["miou", "precision", "recall", "f1"]

_BUDGET_KEYS = ("train.duration", "train.batch_size", "train.accumulate", "data.crop", "data.size")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StudyRun(_Table):
    """One row of a study.

    Attributes:
        name: Name of the row and of the run folder.
        set: Recipe keys of this run, as `section.key`, with their values.
        paper: Scores published by the source, in percent: any of `miou`, `precision`, `recall`
            and `f1`.
        departs: Differences of this run from the source, in addition to those of the study.
    """

    name: str = Field(pattern=r"^[\w.+-]+$")
    set: dict[str, Any] = {}
    paper: dict[Score, float] = {}
    departs: str = ""


class Study(_Table):
    """A shared recipe and the runs that change it.

    Budgets are equal: runs cannot change the keys of duration, batch size and image size.

    Attributes:
        about: What the study compares and why, in a paragraph.
        departs: Differences of the whole study from the source.
        convention: Key of a second averaging convention (docs/metrics.md) for precision, recall
            and F1, or ''.
        scales: Scales of the evaluation, as in `atrous evaluate --scales`.
        runs: The runs; differences are relative to the first.
    """

    title: str
    about: str = ""
    source: str = ""
    departs: str = ""
    convention: str = ""
    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field((1.0,), min_length=1)
    recipe: dict[str, dict[str, Any]] = {}
    runs: tuple[StudyRun, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [run.name for run in self.runs]
        if len(set(names)) < len(names):
            raise ValueError(f"each run needs its own name, got {', '.join(names)}")
        if self.convention and self.convention not in CONVENTION_KEYS:
            near = did_you_mean(self.convention, CONVENTION_KEYS)
            raise ValueError(f"there is no convention '{self.convention}'.{near}")
        for run in self.runs:
            for key in run.set:
                if key in _BUDGET_KEYS:
                    raise ValueError(
                        f"run '{run.name}' sets {key}; budgets are equal, so set it in [recipe]"
                    )
        return self

    def build_recipe(self, run: StudyRun, overrides: Mapping[str, Any], seed: int) -> Recipe:
        """Return the recipe of one run; the overrides go before those of the run.

        Raises:
            ConfigError: A key is unknown or a value is invalid.
        """
        values: Mapping[str, Any] = self.recipe
        for key, value in {**overrides, **run.set, "train.seed": seed}.items():
            values = set_key(values, key, value)
        try:
            return build_recipe(values)
        except ConfigError as error:
            raise ConfigError(f"Run '{run.name}' of the study: {error}") from None


def list_studies() -> list[str]:
    """Return the names of the studies of the package."""
    folder = files("atrous.study") / "studies"
    return sorted(path.name[:-5] for path in folder.iterdir() if path.name.endswith(".toml"))


def load_study(name_or_path: str) -> Study:
    """Load a study by its name, or from a TOML file.

    Raises:
        ConfigError: The study or file does not exist or is invalid.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if name_or_path not in list_studies():
            raise ConfigError(
                f"There is no study '{name_or_path}'.{did_you_mean(name_or_path, list_studies())} "
                "For a study of your own, give a .toml file."
            )
        path = Path(str(files("atrous.study") / "studies" / f"{name_or_path}.toml"))
    try:
        study = Study.model_validate(load_toml(path))
    except ValidationError as error:
        raise ConfigError(f"{path} is not a study: " + " ".join(_explain(error))) from None
    for run in study.runs:
        study.build_recipe(run, {}, seed=0)
    return study


def _explain(error: ValidationError) -> Iterator[str]:
    known = {*Study.model_fields, *StudyRun.model_fields}
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            yield f"there is no key '{key}'.{did_you_mean(str(problem['loc'][-1]), known)}"
        elif problem["type"] == "value_error":
            yield f"{problem['ctx']['error']}."
        else:
            yield f"{key or 'the file'}: {problem['msg'].lower()}."
