"""Making what is missing of a campaign on this machine, by as many processes as there are cores.

Each process makes whole shards, by one thread, so that processes wait for nothing of each other.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from caloforge.campaign.campaign import Campaign
from caloforge.campaign.dask import make_by_dask
from caloforge.campaign.make import make_shard, tidy
from caloforge.errors import DataError
from caloforge.runtime.cores import checked_threads, usable_threads
from caloforge.runtime.memory import free_memory
from caloforge.runtime.processes import Child, ChildError
from caloforge.runtime.progress import Display
from caloforge.runtime.shards import Shard
from caloforge.runtime.signals import catch_signals, raise_interrupt, stoppable

__all__ = ["Tally", "run_campaign"]

Note = Callable[..., bool]
"""Hears what became of a shard, and says whether others should be begun."""
MOST_FAILURES = 3
"""Shards that fail, after which no others are begun: what they fail of is likely the same."""
SECONDS = 0.5
"""Between looks at whether a signal has come."""


@dataclass
class Tally:
    """What became of shards.

    Attributes:
        made, busy: numbers of shards that were made, and that others make at the moment.
        failed: why others were not made, by shard.
    """

    made: int = 0
    busy: int = 0
    failed: dict[Shard, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        return self.made + self.busy + len(self.failed)

    @property
    def gives_up(self) -> bool:
        """True where no further shards should be begun."""
        return len(self.failed) >= MOST_FAILURES

    def note(self, shard: Shard, outcome: str, why: str = "") -> None:
        """Count an `Outcome`, or a failure."""
        self.made += outcome == "made"
        self.busy += outcome == "busy"
        if outcome == "failed":
            self.failed[shard] = why

    def raise_failures(self) -> None:
        """DataError that says what failed."""
        if self.failed:
            raise DataError("\n".join(self.failed.values()))


def run_campaign(
    campaign: Campaign,
    *,
    share: Shard | str | None = None,
    workers: int | None = None,
    retries: int = 3,
    dask: str | None = None,
    progress: bool = True,
) -> Tally:
    """Make the shards that are missing, each by one process; those that others make meanwhile are left.

    Args:
        campaign: what to make.
        share: only this part of the shards, ``"3/20"``.
        workers: processes; by default as many as there are usable cores and memory, one on a GPU.
        retries: how often a shard is tried again whose process was killed.
        dask: have it done by Dask, see `make_by_dask`: "local", "slurm", "condor" or an address.
        progress: show how far it is, on a terminal.

    Raises:
        DataError: the folder is another campaign's, this machine would make other showers, there is no space,
            or shards failed; the others are kept.
        KeyboardInterrupt, Stopped: a signal; what is made is kept.
    """
    share = Shard.parse(share)
    todo = campaign.missing(share)
    campaign.refuse_strangers()
    if not todo:  # whoever made them
        tidy(campaign)
        return Tally()
    record = campaign.record
    campaign.require_space(record, todo)
    wanted = _workers(workers, record.decided.get("device", "cpu"), record.cost.memory_mib)
    many = min(wanted, len(todo))

    def kept() -> str:
        left = len(campaign.missing(share))
        return (
            f"stopped: {len(todo) - left} of {len(todo)} shards were made, and what is finished of others is "
            "kept; caloforge campaign run goes on from there"
        )

    tally = Tally()
    with Display("shards", enabled=progress) as show, stoppable(kept):

        def note(shard: Shard, outcome: str, why: str = "") -> bool:
            tally.note(shard, outcome, why)
            show("making", tally.done, len(todo))
            show.line(f"{tally.done} of {len(todo)} shards", last=tally.done == len(todo))
            return not tally.gives_up

        if dask is not None:
            make_by_dask(campaign, todo, dask, workers, retries, note)
        elif many <= 1:
            _here(campaign, todo, note)
        else:
            _by_children(campaign, todo, many, retries, note)
    tidy(campaign)
    tally.raise_failures()
    return tally


def _here(campaign: Campaign, todo: list[Shard], note: Note) -> None:
    """Make shards in this process."""
    for shard in todo:
        try:
            goes_on = note(shard, make_shard(campaign, shard))
        except DataError as error:
            goes_on = note(shard, "failed", str(error))
        if not goes_on:
            return


def _by_children(campaign: Campaign, todo: list[Shard], many: int, retries: int, note: Note) -> None:
    """Make shards by child processes; one that is killed is replaced, and its shard tried again."""
    waiting, tries = deque(todo), Counter[Shard | None]()
    doing: dict[Child, Shard | None] = {}  # what each child makes; None while it starts
    with ExitStack() as stack, selectors.DefaultSelector() as selector, catch_signals() as interrupt:

        def start() -> None:
            child = stack.enter_context(Child("caloforge.campaign.worker"))
            selector.register(child, selectors.EVENT_READ)
            doing[child] = None

        def leave(child: Child) -> Shard | None:
            selector.unregister(child)
            return doing.pop(child)

        def hear(child: Child) -> None:
            for message in child.receive():
                if "started" in message:
                    child.send({"campaign": str(campaign.path)})
                    continue
                shard = doing[child]
                if shard is not None and not note(shard, message["outcome"], message["why"]):
                    waiting.clear()
                if not waiting:
                    leave(child)
                    return
                doing[child] = waiting.popleft()
                child.send({"shard": str(doing[child])})

        for _ in range(many):
            start()
        told = False
        while doing:
            if interrupt.signal and not told:
                told = True
                waiting.clear()
                for child in doing:
                    os.kill(child.pid, signal.SIGTERM)
            for key, _ in selector.select(SECONDS):
                assert isinstance(key.fileobj, Child)
                try:
                    hear(key.fileobj)
                except ChildError as error:
                    shard = leave(key.fileobj)
                    if interrupt.signal:
                        continue
                    tries[shard] += 1
                    if tries[shard] <= retries:
                        if shard is not None:
                            waiting.appendleft(shard)
                        start()
                    elif shard is None:
                        raise DataError(
                            f"processes that were to make shards do not start: {error}"
                        ) from error
                    elif not note(shard, "failed", f"shard {shard}: its process ended, again: {error}"):
                        waiting.clear()
                    else:
                        start()
        if interrupt.signal:
            raise_interrupt(interrupt.signal, "stopped")


def _workers(asked: int | None, device: str, memory_mib: float) -> int:
    if asked is not None:
        return checked_threads(asked)
    if device != "cpu":
        return 1
    return max(1, min(usable_threads(), int(free_memory() // (memory_mib * 2**20))))
