"""What a campaign would cost, before it is begun: time, disk and memory from a short probe."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

from caloforge.campaign.campaign import Campaign
from caloforge.campaign.record import Cost

__all__ = ["Plan", "plan_campaign"]

PROBE_SECONDS = 3.0
FIRST, GROWTH, MOST_PROBED = 4, 8, 10_000
"""Showers of the first probe, in `Work.few`, and how they grow."""


@dataclass(frozen=True)
class Plan:
    """What is to be made, and what that costs.

    Attributes:
        showers, shards, missing: numbers; ``missing`` shards are not finished yet.
        cost: of a shower on this machine.
        disk: bytes of all files.
        free: bytes that are free in the campaign's folder.
        decided: what decides the showers if this machine makes them.
    """

    showers: int
    shards: int
    missing: int
    cost: Cost
    disk: int
    free: int
    decided: dict[str, Any]

    @property
    def core_hours(self) -> float:
        """Of all showers."""
        return self.showers * self.cost.seconds / 3600

    @property
    def shard_seconds(self) -> float:
        """Of one core, for one shard."""
        return self.showers / self.shards * self.cost.seconds


def plan_campaign(campaign: Campaign) -> Plan:
    """Probe what showers cost on this machine, and add it up; nothing is begun.

    Raises:
        DataError: the folder is another campaign's, this machine would make other showers than those that
            are there, or there is no space.
    """
    record = campaign.begun()
    decided = campaign.decided_here()
    if record is not None:
        record.require_decided(decided, campaign.folder)
    else:
        campaign.refuse_strangers()
    wanted = FIRST * campaign.work.few
    cost = campaign.cost(wanted)
    while cost.seconds * cost.showers < PROBE_SECONDS and cost.showers < campaign.n and wanted <= MOST_PROBED:
        wanted *= GROWTH
        cost = campaign.cost(wanted)
    missing = campaign.shards if record is None else len(campaign.missing())
    disk = cost.disk(campaign.n, campaign.shards)
    campaign.require_free(disk * missing // campaign.shards)
    free = shutil.disk_usage(campaign.place).free
    return Plan(campaign.n, campaign.shards, missing, cost, disk, free, decided)
