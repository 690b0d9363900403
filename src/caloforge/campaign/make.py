"""One shard: locked, made, checked and sealed, or nothing that anybody would take for it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Literal

from caloforge.campaign.campaign import Campaign, Seal
from caloforge.errors import BusyError, CaloforgeError, DataError
from caloforge.runtime.files import write_json
from caloforge.runtime.locks import LOCK, file_lock
from caloforge.runtime.shards import Shard

__all__ = ["Outcome", "make_shard", "tidy"]

Outcome = Literal["made", "finished", "busy"]


def make_shard(campaign: Campaign, shard: Shard) -> Outcome:
    """Make a shard, or go on with what is there of it, by one core; "busy" where somebody else does.

    Raises:
        DataError: it cannot be made, or what is there under its name is something else; the message says
            which shard.
        KeyboardInterrupt, Stopped: a signal; what is made is kept, and the next who makes it goes on.
    """
    record, path, seal = campaign.record, campaign.file(shard), campaign.seal(shard)
    try:
        with file_lock(seal):
            if campaign.is_finished(shard, record):
                return "finished"
            if path.exists():  # of somebody who was killed before it was sealed, or of another command
                for _ in campaign.work.opened(path).batches():
                    pass
            showers = campaign.work.make(campaign.n, campaign.seed, shard, path, campaign.home)
            if found := campaign.differs(showers, shard, record):
                raise DataError(f"{path} is no shard of this campaign: {found}; move it elsewhere")
            write_json(seal, asdict(Seal.of(path, shard, record)))
            return "made"
    except BusyError:
        return "busy"
    except CaloforgeError as error:
        raise DataError(
            f"shard {shard}: {error}\n(caloforge campaign run goes on with what is kept)"
        ) from error


def tidy(campaign: Campaign) -> None:
    """Remove what kills have left of shards: locks that nobody holds, and half seals."""
    names = [path.name for path in campaign.folder.iterdir()]
    left = [name for name in names if name.endswith((LOCK, ".partial"))]
    for shard in campaign if left else ():
        for path in (campaign.file(shard), campaign.seal(shard)):
            half = [name for name in left if name.startswith(f"{path.name}.")]
            if half or f".{path.name}{LOCK}" in left:
                with suppress(BusyError), file_lock(path):
                    for name in half:
                        (campaign.folder / name).unlink(missing_ok=True)
