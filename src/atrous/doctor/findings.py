"""What can be found: each kind with its level, what it means and what to do."""

from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")

MOST_FILES = 1000
"""Files that a report lists for one finding; the number of all is given beside them."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        level: `error` would crash or corrupt training, `warning` makes results worse or untrue,
            `note` is good to know.
        title: What is the matter.
        why: Why it matters.
        fix: What to do.
        repaired: What `--fix` does about it; '' for nothing.
    """

    level: Level
    title: str
    why: str
    fix: str
    repaired: str = ""


@dataclass(frozen=True)
class FoundFile:
    """A file in which something was found.

    Attributes:
        path: Relative to the folder of the data set.
        detail: What it is about this file, such as its values; may be empty.
        pair: Index of the pair that shows it, for the examples.
        other: Index of the pair that it resembles.
    """

    path: str
    detail: str = ""
    pair: int | None = None
    other: int | None = None


@dataclass(frozen=True)
class Finding:
    """Something found in a data set.

    Attributes:
        code: Key of `KINDS`.
        summary: One sentence with the figures.
        files: The first of the files, at most `MOST_FILES`.
        num_files: All of them.
        data: Further figures for programs, such as a colour table.
    """

    code: str
    summary: str
    files: tuple[FoundFile, ...]
    num_files: int
    data: dict[str, Any]

    @property
    def kind(self) -> Kind:
        """Level, title, why and fix."""
        return KINDS[self.code]

    @property
    def level(self) -> Level:
        """How bad it is."""
        return self.kind.level

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "code": self.code,
            "level": self.level,
            "title": self.kind.title,
            "summary": self.summary,
            "why": self.kind.why,
            "fix": self.kind.fix,
            "num_files": self.num_files,
            "files": [{"path": file.path, "detail": file.detail} for file in self.files],
            "data": self.data,
        }


def build_finding(
    code: str, summary: str, files: list[FoundFile] | None = None, **data: Any
) -> Finding:
    """Make a finding, with as many of its files as a report lists."""
    files = files or []
    return Finding(code, summary, tuple(files[:MOST_FILES]), len(files), data)


KINDS: dict[str, Kind] = {
    "unpaired": Kind(
        "error",
        "Pictures without a mask, or masks without a picture",
        "Training refuses a split in which anything is missing.",
        "Add what is missing, or remove its partner (and the name in the split list).",
        "renames a mask whose name differs by a known ending such as _mask; leaves the others out",
    ),
    "same-stem": Kind(
        "error",
        "Two files of one stem in a folder",
        "A picture and its mask are matched by stem, so it is open which of the two is meant.",
        "Rename or remove one of them.",
        "keeps the first by name",
    ),
    "listed-twice": Kind(
        "error",
        "Names that a split list has twice",
        "They would be trained on or scored twice; training refuses the list.",
        "Remove the second line.",
        "lists each name once",
    ),
    "unlabelled-split": Kind(
        "note",
        "A split without any mask",
        "It can be predicted, but neither trained on nor scored.",
        "Nothing, if it is a test set whose labels are kept back.",
        "leaves it out",
    ),
    "unreadable": Kind(
        "error",
        "Files that cannot be read",
        "Training would stop at them, perhaps hours after its start.",
        "Fetch or export them again, or remove them with their partners.",
        "leaves them out",
    ),
    "swapped": Kind(
        "error",
        "Pictures and masks have changed places",
        "What lies in the folder of masks looks like photographs, and the other way round.",
        "Exchange the contents of the two folders.",
    ),
    "size-mismatch": Kind(
        "error",
        "Mask and picture differ in size",
        "No pixel of such a mask can be trusted to belong to its picture; training refuses them.",
        "Export the mask from this very picture, or resize it with nearest neighbour.",
        "leaves them out",
    ),
    "exif-rotation": Kind(
        "error",
        "The picture is turned by EXIF, its mask is not",
        "Cameras store how they were held; programs that heed it turn the picture, and the mask "
        "drawn on the pixels as stored no longer fits.",
        "Turn both files upright and drop the EXIF orientation.",
        "turns picture and mask upright",
    ),
    "exif-unclear": Kind(
        "note",
        "The picture is turned by EXIF, and the mask's size does not say whether it is too",
        "If the mask was drawn on the pixels as stored, it does not fit the picture that atrous "
        "reads, which is upright.",
        "Look at the examples: mask and picture are shown as training would see them.",
        "turns the picture upright and leaves the mask as it is",
    ),
    "damaged-exif": Kind(
        "warning",
        "Files whose EXIF block is damaged",
        "Which way up the image is cannot be told; it is taken as it is stored.",
        "Look whether the image is upright and fits its mask, and save it without EXIF.",
    ),
    "pages": Kind(
        "warning",
        "Files with more than one page or frame",
        "Training and evaluation read the first one only.",
        "Save every page as a file of its own, or the first alone if that is what is meant.",
    ),
    "color-masks": Kind(
        "error",
        "Masks of colours where class indices are needed",
        "A colour is no class number; training refuses them.",
        "Give every pixel the index of its colour, and list the classes in classes.toml.",
        "writes indices by the colour table, and classes.toml",
    ),
    "palette-order": Kind(
        "error",
        "Palette masks whose colours are classes, but whose indices are not",
        "Training reads indices. Here the same index means different classes from file to file, "
        "or others than the class list says: a drawing program has sorted the palette anew.",
        "Give every pixel the index that its colour has in the class list.",
        "writes indices by the colours",
    ),
    "jpeg-masks": Kind(
        "error",
        "Masks saved as JPEG",
        "JPEG changes values, so every edge carries wrong classes; training refuses them.",
        "Export the masks again as PNG from where they were drawn.",
        "leaves them out: what was lost cannot be told",
    ),
    "binary-masks": Kind(
        "error",
        "Masks of 0 and 255, where 255 counts as void",
        "The whole foreground would be ignored, and the model would learn background only.",
        "Write 1 instead of 255.",
        "writes 1 instead of 255",
    ),
    "values": Kind(
        "error",
        "Mask values that are no class",
        "Training refuses them; other programs crash on the GPU or train on the wrong class.",
        "Correct the masks, list all classes in classes.toml, or set ignore_index to the value "
        "that marks pixels without a class.",
    ),
    "value-gaps": Kind(
        "warning",
        "Class numbers with wide gaps",
        "Without classes.toml the classes are numbered up to the largest value, so the model "
        "gets outputs for numbers that never occur; grey masks made for looking at are like this.",
        "Renumber the classes from 0 without gaps, or list them in classes.toml.",
    ),
    "interpolated": Kind(
        "error",
        "Masks resized with interpolation",
        "Between two regions lie values that are neither: other classes, or none, along every "
        "edge.",
        "Resize the original masks again with nearest neighbour.",
    ),
    "all-void": Kind(
        "warning",
        "Masks that are void everywhere",
        "There is nothing to learn from or to score in them; they cost time.",
        "Remove the pairs, or look whether void is the value that was meant (ignore_index).",
    ),
    "single-class": Kind(
        "warning",
        "Only one class in all masks",
        "A model that always gives this class is perfect here: there is nothing to learn.",
        "Look at the masks; if there should be more classes, they were lost on the way.",
    ),
    "class-only-in-val": Kind(
        "warning",
        "Classes to be scored that training never shows",
        "Their IoU will be 0 and pulls the mean down.",
        "Move pictures with these classes to the training split, or leave the classes out.",
    ),
    "class-not-in-val": Kind(
        "note",
        "Classes that are trained on and never scored",
        "Nothing will be known about how well they are recognised.",
        "Move some pictures with these classes to the validation split.",
    ),
    "class-unused": Kind(
        "note",
        "Classes of the list that occur nowhere",
        "The model gets outputs that are never right; they are left out of the mean.",
        "Nothing, if the list belongs to a larger data set of which this is a part.",
    ),
    "imbalance": Kind(
        "note",
        "Classes of very different frequency",
        "Without weights, the loss hardly notices the rarest ones.",
        "Try train.class_weights = median_frequency, and look at the scores per class.",
    ),
    "split-overlap": Kind(
        "warning",
        "Names that are in both a training and a validation list",
        "Scores on pictures that were trained on are too good to be true.",
        "Take them off one of the lists.",
    ),
    "duplicates": Kind(
        "note",
        "The same picture more than once in a split",
        "It counts more than the others.",
        "Keep one of each.",
    ),
    "duplicates-across": Kind(
        "warning",
        "The same picture in training and in validation",
        "Scores on pictures that were trained on are too good to be true.",
        "Remove them from one of the splits.",
    ),
    "near-duplicates": Kind(
        "note",
        "Pictures of a split that look nearly the same",
        "Frames of one video or copies in another size: the split holds less than its number says.",
        "Nothing, if it is a video; else keep one of each.",
    ),
    "near-duplicates-across": Kind(
        "warning",
        "Pictures of validation that look nearly like one of training",
        "Scores on them say little about new pictures.",
        "Split by video, place or person instead of by picture.",
    ),
    "series-across": Kind(
        "warning",
        "A numbered series of like pictures runs through training and validation",
        "It is probably one video: scores on its other frames flatter, and tell little about new "
        "places.",
        "Split by video, place or person instead of by picture, or say so beside the score.",
    ),
    "label-conflict": Kind(
        "warning",
        "The same picture with different masks",
        "Training pulls both ways, and a score depends on which one is asked.",
        "Decide which mask is right.",
    ),
    "constant-picture": Kind(
        "warning",
        "Pictures of a single brightness",
        "Nothing can be seen in them: blank frames, or exports that failed.",
        "Look at them; remove the pairs, or export them again.",
    ),
    "small-for-crop": Kind(
        "warning",
        "Pictures smaller than half of the crop",
        "Most of each training crop would be padding.",
        "Train with a smaller --crop.",
    ),
    "large-for-crop": Kind(
        "note",
        "Pictures more than eight times as large as the crop",
        "A crop shows little of such a picture, and things look larger than the model can see.",
        "Train with a larger --crop, or shrink the data set (masks with nearest neighbour).",
    ),
    "misaligned": Kind(
        "warning",
        "Masks that probably do not lie on their pictures",
        "Label edges fall on picture edges no better than by chance, or better after a turn, a "
        "shift or an exchange of masks.",
        "Look at the examples, and at how pictures and masks were exported and named.",
    ),
}
