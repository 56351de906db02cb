"""Prediction on a Ray cluster: one task per part of the sources."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atrous.errors import AtrousError, ConfigError
from atrous.extras import import_extra
from atrous.prediction.job import PredictionJob
from atrous.prediction.manifest import FILENAME
from atrous.prediction.sources import STDIN, Source

if TYPE_CHECKING:
    from atrous.prediction.predict import PredictionReport

    RunPart = Callable[..., PredictionReport]

_PARTS_PER_WORKER = 4
"""Number of tasks per CPU or GPU, so that none is idle for long at the end."""

_POLL_S = 0.5


def check_options(given: Sequence[Path | str], engine: str, precision: str) -> None:
    """Raise ConfigError if an option depends on the machine."""
    if "auto" in (engine, precision):
        raise ConfigError(
            "--engine auto and --precision auto depend on the machine, and the nodes of a cluster "
            "may differ. Name an engine and a precision with --ray."
        )
    if STDIN in map(str, given):
        raise ConfigError("The nodes of a cluster cannot read standard input. Give files.")


@contextmanager
def join_cluster(address: str) -> Iterator[None]:
    """Connect to a Ray cluster; at the end, all tasks of this process are stopped.

    The address is `HOST:PORT` of the head node, `auto` or `local`, as in `predict`; raises
    ConfigError if there is no such cluster.
    """
    ray = import_extra("ray", "cluster")
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        if host:  # Ray would try for minutes
            socket.create_connection((host, port), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).rstrip(".")
        raise ConfigError(
            f"The Ray cluster '{address}' cannot be reached: {reason}. Give the address of its "
            "head node, such as 10.0.0.1:6379; 'auto' for the cluster of this machine; or 'local' "
            "to start one on this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def run_parts(
    predict_part: "RunPart", job: PredictionJob, sources: Sequence[Source], *, use_gpus: bool
) -> None:
    """Segment the sources of a job on the cluster; the part of a lost worker is run again.

    A task has a GPU if the cluster has GPUs, otherwise a CPU. It calls `predict` with all arguments
    but `part` and `progress`; the job takes over what the parts report.

    Raises:
        ConfigError: A node cannot segment its part, such as for want of the files.
        AtrousError: A task has failed.
    """
    reasons: dict[str, str] = {}
    for report in _iterate_reports(predict_part, job, sources, use_gpus):
        job.num_frames += report.num_frames
        job.nearly_black += report.nearly_black
        reasons.update(report.failed)
    job.manifest.join_parts()
    missing = [source.source for source in sources if not job.is_done(source)]
    job.num_frames = max(job.num_frames, len(sources) - len(missing))  # those of lost workers too
    job.failed += [(name, reasons.get(name, "No node has segmented it.")) for name in missing]


def _iterate_reports(
    predict_part: "RunPart", job: PredictionJob, sources: Sequence[Source], use_gpus: bool
) -> "Iterator[PredictionReport]":
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    resources = ray.cluster_resources()
    num_gpus = int(resources.get("GPU", 0)) if use_gpus else 0
    num_workers = num_gpus or max(1, int(resources.get("CPU", 1)))
    num_parts = min(len(sources), _PARTS_PER_WORKER * num_workers)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    counter = ray.remote(_Counter).options(num_cpus=0, scheduling_strategy=here).remote()
    task = ray.remote(_run_part).options(num_gpus=min(num_gpus, 1), max_retries=3)
    waiting = [
        task.remote(predict_part, f"{number}/{num_parts}", os.getcwd(), job.out, counter)
        for number in range(1, num_parts + 1)
    ]
    total = None if any(source.is_video for source in sources) else len(sources)
    try:
        while waiting:
            done, waiting = ray.wait(waiting, timeout=_POLL_S)
            for report in ray.get(done):
                if isinstance(report, AtrousError):
                    raise report
                yield report
            if job.progress:
                job.progress(ray.get(counter.read.remote()), total)
    except ray.exceptions.RayError as error:
        raise AtrousError(
            f"A task of the Ray cluster has failed: {str(error).strip().splitlines()[-1]}\n"
            "All nodes need the same version of atrous. Finished images are kept: fix the cause, "
            "and run the same command with --resume."
        ) from error


class _Counter:
    """The number of segmented images and frames, on the node that started the job."""

    def __init__(self) -> None:
        self._number = 0

    def add(self) -> None:
        self._number += 1

    def read(self) -> int:
        return self._number


def _run_part(
    predict_part: "RunPart", part: str, folder: str, out: Path, counter: Any
) -> "PredictionReport | AtrousError":
    """Segment a part in a worker process; errors of the user are returned."""
    try:
        os.chdir(folder)
        os.stat(out / FILENAME)
        return predict_part(part=part, progress=lambda done, total: counter.add.remote())
    except (AtrousError, OSError) as error:
        return ConfigError(
            f"The node {socket.gethostname()} cannot segment part {part}: {error}\nThe run, the "
            "images, the output folder and the folder in which the command is started must be on "
            "storage that all nodes share, under the same paths."
        )
