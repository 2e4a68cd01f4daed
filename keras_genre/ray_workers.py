"""Workers of a Ray cluster: those of other machines, or of a cluster of its own on this one."""

import contextlib
import dataclasses
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from keras_genre.errors import ParameterError, WorkersError
from keras_genre.extract import WORKER_ENVIRONMENT, Extracted, Job, Work, extract, in_order, killed_its_worker

LOCAL = "local"
"""The address of a cluster that is started on this machine and ends with the command."""

OBJECT_STORE_BYTES = 256 << 20
"""Shared memory of a cluster of its own, for results on their way; more of them go to the disk meanwhile."""

ATTEMPTS = 4
"""A job whose worker is killed is done again, on any machine; the file is to blame if so many workers end with it."""


@contextlib.contextmanager
def ray_workers(address: str, processes: int | None = None) -> Iterator["RayWorkers"]:
    """Connect to a Ray cluster, or start one, for as long as the block lasts.

    Parameters
    ----------
    address : str
        `HOST:PORT` of a cluster, `auto` for the one that this machine belongs to, or `local`.
    processes : int, optional
        Workers of a cluster of its own; one a core by default.

    Raises
    ------
    WorkersError
        If Ray is not installed, or the cluster cannot be reached.
    ParameterError
        If `processes` is given for a cluster that has its own number of them.
    """
    if address != LOCAL and processes is not None:
        raise ParameterError("--jobs is for this machine; a Ray cluster uses the cores that it was started with")
    try:
        import ray
    except ImportError as error:
        raise WorkersError("--ray needs Ray: pip install -e '.[ray]'") from error
    own: dict[str, Any] = {
        "num_cpus": processes or os.cpu_count() or 1,
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
    # A cluster of its own tells nobody that it was started.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address != LOCAL:
        _require_reachable(address)
    try:
        ray.init(
            address,
            runtime_env={"env_vars": WORKER_ENVIRONMENT},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(own if address == LOCAL else {}),
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise WorkersError(f"--ray {address}: no cluster answers ({_last_line(error)})") from error
    try:
        yield RayWorkers(max(1, int(ray.cluster_resources().get("CPU", 1))))
    finally:
        ray.shutdown()


def _require_reachable(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself ends the process over it, after a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise WorkersError(f"--ray {address}: no cluster answers ({error}); give HOST:PORT, auto or {LOCAL}") from error


@dataclasses.dataclass(frozen=True)
class RayWorkers:
    """Workers of the cluster that this process is connected to.

    Attributes
    ----------
    processes : int > 0
        Cores of the cluster; each has a worker.
    """

    processes: int

    def run(self, jobs: Sequence[Job], work: Work = extract) -> Iterator[Extracted]:
        """Do work as `extract.Workers.run` says.

        Raises
        ------
        WorkersError
            If the cluster is lost, or its machines have not this package.
        """
        import ray
        from ray import exceptions

        remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(work)

        def submit(job: Job) -> tuple[Job, Any]:
            return job, remote.remote(job)

        def result(ticket: tuple[Job, Any]) -> Extracted:
            job, reference = ticket
            try:
                return ray.get(reference)
            except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError):
                return killed_its_worker(job)
            except exceptions.RayTaskError as error:
                # What a worker cannot load, not what went wrong in the work.
                if isinstance(error.cause, (ImportError, exceptions.RaySystemError)):
                    raise WorkersError(
                        f"--ray: a machine of the cluster cannot load the work ({_last_line(error.cause)}); "
                        "install this package there"
                    ) from error
                raise
            except exceptions.RayError as error:
                first = str(error).splitlines()[0]
                raise WorkersError(
                    f"--ray: the cluster is lost ({first}); run the command again, it goes on"
                ) from error

        yield from in_order(jobs, 4 * self.processes, submit, result)


def _last_line(error: BaseException) -> str:
    """Return what an error says in the end: Ray puts tracebacks of other processes before it."""
    return str(error).strip().rpartition("\n")[2] or type(error).__name__
