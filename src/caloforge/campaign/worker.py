"""A process that makes shards: a `Child` of `caloforge.campaign.run`.

It says that it has started; the campaign's file comes in, then a shard at a time; what became of each goes
out. A signal of the parent saves what is made of the shard under way.
"""

from __future__ import annotations

import signal
import sys

from caloforge.campaign.campaign import Campaign
from caloforge.campaign.make import make_shard
from caloforge.errors import CaloforgeError
from caloforge.runtime.processes import Channel, serve
from caloforge.runtime.shards import Shard

__all__ = ["work"]


def work(channel: Channel) -> None:
    """Make shards until there are no more orders."""
    channel.send({"started": True})
    orders = iter(channel)
    setting = next(orders, None)
    if setting is None:  # the parent has ended meanwhile
        return
    campaign = Campaign.load(setting["campaign"])
    _ = campaign.record
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    channel.send({"ready": True})
    for order in orders:
        try:
            outcome, why = str(make_shard(campaign, Shard.parse(order["shard"]))), ""
        except CaloforgeError as error:
            outcome, why = "failed", str(error)
        channel.send({"outcome": outcome, "why": why})


if __name__ == "__main__":
    sys.exit(serve(work))
