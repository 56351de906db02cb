"""What a person sees while a model trains, and at the end."""

import time
from collections.abc import Callable
from typing import Any, Self

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from atrous.cli.console import Console
from atrous.durations import format_seconds
from atrous.models.fitting import LoadedWeights, group_names
from atrous.recipe import Recipe
from atrous.run import RunFolder
from atrous.training import TrainingResult
from atrous.training.features import FeatureCache, format_bytes

_PLAIN_EVERY_S = 10.0


class TrainingDisplay:
    """Listens to a training: a live bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.console = Console()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.training = self.progress.add_task("step", total=1, note="", visible=False)
        self.side = self.progress.add_task("", total=1, note="", visible=False)
        self.loss: float | None = None
        self.step_s: float | None = None
        self.printed_s = 0.0

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def __call__(self, record: dict[str, Any]) -> None:
        """Show one record."""
        show: Callable[[dict[str, Any]], None] | None = getattr(self, f"_{record['kind']}", None)
        if show is not None:
            show(record)

    def _plan(self, record: dict[str, Any]) -> None:
        plan, recipe, loaded = record["plan"], record["recipe"], record["loaded"]
        self.num_images = recipe.train.batch_size * recipe.train.accumulate
        self.total_steps = plan.total_steps
        length = f"{plan.total_steps} steps = {plan.total_steps / plan.steps_per_epoch:.1f} epochs"
        speed = ""
        if plan.speed:
            per_s = self.num_images / plan.speed.step_s
            speed = f", as {recipe.train.duration} at {per_s:.1f} images/s allow"
        self.console.print(
            f"[bold]{recipe.model.name}[/] on {escape(recipe.data.root)}: "
            f"{plan.num_train} images to train on, {plan.num_val} to validate; {length}{speed}.",
            highlight=False,
        )
        if loaded is not None:
            self._loaded(loaded, recipe)

    def _loaded(self, loaded: LoadedWeights, recipe: Recipe) -> None:
        new = group_names(loaded.missing, apart_from=loaded.loaded)
        if loaded.num_file_classes is not None:
            new[-1] += f"; the file's classifier is for {loaded.num_file_classes} classes"
        table = Table.grid(padding=(0, 2))
        for label, parts in (
            ("loaded", group_names(loaded.loaded, apart_from=loaded.missing)),
            ("new", new),
            ("unused in the file", group_names(loaded.unexpected)),
        ):
            if parts:
                table.add_row(f"  {label}", escape(", ".join(parts)))
        self.console.print(f"Weights from {escape(recipe.model.init)}:", highlight=False)
        self.console.print(table, highlight=False)

    def _features(self, record: dict[str, Any]) -> None:
        cache: FeatureCache = record["cache"]
        images = f"{len(cache.dataset)} images"
        images += " and their mirror images" if cache.num_copies == 2 else ""
        when = "computed once" if cache.compute_missing_bytes() else "computed before"
        self.console.print(
            f"Features of {images} (all before the {cache.place}): "
            f"{format_bytes(cache.num_bytes)} in {escape(str(cache.path.parent))}, {when}.",
            highlight=False,
        )

    def _note(self, record: dict[str, Any]) -> None:
        self.console.print(escape(record["message"]), highlight=False)

    def _warning(self, record: dict[str, Any]) -> None:
        self.console.print(f"[yellow]Warning:[/] {escape(record['message'])}", highlight=False)

    def _resumed(self, record: dict[str, Any]) -> None:
        self.console.print(f"Going on from step {record['step']}.", highlight=False)

    def _session(self, record: dict[str, Any]) -> None:
        if record["event"] == "start":
            self.started_s, self.first_step = time.monotonic(), record["step"]
            self.progress.update(
                self.training, total=self.total_steps, completed=record["step"], visible=True
            )

    def _checking(self, record: dict[str, Any]) -> None:
        self._show_side("checking masks", record)

    def _validating(self, record: dict[str, Any]) -> None:
        self._show_side("validating", record)

    def _computing_features(self, record: dict[str, Any]) -> None:
        self._show_side("computing features", record)

    def _measuring(self, record: dict[str, Any]) -> None:
        self.console.print("Measuring the speed of this machine …")

    def _show_side(self, what: str, record: dict[str, Any]) -> None:
        done, total = record["done"], record["total"]
        self.progress.update(
            self.side, description=what, completed=done, total=total, visible=done < total
        )

    def _train(self, record: dict[str, Any]) -> None:
        self.loss = _smooth(self.loss, record["loss"])
        self.step_s = _smooth(self.step_s, record["step_s"])
        per_step_s = (time.monotonic() - self.started_s) / (record["step"] - self.first_step)
        left_s = per_step_s * (self.total_steps - record["step"])
        note = (
            f"epoch {record['epoch']:.1f}  loss {self.loss:.3f}  lr {record['lr']:.1e}  "
            f"{self.num_images / self.step_s:.1f} images/s  {format_seconds(left_s)} left"
        )
        self.progress.update(self.training, completed=record["step"], note=note)
        now_s = time.monotonic()
        if not self.console.is_terminal and now_s - self.printed_s >= _PLAIN_EVERY_S:
            self.printed_s = now_s
            print(f"step {record['step']}/{self.total_steps}  {note}", flush=True)

    def _val(self, record: dict[str, Any]) -> None:
        mark = "  [green]best[/]" if record["miou"] == record["best_miou"] else ""
        self.console.print(
            f"step {record['step']:>6}  epoch {record['epoch']:6.1f}  val loss "
            f"{record['loss']:.3f}  val mIoU {record['miou']:.4f}{mark}",
            highlight=False,
        )


def print_training_result(result: TrainingResult) -> None:
    """Say how the session ended, what to look at, and how to go on."""
    console = Console()
    if result.frozen_sha256 is not None:
        console.print(f"Frozen part unchanged: sha256 {result.frozen_sha256}", highlight=False)
    if result.reason != "finished":
        console.print(
            f"Stopped ({result.reason}) at step {result.step} of {result.total_steps}; everything "
            "is saved. Start the same command again to go on.",
            highlight=False,
        )
        return
    best = "" if result.best_miou is None else f", best val mIoU {result.best_miou:.4f}"
    console.print(f"Finished: {result.total_steps} steps{best}.", highlight=False)
    table = Table.grid(padding=(0, 2))
    folder = escape(str(result.run))
    table.add_row("loss curves", f"{folder}/curves.png")
    table.add_row("best weights", f"{folder}/best.safetensors")
    if RunFolder(result.run).features.is_dir():
        table.add_row(
            "features", f"{folder}/{RunFolder(result.run).features.name} (may be deleted now)"
        )
    table.add_row("next", f"atrous evaluate {folder}")
    console.print(table, highlight=False)


def _smooth(mean: float | None, value: float) -> float:
    return value if mean is None else 0.9 * mean + 0.1 * value
