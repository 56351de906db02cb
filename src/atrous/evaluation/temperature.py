"""Making a model's confidence fit what it gets right: one number, kept with the weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from atrous.classes import VOID
from atrous.devices import Precision, resolve_device
from atrous.engines import Views
from atrous.errors import DataError, WeightsError
from atrous.evaluation.evaluate import open_run_data
from atrous.evaluation.evaluate_model import ImageResult, evaluate_model
from atrous.models import load_model, save_weights
from atrous.models.weights import find_weights


def fit_temperature(
    run_or_file: Path | str,
    data: Path | str | None = None,
    *,
    split: str | None = None,
    format: str = "auto",
    ignore_index: int | None = None,
    views: Views = Views(),  # noqa: B008 (immutable)
    device: str = "auto",
    precision: Precision = "32",
    workers: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> float:
    """Find the temperature that calibrates a model on a split, and keep it in its weights file.

    Confidence maps and calibration errors use it from then on; masks and scores do not change.
    The split must not be the one that the calibration is reported on, or the error looks better
    than it is. See `evaluate` for the arguments and errors, and `TemperatureFit` for the method.

    Returns:
        The temperature: above 1 the model was too sure, below 1 too unsure.

    Raises:
        WeightsError: The weights cannot be used, or cannot be written.
    """
    path = find_weights(Path(run_or_file))
    model = load_model(path, device=resolve_device(device))
    assert model.card is not None
    dataset = open_run_data(Path(run_or_file), data, split, format, ignore_index)
    fit, num_done = TemperatureFit(), 0

    def on_image(result: ImageResult) -> None:
        nonlocal num_done
        fit.update(result.logits, result.mask)
        num_done += 1
        if progress is not None:
            progress(num_done, len(dataset))

    evaluate_model(
        model, dataset, views=views, precision=precision, workers=workers, on_image=on_image
    )
    temperature = fit.compute()
    try:
        save_weights(path, model, replace(model.card, temperature=temperature))
    except OSError as error:
        raise WeightsError(
            f"The temperature {temperature:.3f} cannot be written into {path}: "
            f"{error.strerror or error}. The file is as it was."
        ) from error
    return temperature


class TemperatureFit:
    """Finds the temperature that makes a model's probabilities fit a split best.

    One number divides all logits: confidence changes, the classes found do not. It is fitted by
    the likelihood of up to 500 random labelled pixels of each picture.

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """

    pixels_per_image = 500

    def __init__(self) -> None:
        self._logits: list[Tensor] = []
        self._classes: list[Tensor] = []

    def update(self, logits: Tensor, mask: Tensor) -> None:
        """Take pixels of one picture; which ones depends only on how many came before it.

        Shapes:
            logits: float (classes, H, W)
            mask: uint8 (H, W), class indices, void 255
        """
        labelled = np.flatnonzero(mask.cpu().numpy() != VOID)
        rng = np.random.default_rng(len(self._logits))
        num_pixels = min(self.pixels_per_image, len(labelled))
        chosen = torch.from_numpy(rng.choice(labelled, num_pixels, replace=False))
        self._logits.append(logits.flatten(1).cpu()[:, chosen].T.double())
        self._classes.append(mask.flatten().cpu()[chosen].long())

    def compute(self) -> float:
        """Return the temperature, from 0.05 to 20.

        Raises:
            DataError: There was no labelled pixel.
        """
        logits, classes = torch.cat(self._logits), torch.cat(self._classes)
        if not len(classes):
            raise DataError("A temperature cannot be fitted: no mask has a labelled pixel.")

        def compute_loss(log_temperature: float) -> float:
            scaled = logits / np.exp(log_temperature)
            return float(torch.nn.functional.cross_entropy(scaled, classes))

        best = minimize_scalar(compute_loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
        return float(np.exp(best.x))
