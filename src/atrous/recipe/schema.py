"""The sections and keys of a recipe, with their defaults and limits."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from atrous.classes import ClassSelection
from atrous.durations import parse_duration
from atrous.errors import ConfigError
from atrous.files import is_utf8
from atrous.model_options import ModelOptions


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @field_validator("*")
    @classmethod
    def _check_text(cls, value: Any) -> Any:
        if isinstance(value, str) and not is_utf8(value):
            raise ValueError(
                f"{value!r} is not valid UTF-8 and cannot be saved. Rename the file or link to it."
            )
        return value


class ModelRecipe(ModelOptions):
    """The network and its initial weights. The keys of `ModelOptions` belong to it as well.

    Attributes:
        name: Name of a variant; `atrous models` lists them.
        freeze_norm: Keep the batch-norm statistics and weights of the initial weights.
        init: Initial weights: `none`, `imagenet`, `coco`, or a weights file or run folder.
        freeze: Part that is not trained: `none`, `backbone` or `all-but-classifier`.
    """

    name: str = "deeplabv3_resnet50"
    freeze_norm: bool = False
    init: str = "none"
    freeze: Literal["none", "backbone", "all-but-classifier"] = "none"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.auxiliary and self.freeze != "none":
            raise ValueError(
                "an auxiliary head only trains the backbone, which is frozen; use auxiliary = false"
            )
        return self

    def build_options(self) -> dict[str, Any]:
        """Return the options of `build_model` that differ from their defaults."""
        return self.model_dump(include=set(ModelOptions.model_fields), exclude_defaults=True)


class DataRecipe(_Section):
    """The dataset and the augmentation of training samples.

    Attributes:
        root: Folder of the dataset, or URL of its shards.
        format: `voc`, `pairs`, or `auto` to detect the layout.
        train_split: Split to train on.
        val_split: Split to validate on.
        ignore_index: Mask value of ignored pixels; unset: the dataset's own, else 255.
        classes: Classes to learn, in this order; unset: all.
        other: Class that all other classes become, also a new one; unset: they are ignored.
        merge: Classes that become one, such as `{vehicle = ["car", "bus"]}`.
        size: Height and width in pixels to which every image is resized; excludes `crop`.
        crop: Side in pixels of the square that is cut out after random scaling; 321 unless `size`
            is given.
        long_side: Longer side in pixels to which every image is resized before it is scaled, also
            by the trained model; unset: images keep their size.
        scale: Smallest and largest random scale before the crop.
        flip: Probability of a horizontal flip.
        brightness: Largest relative change of the brightness.
        contrast: Largest relative change of the contrast.
        saturation: Largest relative change of the saturation.
        hue: Largest shift of the hue as a share of the colour circle.
        cache: Folder of decoded and resized training images; `auto`: in the run folder until the
            run is finished, if images are large and the disk has room; `off`: none.
    """

    root: str = ""
    format: Literal["auto", "voc", "pairs"] = "auto"
    train_split: str = "train"
    val_split: str = "val"
    ignore_index: int | None = None
    classes: tuple[str, ...] | None = Field(None, min_length=1)
    other: str | None = None
    merge: dict[str, tuple[str, ...]] = {}
    size: int | None = Field(None, ge=32)
    crop: int | None = Field(None, ge=32)
    long_side: int | None = Field(None, ge=32)
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = Field(0.5, ge=0, le=1)
    brightness: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.0, ge=0, le=1)
    saturation: float = Field(0.0, ge=0, le=1)
    hue: float = Field(0.0, ge=0, le=0.5)
    cache: str = Field("auto", min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _default_crop(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("size") is None and values.get("crop") is None:
            return {**values, "crop": 321}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.classes is None and self.other is not None:
            raise ValueError("data.other needs data.classes: without it, no class is another")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("data.classes names a class twice")
        if self.size is not None and self.crop is not None:
            raise ValueError("give data.size or data.crop, not both")
        if self.size is not None and self.long_side is not None:
            raise ValueError("data.long_side goes with data.crop, not with data.size")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("data.scale takes two positive factors, the smaller first")
        return self

    @property
    def class_selection(self) -> ClassSelection:
        """The classes to learn."""
        return ClassSelection(self.classes, self.other, self.merge)

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """Height and width to which every image is resized, or None."""
        return None if self.size is None else (self.size, self.size)

    @property
    def train_hw(self) -> tuple[int, int]:
        """Height and width of the training images: `size`, else `crop`."""
        side = self.size or self.crop
        assert side is not None
        return side, side


class LossRecipe(_Section):
    """The loss: a sum of terms, each with its weight; 0 leaves a term out.

    Attributes:
        cross_entropy: Weight of the cross entropy.
        focal: Weight of the focal loss.
        focal_gamma: Exponent of the focal loss; larger values reduce the share of easy pixels.
        dice: Weight of the Dice loss.
        lovasz: Weight of the Lovász-Softmax loss.
        auxiliary: Weight of the same sum over the logits of the auxiliary head.
        class_weights: Class weights in cross entropy and focal loss, from the training masks.
        class_weight_power: Exponent on the class weights; values below 1 reduce their range.
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
            raise ValueError("the loss needs at least one term with a weight above 0")
        return self


class TrainRecipe(_Section):
    """Duration, optimizer, schedule, validation, checkpoints and device.

    Attributes:
        duration: Length of training: `20ep`, `30000it` or `55min`.
        batch_size: Images per forward pass.
        accumulate: Forward passes per optimizer step.
        optimizer: `adam`, `adamw` or `sgd`.
        lr: Learning rate after the warm-up.
        backbone_lr: Factor on the learning rate of the backbone.
        weight_decay: Weight decay; not applied to norms and biases.
        momentum: Momentum of `sgd`.
        schedule: Course of the learning rate after the warm-up.
        warmup: Duration of the linear warm-up.
        step_at: Durations after which the schedule `step` divides the rate by 10.
        clip_norm: Largest norm of the gradient; 0 for no limit.
        ema: Decay of the moving average of the weights, which is then validated and saved; 0 for
            none.
        precision: `bf16` is autocast over float32 weights; `auto` selects it where the hardware
            supports it, and the run folder records the result.
        channels_last: Use the channels-last memory format.
        compile: Compile the network of the training step with `torch.compile`; `auto`: on CUDA, in
            runs of at least 5,000 steps or 8 minutes, which pay for the minute that it takes.
        deterministic: Use torch's deterministic algorithms.
        seed: Seed of all randomness of the run.
        validate_every: Interval between validations.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        workers: Processes that load images; 0 loads in the training process; `auto`: 2 on a CPU,
            else one per core but one, at most 16, divided among the GPUs.
        save_every: Interval between checkpoints; each validation saves one as well.
        keep_checkpoints: Number of checkpoints that are kept.
        tensorboard: Also write TensorBoard events to the run folder.
        feature_cache: `auto` computes the features of a frozen backbone once and keeps them on
            disk if the images are the same in all epochs; `off` computes them every time.
        feature_cache_dir: Folder of these features; by default in the run folder.
    """

    duration: str = "20ep"
    batch_size: int = Field(8, ge=1)
    accumulate: int = Field(1, ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = Field(5e-4, gt=0)
    backbone_lr: float = Field(1.0, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    schedule: Literal["poly", "step", "cosine", "constant"] = "poly"
    warmup: str = "0it"
    step_at: tuple[str, ...] = ()
    clip_norm: float = Field(0.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)
    precision: Literal["auto", "32", "bf16"] = "auto"
    channels_last: bool = True
    compile: Literal["auto", "on", "off"] = "auto"
    deterministic: bool = False
    seed: int = Field(0, ge=0)
    validate_every: str = "1ep"
    device: str = "auto"
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    save_every: str = "5min"
    keep_checkpoints: int = Field(2, ge=1)
    tensorboard: bool = False
    feature_cache: Literal["auto", "off"] = "auto"
    feature_cache_dir: str = ""

    @property
    def needs_speed(self) -> bool:
        """Whether a duration in clock time has to be converted to steps at a measured speed."""
        texts = (self.duration, self.warmup, self.validate_every, *self.step_at)
        return any(parse_duration(text).unit == "s" for text in texts)

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
    """All settings of one training."""

    model: ModelRecipe = ModelRecipe()
    data: DataRecipe = DataRecipe()
    loss: LossRecipe = LossRecipe()
    train: TrainRecipe = TrainRecipe()


SESSION_KEYS = frozenset(
    {
        "data.root",
        "data.cache",
        "train.device",
        "train.compile",
        "train.workers",
        "train.save_every",
        "train.keep_checkpoints",
        "train.tensorboard",
        "train.feature_cache_dir",
    }
)
"""Keys that may change between sessions of a run, since they do not affect its numbers.

`data.root` is one of them because datasets move between machines; their content must be the same.
"""
