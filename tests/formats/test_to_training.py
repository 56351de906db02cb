"""What a tool exported is imported, checked and trained on, each by one command."""

import numpy as np
import pytest
from test_challenges import encode_runs
from test_import import HEIGHT, SQUARE, WIDTH, draw, masks_of, put_image, put_mask
from test_malformed import PLACES, put_sample

OTHERS = ("rle_table", "yolo", "cityscapes", "ade20k", "voc_masks", "roboflow_masks", "folders",
          "instances")  # fmt: skip
TRAINED = ("label_studio",)
COLORS = np.array([[0, 0, 0], [250, 50, 80]], np.uint8)


def put_other(root, name):
    for number in range(4):
        split = "valid" if number == 3 else "train"
        match name:
            case "rle_table":
                put_image(root / "train_images" / f"{number}.jpg", number)
                rows = "".join(f"{i},2,{encode_runs(draw() == 1)}\n" for i in range(4))
                (root / "train.csv").write_text(f"ImageId,ClassId,EncodedPixels\n{rows}")
            case "yolo":
                put_image(root / split / "images" / f"{number}.jpg", number)
                points = " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in SQUARE)
                (root / split / "labels").mkdir(exist_ok=True)
                (root / split / "labels" / f"{number}.txt").write_text(f"0 {points}\n")
                (root / "data.yaml").write_text("names: [cat]\n")
            case "cityscapes":
                stem = f"{split.removesuffix('id')}/bonn/bonn_{number:06}_000019"
                put_image(root / "leftImg8bit" / f"{stem}_leftImg8bit.png", number)
                put_mask(root / "gtFine" / f"{stem}_gtFine_labelIds.png", draw(index=26) + 7)
            case "ade20k":
                folder = "validation" if number == 3 else "training"
                put_image(root / "images" / folder / f"ADE_{number}.jpg", number)
                put_mask(root / "annotations" / folder / f"ADE_{number}.png", draw(index=2) + 1)
            case "voc_masks":
                put_image(root / "JPEGImages" / f"{number}.bmp", number)
                put_mask(root / "SegmentationClass" / f"{number}.png", COLORS[draw()])
                (root / "labelmap.txt").write_text("# a:b:c:d\nbg:0,0,0::\ncat:250,50,80::\n")
            case "roboflow_masks":
                put_image(root / split / f"{number}_jpg.rf.ab{number}.jpg", number)
                put_mask(root / split / f"{number}_jpg.rf.ab{number}_mask.png", draw())
                (root / split / "_classes.csv").write_text("Pixel Value, Class\n0, bg\n1, cat\n")
            case "instances":
                place = root / "stage1_train" / f"a{number}"
                put_image(place / "images" / f"a{number}.png", number)
                for part in range(2):
                    put_mask(
                        place / "masks" / f"b{number}{part}.png", draw(index=255) * (part == 0)
                    )
            case "folders":
                put_image(root / "images" / f"{number}.jpg", number)
                put_mask(root / "masks" / f"{number}.png", draw(index=255))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PLACES, *OTHERS])
def test_a_sample_is_imported_checked_and_trained_on(tmp_path, atrous, name):
    pytest.importorskip("pycocotools")
    pytest.importorskip("yaml")
    root, out = tmp_path / "src", tmp_path / "out"
    (put_sample if name in PLACES else put_other)(root, name)
    code, output = atrous("import", root, out, "--val", "0.5", "--test", "0")
    assert code == 0, output
    code, output = atrous("check", out)
    assert code in (0, 1), output  # findings, but no file that cannot be used
    assert masks_of(out, "train")
    if name in TRAINED:
        options = ("--for", "5it", "--crop", "48", "--batch-size", "2", "--init", "none")
        model = ("--model", "deeplabv3plus_mobilenet_v3_large", "--workers", "0")
        code, output = atrous("train", out, "--out", tmp_path / "run", *options, *model)
        assert code == 0, output


@pytest.mark.parametrize("name", [*PLACES, *OTHERS])
def test_other_commands_name_the_format(tmp_path, atrous, name):
    (put_sample if name in PLACES else put_other)(tmp_path / "src", name)
    code, output = atrous("train", tmp_path / "src", "--out", tmp_path / "run")
    format = "folders" if name.endswith("masks") else name
    assert code == 2
    assert f"looks like an export of the format '{format}'" in output
    assert f"run `atrous import {tmp_path / 'src'} OUT`" in output
