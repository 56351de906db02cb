"""All kinds of findings: level, meaning, and what to do."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
_Texts = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    An `error` crashes or corrupts training, a `warning` makes results worse or misleading.
    """

    level: Level
    title: str  # the problem
    why: str  # why it matters
    fix: str  # what to do
    repaired: str = ""  # what `--fix` does


_ERRORS: _Texts = {
    "refused-split": (
        "A split that training needs and cannot use",
        "`atrous train` refuses to start: it trains on one split and validates on another.",
        "Name the missing split with --train-split or --val-split, of `atrous train` too, or draw "
        "one from the training images with `atrous import`. If all pixels are ignored, add images "
        "whose masks have classes.",
    ),
    "unpaired": (
        "Images without a mask, or masks without an image",
        "Training refuses a split with missing files.",
        "Add the missing file, or remove its partner (and the name in the split list).",
        "renames a mask whose name differs by a common ending such as _mask; leaves the others out",
    ),
    "same-stem": (
        "Two files with the same stem in a folder",
        "Images and masks are matched by stem; training refuses ambiguous stems.",
        "Rename or remove one of the files.",
        "keeps the first by name",
    ),
    "listed-twice": (
        "Names that a split list contains twice",
        "These images would be trained on or scored twice; training refuses the list.",
        "Remove the second line.",
        "lists each name once",
    ),
    "unreadable": (
        "Files that cannot be read",
        "Training refuses a split with such a file.",
        "The reason is given for each file. Git LFS pointers: run `git lfs pull`. Truncated or "
        "changed files: copy them again, in binary mode. Other formats: convert them to PNG, or "
        "images to JPEG. Lost files: remove the pair.",
        "leaves them out",
    ),
    "swapped": (
        "Images and masks are exchanged",
        "The mask has as many values as a photograph, and the image as few as a mask.",
        "Move the images to the image folder and the masks to the mask folder.",
        "leaves them out",
    ),
    "size-mismatch": (
        "Mask and image differ in size",
        "Pixels of the mask cannot be assigned to pixels of the image; training refuses the pair.",
        "Resize a mask of the whole image with nearest neighbour; export others again.",
        "leaves them out",
    ),
    "exif-rotation": (
        "The image has an EXIF rotation, its mask does not",
        "The image is turned upright when it is read, and the mask drawn on the pixels as stored "
        "no longer fits.",
        "Turn both files upright and remove the EXIF orientation.",
        "turns image and mask upright",
    ),
    "color-masks": (
        "Masks of colours instead of class indices",
        "Training needs class indices and refuses colours.",
        "Give every pixel the index of its colour, and list the classes in classes.toml.",
        "writes indices by the colours of classes.toml, --names or a known dataset, and asks for "
        "--names if none fits; it leaves out blurred masks and object ids",
    ),
    "palette-order": (
        "Palette masks whose colours are classes, but whose indices are not",
        "Training reads indices. Here the same index means different classes from file to file, or "
        "other classes than in the class list, as after a drawing program has sorted the palette.",
        "Give every pixel the index that its colour has in the class list.",
        "writes indices by colour, as for `color-masks`",
    ),
    "jpeg-masks": (
        "Masks saved as JPEG",
        "JPEG changes values, so edges get wrong classes; training refuses such masks.",
        "Export the masks again as PNG from their source.",
        "leaves them out: the exact values are lost",
    ),
    "binary-masks": (
        "Masks of 0 and 255, where 255 is no class",
        "The whole foreground would be ignored, or refused if another value is ignored.",
        "Write 1 instead of 255.",
        "writes 1 instead of 255",
    ),
    "values": (
        "Mask values that are no class",
        "Training refuses them; other programs crash on the GPU or train on the wrong class.",
        "Correct the masks, list all classes, or set ignore_index to the value of ignored pixels.",
    ),
    "counted-from-one": (
        "Masks that count the classes from 1",
        "The classes are listed from 0, so that every pixel has the name of the next class, and "
        "training refuses the last value.",
        "Subtract 1 from all values.",
        "subtracts 1; where 0 is the ignore index, it becomes 255",
    ),
    "object-ids": (
        "Masks of object ids instead of classes",
        "Every object has its own value, as in instance and panoptic masks, and the same value "
        "means something else in the next file. No class can be learned from that.",
        "If there is one kind of object, `atrous import DATA OUT --format instances --class NAME` "
        "makes it one class. Otherwise write the class index of each object, from the annotations "
        "that come with the masks. If the values are classes after all, name them in classes.toml.",
    ),
    "bands-differ": (
        "Images with different bands or kinds of numbers",
        "A model takes one number of bands in one range; training refuses other images.",
        "Export all images in one way. If the first image is the wrong one, set `bands` in "
        "classes.toml.",
    ),
    "interpolated": (
        "Masks resized with interpolation",
        "Edges have values between those of the two regions: other classes, or none.",
        "Resize the original masks again with nearest neighbour.",
    ),
}

_WARNINGS: _Texts = {
    "damaged-jpeg": (
        "JPEG images with damaged data",
        "After the damage, the decoded image is grey, shifted or of another colour, and its mask "
        "no longer fits.",
        "Look at the examples; copy the files again from their source, or remove the pairs.",
    ),
    "damaged-exif": (
        "Files with a damaged EXIF block",
        "The orientation is unknown; the image is used as it is stored.",
        "Check that the image is upright and fits its mask, and save it without EXIF.",
    ),
    "pages": (
        "Files with more than one page or frame",
        "Training and evaluation read only the first one.",
        "Save every page as its own file, or only the first.",
    ),
    "value-gaps": (
        "Class numbers that do not start at 0, or have wide gaps",
        "The model gets outputs for numbers that never occur: there are as many classes as the "
        "largest value plus 1. Masks made for display, or counting from 1, are like this.",
        "Renumber the classes from 0 without gaps, or list them in classes.toml.",
        "renumbers them in their order and names each by its old number, or as --names says",
    ),
    "label-ids": (
        "Label ids of Cityscapes instead of its training classes",
        "Published scores are of 19 of the 34 ids, and cannot be compared with those of others.",
        "Replace the ids by the 19 training classes, or list all ids in classes.toml.",
        "writes the 19 training classes, and 255 for the other ids",
    ),
    "all-ignored": (
        "Masks whose pixels are all ignored",
        "They take time, but contribute nothing to training or scores.",
        "Remove the pairs, or check that ignore_index is correct.",
    ),
    "single-class": (
        "Only one class in all masks",
        "A model that always predicts this class is perfect, so there is nothing to learn.",
        "Look at the masks; if there should be more classes, export them again.",
    ),
    "class-only-in-val": (
        "Classes of the validation set that are not in the training set",
        "Their IoU will be 0, which lowers the mean.",
        "Move images with these classes to the training split, or leave the classes out.",
    ),
    "split-overlap": (
        "Names that are in both a training and a validation list",
        "Scores on training images are too high.",
        "Remove them from one of the lists.",
    ),
    "duplicates-across": (
        "The same image in training and in validation",
        "Scores on training images are too high.",
        "Remove the images from one of the splits.",
    ),
    "near-duplicates-across": (
        "Validation images that look nearly like a training image",
        "Scores on them say little about new images.",
        "Split by video, place or person instead of by image.",
    ),
    "series-across": (
        "A numbered series of similar images is in both training and validation",
        "It is probably one video: scores on its other frames are too high, and say little about "
        "new places.",
        "Split by video, place or person instead of by image, or state it with the score.",
    ),
    "label-conflict": (
        "The same image with different masks",
        "Training gets contradictory targets, and scores depend on which mask is used.",
        "Decide which mask is right.",
    ),
    "constant-image": (
        "Images of a single brightness",
        "Nothing is visible in them: blank frames, or failed exports.",
        "Look at them; remove the pairs, or export the images again.",
    ),
    "nearly-black": (
        "Images that are nearly black",
        "They use at most 16 of 256 levels. Often only the high byte of 10- or 12-bit data was "
        "saved.",
        "Export the images again at their own depth: 16-bit PNG and TIFF are read as they are.",
    ),
    "few-levels": (
        "Bands that use fewer than 64 levels of their range",
        "After normalization all values are nearly equal, as of 12-bit data in a range of 16 bits.",
        "Leave `range` out of classes.toml, so that it is computed from the images, or set it to "
        "the range of their values.",
    ),
    "constant-band": (
        "Bands with one value in all images",
        "They carry no information: an empty channel, or transparency.",
        "Export the images without these bands.",
    ),
    "small-for-crop": (
        "Images smaller than half of the crop",
        "Most of each training crop would be padding.",
        "Train with a smaller --crop, or with --size.",
    ),
    "misaligned": (
        "Masks that are probably not aligned with their images",
        "Label edges fall on image edges no more often than by chance, or more often if the masks "
        "are turned, shifted or exchanged.",
        "Look at the examples, and check how images and masks were exported and named.",
    ),
}

_NOTES: _Texts = {
    "unlabelled-split": (
        "A split without any mask",
        "It can be predicted, but not used for training or evaluation.",
        "Nothing, if it is a test set with hidden labels.",
        "leaves it out",
    ),
    "exif-unclear": (
        "The image has an EXIF rotation, and it is unclear whether its mask has it too",
        "If the mask was drawn on the pixels as stored, it does not fit the upright image that "
        "atrous reads.",
        "Look at the examples: image and mask are shown as training reads them.",
        "turns the image upright and leaves the mask as it is",
    ),
    "class-not-in-val": (
        "Classes of the training set that are not in the validation set",
        "Their scores remain unknown.",
        "Move some images with these classes to the validation split.",
    ),
    "class-unused": (
        "Classes of the list that never occur",
        "The model gets outputs that are never right; scores leave these classes out.",
        "Nothing, if the dataset is a part of a larger one with this class list.",
        "drops class 0, and counts the others from 0, where 0 is the ignore index",
    ),
    "imbalance": (
        "Classes of very different frequency",
        "Without weights, the rarest classes have little influence on the loss.",
        "Train without a recipe, or with --set loss.dice=1 or loss.class_weights=median_frequency, "
        "and look at the scores per class.",
    ),
    "duplicates": (
        "The same image more than once in a split",
        "It counts more than the others.",
        "Keep one of each.",
    ),
    "near-duplicates": (
        "Images of a split that look nearly the same",
        "They are frames of one video or resized copies: the split has less variety than its "
        "number of images suggests.",
        "Nothing, if it is a video; otherwise keep one of each.",
    ),
    "nodata": (
        "Images with pixels without data",
        "NaN, or the nodata value of the file. These pixels are ignored in the mask, and have the "
        "lowest value of the range in the image.",
        "Nothing, if the images have margins without data.",
    ),
    "large-for-crop": (
        "Images more than eight times as large as the crop",
        "A crop covers little of the image, and objects may be larger than the receptive field.",
        "Train with a larger --crop, or set data.long_side in a recipe.",
    ),
}

_BY_LEVEL: tuple[tuple[Level, _Texts], ...] = (
    ("error", _ERRORS),
    ("warning", _WARNINGS),
    ("note", _NOTES),
)
KINDS: dict[str, Kind] = {
    code: Kind(level, *texts) for level, kinds in _BY_LEVEL for code, texts in kinds.items()
}
"""All kinds by code, errors first."""


def format_table() -> str:
    """Return the Markdown table of all kinds in docs/doctor.md."""
    rows = [
        f"| `{code}` | {kind.level} | {kind.title}. {kind.why} | {kind.fix}"
        + (f" `--fix` {kind.repaired}." if kind.repaired else "")
        + " |"
        for code, kind in KINDS.items()
    ]
    head = "| finding | level | what it means | what to do, and what `--fix` does |"
    return "\n".join([head, "|---|---|---|---|", *rows]) + "\n"
