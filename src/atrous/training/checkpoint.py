"""Checkpoints: atomic, with checksums, rotated."""

import errno
import hashlib
import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from atrous.errors import CheckpointError
from atrous.files import compute_file_sha256, sync
from atrous.parsing import parse_json

_STATE, _MANIFEST, _PREFIX = "state.pt", "manifest.json", "step-"


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], *, keep: int) -> Path:
    """Write a checkpoint `folder/step-…`, remove all but the newest `keep`, and return its path.

    The state is written to a hidden folder, fsynced and renamed, so that a folder named `step-…`
    is always complete. Checkpoints are never overwritten: a second one of the same step, after its
    validation, is `step-…b`.

    Args:
        state: Tensors, numbers, strings, lists and dicts.

    Raises:
        CheckpointError: It cannot be written; earlier checkpoints are unchanged.
    """
    target = folder / f"{_PREFIX}{step:08d}"
    if target.exists():
        target = folder / f"{target.name}b"
    temporary = folder / f".writing-{step:08d}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        with open(temporary / _STATE, "wb") as file:
            torch.save(dict(state), file)
        manifest = {"step": step, "sha256": compute_file_sha256(temporary / _STATE)}
        (temporary / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        for path in (temporary / _STATE, temporary / _MANIFEST, temporary):
            sync(path)
        temporary.rename(target)
        sync(folder)
    except (OSError, RuntimeError) as error:  # torch.save wraps a full disk in RuntimeError
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(_explain_write_error(error, folder)) from error
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_newest_checkpoint(
    folder: Path, *, warn: Callable[[str], None]
) -> tuple[Path, dict[str, Any]] | None:
    """Return the path and state of the newest intact checkpoint, or None without checkpoints.

    A damaged checkpoint is reported through `warn`, renamed to `damaged-step-…`, and the previous
    one is used.

    Raises:
        CheckpointError: All checkpoints are damaged.
    """
    for leftover in folder.glob(".writing-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    damaged: dict[Path, str] = {}
    for path in reversed(list_checkpoints(folder)):
        if (reason := _find_damage(path)) is not None:
            damaged[path] = reason
            continue
        for other, message in damaged.items():
            aside = other.with_name(f"damaged-{other.name}")
            shutil.rmtree(aside, ignore_errors=True)
            other.rename(aside)
            warn(
                f"The checkpoint {other} is damaged ({message}) and was renamed to {aside.name}. "
                f"The previous checkpoint, {path.name}, is used."
            )
        return path, _load_state(path / _STATE)
    if damaged:
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in damaged.items())
        raise CheckpointError(
            f"None of the {len(damaged)} checkpoints in {folder} is intact, so the run cannot "
            f"resume ({reasons}). Restore one from a copy, or start again in a new run folder."
        )
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*"))


def compute_state_sha256(state: Any) -> str:
    """Return the SHA-256 of nested dicts and lists of tensors and plain values.

    Two states have the same hash exactly if all tensors are equal in type, shape and every bit,
    and all other values are equal.
    """
    digest = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            for key in value:
                digest.update(f"{key!r}:".encode())
                feed(value[key])
        elif isinstance(value, (list, tuple)):
            digest.update(f"[{len(value)}]".encode())
            for item in value:
                feed(item)
        else:
            digest.update(f"{value!r};".encode())

    feed(state)
    return digest.hexdigest()


def _load_state(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"The training state {path} is intact, but cannot be read: it was not written by "
            f"atrous ({' '.join(str(error).split())[:200]}). Start again in a new run folder."
        ) from error


def _find_damage(path: Path) -> str | None:
    """Return how a checkpoint is damaged, or None."""
    try:
        manifest = parse_json((path / _MANIFEST).read_text(encoding="utf-8"))
        is_intact = compute_file_sha256(path / _STATE) == manifest["sha256"]
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError):
        return f"{_MANIFEST} cannot be read"
    return None if is_intact else "its checksum does not match its content"


def _explain_write_error(error: BaseException, folder: Path) -> str:
    cause = error if isinstance(error, OSError) else error.__context__
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full or "enough disk" in str(error) else str(error)
    kept = list_checkpoints(folder)
    previous = f"{kept[-1].name} is intact" if kept else "There is no earlier checkpoint"
    return (
        f"The checkpoint could not be saved in {folder}: {reason}. {previous}; free some space "
        "and start the same command again to resume."
    )
