"""Calibration: one temperature per model, fitted on a split and kept with the weights."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from atrous.classes import IGNORE_INDEX
from atrous.devices import Precision, resolve_device
from atrous.engines import TTA, TorchEngine
from atrous.errors import ConfigError, DataError, WeightsError
from atrous.evaluation.evaluate import open_run_data
from atrous.evaluation.evaluator import Progress, predict_split
from atrous.models import load_model, save_weights
from atrous.models.ready import READY_FOLDER
from atrous.models.weights import find_weights


def calibrate(
    run_or_file: Path | str,
    data: Path | str | None = None,
    *,
    split: str,
    format: str = "auto",
    ignore_index: int | None = None,
    tta: TTA = TTA(),
    device: str = "auto",
    precision: Precision = "32",
    workers: int | Literal["auto"] = 0,
    progress: Progress | None = None,
) -> float:
    """Fit the temperature of a model on a split, write it to the weights file, and return it.

    It is above 1 if the model is overconfident, below 1 if it is underconfident. Confidence maps
    and calibration errors use it; masks and scores do not depend on it. Do not fit on the split
    that calibration is reported on: the error there would be too low, and `evaluate` notes it. See
    `evaluate` for the arguments and errors, and `TemperatureFit` for the method.
    """
    path = find_weights(Path(run_or_file))
    if path.parent == READY_FOLDER:
        raise ConfigError(
            f"{run_or_file} is a ready model, whose file is not changed. Train a run from it "
            f"(--init {run_or_file}), or calibrate a copy of {path}."
        )
    model = load_model(path, device=resolve_device(device))
    assert model.card is not None
    dataset = open_run_data(Path(run_or_file), model.card, data, split, format, ignore_index)
    engine, fit = TorchEngine(model, tta=tta, precision=precision), TemperatureFit()
    with closing(predict_split(engine, dataset, workers=workers, progress=progress)) as results:
        for result in results:
            fit.update(result.logits, result.mask)
    temperature = fit.compute()
    calibration = {"split": dataset.split, "data_fingerprint": dataset.fingerprint()}
    training = {**model.card.training, "calibration": calibration}
    card = replace(model.card, temperature=temperature, training=training)
    try:
        save_weights(path, model, card)
    except OSError as error:
        raise WeightsError(
            f"The temperature {temperature:.3f} cannot be written to {path}: "
            f"{error.strerror or error}. The file is unchanged."
        ) from error
    return temperature


class TemperatureFit:
    """Finds the divisor of all logits with the highest likelihood of the ground truth.

    The likelihood is that of up to 500 random labelled pixels of each image.

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """

    pixels_per_image = 500

    def __init__(self) -> None:
        self._logits: list[Tensor] = []
        self._classes: list[Tensor] = []

    def update(self, logits: Tensor, mask: Tensor) -> None:
        """Sample pixels of one image; the sample depends only on the number of images before it.

        Shapes:
            logits: float (classes, H, W)
            mask: uint8 (H, W); 255 is ignored
        """
        labelled = np.flatnonzero(mask.cpu().numpy() != IGNORE_INDEX)
        rng = np.random.default_rng(len(self._logits))
        num_pixels = min(self.pixels_per_image, len(labelled))
        chosen = torch.from_numpy(rng.choice(labelled, num_pixels, replace=False))
        self._logits.append(logits.flatten(1).cpu()[:, chosen].T.double())
        self._classes.append(mask.flatten().cpu()[chosen].long())

    def compute(self) -> float:
        """Return the temperature, between 0.05 and 20; raises DataError without any pixel."""
        logits, classes = torch.cat(self._logits), torch.cat(self._classes)
        if not len(classes):
            raise DataError("A temperature cannot be fitted: no mask has a labelled pixel.")

        def compute_loss(log_temperature: float) -> float:
            scaled = logits / np.exp(log_temperature)
            return float(torch.nn.functional.cross_entropy(scaled, classes))

        best = minimize_scalar(compute_loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
        return float(np.exp(best.x))
