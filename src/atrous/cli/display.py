"""Terminal output of training."""

import time
from typing import Any, Self

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from atrous.cli.console import Console
from atrous.durations import format_seconds
from atrous.files import format_bytes
from atrous.models.fitting import LoadedWeights, group_names
from atrous.run import RunFolder
from atrous.training import TrainingResult
from atrous.training.features import FeatureCache

_PLAIN_EVERY_S = 10.0
_SIDE_TASKS = {
    "checking": "checking masks",
    "validating": "validating",
    "computing_features": "computing features",
}


class TrainingDisplay:
    """Listener of `train`: a progress bar on a terminal, otherwise a line every 10 seconds."""

    def __init__(self, *, stderr: bool = False) -> None:
        self.console = Console(stderr=stderr)
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

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""
        if task := _SIDE_TASKS.get(event["kind"]):
            done, total = event["done"], event["total"]
            self.progress.update(
                self.side, description=task, completed=done, total=total, visible=done < total
            )
        elif show := getattr(self, f"_{event['kind']}", None):
            show(event)

    def _plan(self, event: dict[str, Any]) -> None:
        plan, recipe, loaded = event["plan"], event["recipe"], event["loaded"]
        self.num_images = recipe.train.batch_size * recipe.train.accumulate
        self.total_steps = plan.total_steps
        length = f"{plan.total_steps} steps = {plan.total_steps / plan.steps_per_epoch:.1f} epochs"
        speed = ""
        if plan.speed:
            per_s = self.num_images / plan.speed.step_s
            speed = f" ({recipe.train.duration} at {per_s:.1f} images/s)"
        self.console.print(
            f"[bold]{recipe.model.name}[/] on {escape(recipe.data.root)}: {plan.num_train} "
            f"training images, {plan.num_val} validation images; {length}{speed}."
        )
        if loaded is not None:
            self._print_loaded(loaded, recipe.model.init)

    def _print_loaded(self, loaded: LoadedWeights, source: str) -> None:
        new = group_names(loaded.missing, apart_from=loaded.loaded)
        if loaded.num_file_classes is not None:
            new[-1] += f"; the file's classifier is for {loaded.num_file_classes} classes"
        adapted = (
            f"the first convolution, from {loaded.num_file_bands} bands: new bands have the mean "
            "of its filters; fewer share their sum equally"
        )
        table = Table.grid(padding=(0, 2))
        for label, parts in (
            ("loaded", group_names(loaded.loaded, apart_from=loaded.missing)),
            ("new", new),
            ("adapted", [adapted] if loaded.num_file_bands is not None else []),
            ("unused in the file", group_names(loaded.unexpected)),
        ):
            if parts:
                table.add_row(f"  {label}", escape(", ".join(parts)))
        self.console.print(f"Weights from {escape(source)}:")
        self.console.print(table)

    def _features(self, event: dict[str, Any]) -> None:
        cache: FeatureCache = event["cache"]
        images = f"{len(cache.dataset)} images"
        images += " and their mirror images" if cache.num_copies == 2 else ""
        when = "computed once" if cache.compute_missing_bytes() else "computed before"
        self.console.print(
            f"Features of {images} (all before the {cache.place}): "
            f"{format_bytes(cache.num_bytes)} in {escape(str(cache.path.parent))}, {when}."
        )

    def _note(self, event: dict[str, Any]) -> None:
        self.console.print(escape(event["message"]))

    def _warning(self, event: dict[str, Any]) -> None:
        self.console.print(f"[yellow]Warning:[/] {escape(event['message'])}")

    def _resumed(self, event: dict[str, Any]) -> None:
        self.console.print(f"Resuming from step {event['step']}.")

    def _measuring(self, event: dict[str, Any]) -> None:
        self.console.print("Measuring the speed of this machine …")

    def _session(self, event: dict[str, Any]) -> None:
        if event["event"] == "start":
            self.started_s, self.first_step = time.monotonic(), event["step"]
            self.progress.update(
                self.training, total=self.total_steps, completed=event["step"], visible=True
            )

    def _train(self, event: dict[str, Any]) -> None:
        self.loss = _smooth(self.loss, event["loss"])
        self.step_s = _smooth(self.step_s, event["step_s"])
        now_s, step = time.monotonic(), event["step"]
        per_step_s = (now_s - self.started_s) / (step - self.first_step)
        left_s = per_step_s * (self.total_steps - step)
        note = (
            f"epoch {event['epoch']:.1f}  loss {self.loss:.3f}  lr {event['lr']:.1e}  "
            f"{self.num_images / self.step_s:.1f} images/s  {format_seconds(left_s)} left"
        )
        self.progress.update(self.training, completed=step, note=note)
        if not self.console.is_terminal and now_s - self.printed_s >= _PLAIN_EVERY_S:
            self.printed_s = now_s
            text = f"step {step}/{self.total_steps}  {note}"
            print(text, file=self.console.file, flush=True)

    def _val(self, event: dict[str, Any]) -> None:
        mark = "  [green]best[/]" if event["miou"] == event["best_miou"] else ""
        self.console.print(
            f"step {event['step']:>6}  epoch {event['epoch']:6.1f}  val loss "
            f"{event['loss']:.3f}  val mIoU {event['miou']:.4f}{mark}"
        )


def print_training_result(result: TrainingResult) -> None:
    """Print how the session ended, and the files of a finished run."""
    console = Console()
    if result.frozen_sha256 is not None:
        console.print(f"Frozen part unchanged: sha256 {result.frozen_sha256}")
    if result.reason != "finished":
        console.print(
            f"Stopped ({result.reason}) at step {result.step} of {result.total_steps}. A "
            "checkpoint is saved; start the same command again to resume."
        )
        return
    best = "" if result.best_miou is None else f", best val mIoU {result.best_miou:.4f}"
    console.print(f"Finished: {result.total_steps} steps{best}.")
    table = Table.grid(padding=(0, 2))
    folder, features = escape(str(result.run)), RunFolder(result.run).features
    table.add_row("loss curves", f"{folder}/curves.png")
    table.add_row("best weights", f"{folder}/best.safetensors")
    if features.is_dir():
        table.add_row("features", f"{folder}/{features.name} (may be deleted now)")
    table.add_row("next", f"atrous evaluate {folder}")
    console.print(table)


def _smooth(mean: float | None, value: float) -> float:
    return value if mean is None else 0.9 * mean + 0.1 * value
