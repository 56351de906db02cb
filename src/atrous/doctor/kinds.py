"""The kinds of findings: each with its level, what it means and what to do."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


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


KINDS: dict[str, Kind] = {
    "refused-split": Kind(
        "error",
        "A split that training needs and cannot use",
        "`atrous train` refuses to start: it trains on one split and validates on another.",
        "Where a name is missing, name the splits train and val, or name yours: `atrous train DATA "
        "--set data.train_split=NAME --set data.val_split=NAME`, and --train-split and --val-split "
        "here. Where there is nothing to learn from or to score, add images whose masks have "
        "classes.",
    ),
    "unpaired": Kind(
        "error",
        "Images without a mask, or masks without an image",
        "Training refuses a split in which anything is missing.",
        "Add what is missing, or remove its partner (and the name in the split list).",
        "renames a mask whose name differs by a known ending such as _mask; leaves the others out",
    ),
    "same-stem": Kind(
        "error",
        "Two files of one stem in a folder",
        "An image and its mask are matched by stem; training refuses a folder in which a stem "
        "stands for two files.",
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
        "Training refuses a split with such a file.",
        "What is wrong stands beside each file. Git LFS pointers: run `git lfs pull`. Files that "
        "were cut or changed on the way: copy them again, in binary mode. Other formats: convert "
        "them to PNG, or images to JPEG. What is lost: remove it with its partner.",
        "leaves them out",
    ),
    "damaged-jpeg": Kind(
        "warning",
        "JPEG images with damaged data",
        "The decoder goes on behind the damage, so part of the image is grey, shifted or of "
        "another colour, and its mask no longer fits.",
        "Look at the examples; copy the files again from where they came, or remove the pairs.",
    ),
    "swapped": Kind(
        "error",
        "Images and masks have changed places",
        "The mask has as many values as a photograph, and the image as few as a mask.",
        "Put the images into the folder of images and the masks into that of masks.",
        "leaves them out",
    ),
    "size-mismatch": Kind(
        "error",
        "Mask and image differ in size",
        "No pixel of such a mask can be trusted to belong to its image; training refuses them.",
        "If the mask shows the whole image, resize it with nearest neighbour; otherwise export it "
        "again for this very image.",
        "leaves them out",
    ),
    "exif-rotation": Kind(
        "error",
        "The image is turned by EXIF, its mask is not",
        "Cameras store how they were held; programs that heed it turn the image, and the mask "
        "drawn on the pixels as stored no longer fits.",
        "Turn both files upright and drop the EXIF orientation.",
        "turns image and mask upright",
    ),
    "exif-unclear": Kind(
        "note",
        "The image is turned by EXIF, and the mask's size does not say whether it is too",
        "If the mask was drawn on the pixels as stored, it does not fit the image that atrous "
        "reads, which is upright.",
        "Look at the examples: mask and image are shown as training would see them.",
        "turns the image upright and leaves the mask as it is",
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
        "writes indices and classes.toml where a colour table fits; leaves the others out",
    ),
    "palette-order": Kind(
        "error",
        "Palette masks whose colours are classes, but whose indices are not",
        "Training reads indices. Here the same index means different classes from file to file, "
        "or others than the class list says, as when a drawing program sorts the palette anew.",
        "Give every pixel the index that its colour has in the class list.",
        "writes indices by the colours where a colour table fits",
    ),
    "jpeg-masks": Kind(
        "error",
        "Masks saved as JPEG",
        "JPEG changes values, so every edge carries wrong classes; training refuses them.",
        "Export the masks again as PNG from where they were drawn.",
        "leaves them out: the exact values are lost",
    ),
    "binary-masks": Kind(
        "error",
        "Masks of 0 and 255, where 255 is no class",
        "The whole foreground would be ignored, or refused where another value is ignored.",
        "Write 1 instead of 255.",
        "writes 1 instead of 255",
    ),
    "values": Kind(
        "error",
        "Mask values that are no class",
        "Training refuses them; other programs crash on the GPU or train on the wrong class.",
        "Correct the masks, list all classes in classes.toml, or set ignore_index to the one value "
        "that marks ignored pixels.",
    ),
    "object-ids": Kind(
        "error",
        "Masks that number objects instead of classes",
        "Every object has a value of its own, as instance and panoptic ids are: the same value is "
        "something else in the next file, and no class can be learned from it.",
        "Write the index of each object's class, from the annotations beside the masks; where "
        "there is one kind of object, 1 for all of them.",
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
    "all-ignored": Kind(
        "warning",
        "Masks whose pixels are all ignored",
        "There is nothing to learn from them or to score in them; they cost time.",
        "Remove the pairs, or check whether ignore_index is the value that was meant.",
    ),
    "single-class": Kind(
        "warning",
        "Only one class in all masks",
        "A model that always predicts this class is perfect here: there is nothing to learn.",
        "Look at the masks; if there should be more classes, they were lost on the way.",
    ),
    "class-only-in-val": Kind(
        "warning",
        "Classes to be scored that training never shows",
        "Their IoU will be 0 and pulls the mean down.",
        "Move images with these classes to the training split, or leave the classes out.",
    ),
    "class-not-in-val": Kind(
        "note",
        "Classes that are trained on and never scored",
        "Nothing will be known about how well they are recognised.",
        "Move some images with these classes to the validation split.",
    ),
    "class-unused": Kind(
        "note",
        "Classes of the list that occur nowhere",
        "The model gets outputs that are never right; they are left out of the mean.",
        "Nothing, if the list belongs to a larger dataset of which this is a part.",
    ),
    "imbalance": Kind(
        "note",
        "Classes of very different frequency",
        "Without weights, the rarest ones hardly change the loss.",
        "Try train.class_weights = median_frequency, and look at the scores per class.",
    ),
    "split-overlap": Kind(
        "warning",
        "Names that are in both a training and a validation list",
        "Scores on images that were trained on are too good to be true.",
        "Take them off one of the lists.",
    ),
    "duplicates": Kind(
        "note",
        "The same image more than once in a split",
        "It counts more than the others.",
        "Keep one of each.",
    ),
    "duplicates-across": Kind(
        "warning",
        "The same image in training and in validation",
        "Scores on images that were trained on are too good to be true.",
        "Remove them from one of the splits.",
    ),
    "near-duplicates": Kind(
        "note",
        "Images of a split that look nearly the same",
        "Frames of one video or copies in another size: the split shows less variety than its "
        "number of images suggests.",
        "Nothing, if it is a video; otherwise keep one of each.",
    ),
    "near-duplicates-across": Kind(
        "warning",
        "Images of validation that look nearly like one of training",
        "Scores on them say little about new images.",
        "Split by video, place or person instead of by image.",
    ),
    "series-across": Kind(
        "warning",
        "A numbered series of like images runs through training and validation",
        "It is probably one video: scores on its other frames are too good, and say little about "
        "new places.",
        "Split by video, place or person instead of by image, or say so beside the score.",
    ),
    "label-conflict": Kind(
        "warning",
        "The same image with different masks",
        "Training gets contradictory targets, and a score depends on which mask is taken.",
        "Decide which mask is right.",
    ),
    "constant-image": Kind(
        "warning",
        "Images of a single brightness",
        "Nothing can be seen in them: blank frames, or exports that failed.",
        "Look at them; remove the pairs, or export the images again.",
    ),
    "nearly-black": Kind(
        "warning",
        "Images that are nearly black once they are read",
        "At most 16 of 256 levels are left. Of 16 bits per channel the high byte is kept, which is "
        "all but empty where a camera filled 8, 10 or 12 bits.",
        "Scale the values to the range of the file, 12-bit data times 16, with the same factor "
        "for all images, those to be predicted later too.",
    ),
    "small-for-crop": Kind(
        "warning",
        "Images smaller than half of the crop",
        "Most of each training crop would be padding.",
        "Train with a smaller --crop, or with --size.",
    ),
    "large-for-crop": Kind(
        "note",
        "Images more than eight times as large as the crop",
        "A crop shows little of such an image, and objects look larger than the model can see.",
        "Train with a larger --crop, or shrink the dataset (masks with nearest neighbour).",
    ),
    "misaligned": Kind(
        "warning",
        "Masks that probably do not lie on their images",
        "Label edges fall on image edges no better than by chance, or better after a turn, a "
        "shift or an exchange of masks.",
        "Look at the examples, and at how images and masks were exported and named.",
    ),
}


def format_table() -> str:
    """Return the Markdown table of all kinds, errors first, as in docs/doctor.md."""
    rows = [
        f"| `{code}` | {kind.level} | {kind.title}. {kind.why} | {kind.fix}"
        + (f" `--fix` {kind.repaired}." if kind.repaired else "")
        + " |"
        for code, kind in sorted(KINDS.items(), key=lambda item: LEVELS.index(item[1].level))
    ]
    head = "| finding | level | what it means | what to do, and what `--fix` does |"
    return "\n".join([head, "|---|---|---|---|", *rows]) + "\n"
