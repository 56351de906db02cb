"""A recipe: everything that one training was asked to do, as frozen plain data."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from atrous.durations import parse_duration
from atrous.errors import ConfigError, did_you_mean
from atrous.files import is_utf8
from atrous.model_options import ModelOptions
from atrous.parsing import parse_toml


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @field_validator("*")
    @classmethod
    def _check_text(cls, value: Any) -> Any:
        if isinstance(value, str) and not is_utf8(value):
            raise ValueError(
                f"{value!r} is no UTF-8, so it cannot be kept. Rename it, or link to it."
            )
        return value


class ModelRecipe(ModelOptions):
    """Which network, and what its weights start from; its other keys are those of `ModelOptions`.

    Attributes:
        name: Name of a variant, see `atrous models`.
        freeze_norm: Keep the batch-norm statistics and weights of the initial weights.
        init: Initial weights: `none`, `imagenet`, `coco`, or a weights file or run folder.
        freeze: What training does not change: `none`, `backbone` or `all-but-classifier`.
    """

    name: str = "deeplabv3_resnet50"
    freeze_norm: bool = False
    init: str = "none"
    freeze: Literal["none", "backbone", "all-but-classifier"] = "none"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.auxiliary and self.freeze != "none":
            raise ValueError(
                "an auxiliary head only trains the frozen backbone; set model.auxiliary = false"
            )
        return self

    def build_options(self) -> dict[str, Any]:
        """Return the options of `build_model` that differ from their defaults."""
        return self.model_dump(include=set(ModelOptions.model_fields), exclude_defaults=True)


class DataRecipe(_Section):
    """Which images, and how they are changed on their way into a batch.

    Attributes:
        root: Folder of the data set.
        format: `voc`, `pairs`, or `auto` to look.
        ignore_index: Mask value of no class; unset, what the data says, else 255.
        size: Resize every image to this height and width, in pixels; or else
        crop: scale at random and cut a square of this side, in pixels.
        scale: Smallest and largest random scale before the crop.
        flip: Probability of mirroring left and right.
        brightness: Largest relative change, 0 for none; likewise contrast and saturation.
        hue: Largest shift of hue, 0 to 0.5.
    """

    root: str = ""
    format: Literal["auto", "voc", "pairs"] = "auto"
    train_split: str = "train"
    val_split: str = "val"
    ignore_index: int | None = None
    size: int | None = Field(None, ge=32)
    crop: int | None = Field(None, ge=32)
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = Field(0.5, ge=0, le=1)
    brightness: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.0, ge=0, le=1)
    saturation: float = Field(0.0, ge=0, le=1)
    hue: float = Field(0.0, ge=0, le=0.5)

    @model_validator(mode="before")
    @classmethod
    def _default_crop(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("size") is None and values.get("crop") is None:
            return {**values, "crop": 321}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.size is not None and self.crop is not None:
            raise ValueError("give data.size or data.crop, not both")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("data.scale is two positive factors, the smaller first")
        return self

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """Height and width that every image is resized to, or None."""
        return None if self.size is None else (self.size, self.size)

    @property
    def train_hw(self) -> tuple[int, int]:
        """Height and width of the training images: `size`, else `crop`."""
        side = self.size or self.crop
        assert side is not None
        return side, side


class LossRecipe(_Section):
    """Weights of the terms that are added up to the loss; 0 leaves a term out.

    Attributes:
        focal_gamma: How much the focal term scales easy pixels down.
        auxiliary: Weight of the same sum over the auxiliary head's logits.
        class_weights: Factor per class in cross entropy and focal, from the training masks.
        class_weight_power: Exponent on those factors; below 1 they differ less.
        label_smoothing: Share of the target that cross entropy spreads over all classes.
    """

    cross_entropy: float = Field(1.0, ge=0)
    focal: float = Field(0.0, ge=0)
    focal_gamma: float = Field(2.0, ge=0)
    dice: float = Field(0.0, ge=0)
    lovasz: float = Field(0.0, ge=0)
    auxiliary: float = Field(0.4, ge=0)
    class_weights: Literal["none", "inverse", "median_frequency"] = "none"
    class_weight_power: float = Field(1.0, gt=0, le=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cross_entropy + self.focal + self.dice + self.lovasz == 0:
            raise ValueError("loss needs at least one term with a weight above 0")
        return self


class TrainRecipe(_Section):
    """How long, how fast and on what.

    Attributes:
        duration: `20ep`, `30000it` or `55min`.
        batch_size: Images per forward pass.
        accumulate: Forward passes per optimizer step.
        schedule: Course of the learning rate after the warm-up.
        step_at: Durations after which `step` divides the rate by 10.
        ema: Decay of the moving average of the weights, which is then what is validated and
            kept; 0 for none.
        precision: `bf16` computes convolutions in bfloat16 over float32 weights; `auto` does so
            where the hardware has it, and is written into the run as what it became.
        save_every: How often the training state is saved, besides at each validation.
        feature_cache: `auto` computes the features of a frozen backbone once and keeps them on
            disk, where the images are always the same; `off` computes them every time.
        feature_cache_dir: Where they are kept; unset, in the run folder.
    """

    duration: str = "20ep"
    batch_size: int = Field(8, ge=1)
    accumulate: int = Field(1, ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = Field(5e-4, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    schedule: Literal["poly", "step", "cosine", "constant"] = "poly"
    warmup: str = "0it"
    step_at: tuple[str, ...] = ()
    clip_norm: float = Field(0.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)
    precision: Literal["auto", "32", "bf16"] = "auto"
    channels_last: bool = True
    deterministic: bool = False
    seed: int = Field(0, ge=0)
    validate_every: str = "1ep"
    device: str = "auto"
    workers: int = Field(2, ge=0)
    save_every: str = "5min"
    keep_checkpoints: int = Field(2, ge=1)
    tensorboard: bool = False
    feature_cache: Literal["auto", "off"] = "auto"
    feature_cache_dir: str = ""

    @field_validator("precision", mode="before")
    @classmethod
    def _read_bits(cls, value: Any) -> Any:
        return "32" if value == 32 else value

    @field_validator("duration", "warmup", "validate_every", "save_every")
    @classmethod
    def _check_duration(cls, text: str) -> str:
        try:
            parse_duration(text)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return text

    @field_validator("step_at")
    @classmethod
    def _check_durations(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(cls._check_duration(text) for text in texts)


class Recipe(_Section):
    """One training: model, data, loss and course."""

    model: ModelRecipe = ModelRecipe()
    data: DataRecipe = DataRecipe()
    loss: LossRecipe = LossRecipe()
    train: TrainRecipe = TrainRecipe()


SESSION_KEYS = frozenset(
    {
        "data.root",
        "train.device",
        "train.workers",
        "train.save_every",
        "train.keep_checkpoints",
        "train.tensorboard",
        "train.feature_cache_dir",
    }
)
"""Keys that may differ from session to session of one run, since they change no number.

`data.root` is among them because data moves between machines; what it holds must stay the same.
"""


def build_recipe(values: Mapping[str, Any]) -> Recipe:
    """Check nested plain values and fill in the defaults.

    Raises:
        ConfigError: A key is unknown, or a value is of the wrong kind or out of range.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ConfigError("The recipe cannot be used: " + " ".join(_explain(error))) from None


def _explain(error: ValidationError) -> Iterable[str]:
    known = set(flatten_values(Recipe().model_dump()))
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            same = [name for name in known if name.endswith(f".{problem['loc'][-1]}")]
            yield f"there is no key '{key}'." + did_you_mean(same[0] if same else key, known)
        elif problem["type"] == "value_error":
            yield f"{key}: {str(problem['ctx']['error']).removesuffix('.')}."
        else:
            yield f"{key} = {problem['input']!r}: {problem['msg'].lower()}."


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a TOML file.

    Raises:
        ConfigError: The file is missing, is not TOML, or holds what `build_recipe` refuses.
    """
    return build_recipe(load_toml(path))


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as plain values.

    Raises:
        ConfigError: The file is missing or is not TOML.
    """
    try:
        return parse_toml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The recipe {path} cannot be read: {error}.") from None
    except ValueError as error:
        raise ConfigError(f"The recipe {path} is not valid TOML: {error}.") from None


def format_recipe(recipe: Recipe) -> str:
    """Return the recipe as TOML with every default written out; unset keys are left out."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    values["model"] = {"name": values["model"].pop("name"), **values["model"]}
    return tomli_w.dumps(values)


def apply_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> Mapping[str, Any]:
    """Return nested values with `section.key=value` texts applied, each value read as TOML.

    Quotes are not needed: a value that is not TOML is a string, and so is any value of a key that
    takes strings, such as 32 for `train.precision`.

    Raises:
        ConfigError: A text has no `=`.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not all(part.strip() for part in key.partition(".")):
            raise ConfigError(
                f"--set takes section.key=value, such as train.lr=1e-3, not '{text}'."
            )
        try:
            parsed = parse_toml(f"value = {value}")["value"]
        except ValueError:
            parsed = value.strip()
        if _takes_text(key.strip()) and not isinstance(parsed, str):
            parsed = value.strip()
        values = set_key(values, key.strip(), parsed)
    return values


def _takes_text(key: str) -> bool:
    """Return whether a recipe key holds a string, free or one of a few."""
    section, _, name = key.partition(".")
    return isinstance(Recipe().model_dump().get(section, {}).get(name), str)


def set_key(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return nested values in which `section.key` is `value`."""
    section, _, name = key.partition(".")
    keys = values.get(section, {})
    if not isinstance(keys, Mapping):
        raise ConfigError(
            f"The recipe has '{section} = {keys!r}' where a section [{section}] was expected."
        )
    return {**values, section: {**keys, name: value}}


def compute_changed_keys(before: Recipe, after: Recipe) -> list[str]:
    """Return `key: old → new` for every key that differs and changes the numbers of a run."""
    old, new = flatten_values(before.model_dump()), flatten_values(after.model_dump())
    return [
        f"{key}: {old[key]!r} → {new[key]!r}"
        for key in old
        if old[key] != new[key] and key not in SESSION_KEYS
    ]


def flatten_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values as a flat dict with keys of the form `section.key`."""
    return {
        f"{section}.{key}": value for section, keys in values.items() for key, value in keys.items()
    }
