"""Campaigns by Dask: a front end for those who have a cluster of it, or want one started for them.

Each task is one shard. What is finished is told by files as ever, so that a lost worker, scheduler or client
costs the shards under way at most, and these go on from what was saved of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from caloforge.campaign.campaign import Campaign
from caloforge.campaign.make import make_shard
from caloforge.errors import CaloforgeError, DataError, MissingDependencyError
from caloforge.runtime.cores import usable_threads
from caloforge.runtime.shards import Shard

__all__ = ["make_by_dask"]

SYSTEMS = {"slurm": "SLURMCluster", "condor": "HTCondorCluster"}
SECONDS_TO_CONNECT = 10


def make_by_dask(
    campaign: Campaign,
    todo: Sequence[Shard],
    where: str,
    workers: int | None,
    retries: int,
    note: Callable[..., bool],
) -> None:
    """Make shards by Dask's workers, of one thread each.

    Args:
        campaign: whose shards.
        todo: which.
        where: "local" processes; "slurm" or "condor" jobs, by dask-jobqueue, whose configuration says of what
            queue and so on; or the address of a scheduler.
        workers: how many, where they are started here; all cores of this machine by default.
        retries: how often a shard is tried again whose worker died.
        note: hears what became of each, and says whether others should go on.

    Raises:
        MissingDependencyError: Dask is not installed.
        DataError: the scheduler cannot be reached.
    """
    distributed = _module("distributed")
    with _client(where, workers or usable_threads(), retries, campaign) as client:
        path = str(campaign.path.resolve())
        shards = {
            client.submit(_task, path, str(shard), campaign.record.mark, pure=False): shard for shard in todo
        }
        for future in distributed.as_completed(list(shards)):
            try:
                outcome, why = future.result()
            except Exception as error:  # of Dask: its worker died again and again, or it was cancelled
                outcome, why = "failed", f"shard {shards[future]}: {type(error).__name__}: {error}"
            if not note(shards[future], outcome, why):
                client.cancel(list(shards))
                return


def _task(path: str, shard: str, mark: str) -> tuple[str, str]:
    """In a worker: make one shard; what became of it, and why."""
    try:
        return make_shard(_campaign(path, mark), Shard.parse(shard)), ""
    except CaloforgeError as error:
        return "failed", str(error)


@cache
def _campaign(path: str, mark: str) -> Campaign:
    """The campaign, opened once in each process as long as it is the same."""
    campaign = Campaign.load(path)
    if campaign.record.mark != mark:
        raise DataError(f"{path} is another campaign by now; run it anew")
    return campaign


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(name.replace("_", "-"), "cluster") from error


@contextmanager
def _client(where: str, workers: int, retries: int, campaign: Campaign) -> Iterator[Any]:
    """A client of a scheduler that is there, or of one that is started and ended here."""
    dask, distributed = _module("dask"), _module("distributed")
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": retries}))
        if where == "local":
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="caloforge-dask-"))
            address = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address=None,
                    local_directory=place,
                    memory_limit=0,
                )
            )
        elif where in SYSTEMS:
            systems = _module("dask_jobqueue")
            memory = f"{int(campaign.record.cost.memory_mib * 1.5)}MiB"
            address = stack.enter_context(
                getattr(systems, SYSTEMS[where])(cores=1, processes=1, memory=memory)
            )
            address.scale(workers)
        else:
            address = where
        try:
            client = stack.enter_context(distributed.Client(address, timeout=SECONDS_TO_CONNECT))
        except (OSError, ValueError) as error:
            if address is not where:
                raise
            raise DataError(
                f"no scheduler of Dask answers at {where!r} ({error}); give local, slurm, condor, or an "
                "address like tcp://host:8786"
            ) from error
        yield client
