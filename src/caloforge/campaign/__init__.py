"""Campaigns: productions of many files by many processes, which agree on nothing but a file and a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.lazy import lazily

if TYPE_CHECKING:
    from caloforge.campaign.campaign import Campaign
    from caloforge.campaign.merge import merge_campaign
    from caloforge.campaign.plan import plan_campaign
    from caloforge.campaign.run import run_campaign
    from caloforge.campaign.submit import submit_campaign
    from caloforge.campaign.verify import verify_campaign

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Campaign": "campaign",
        "merge_campaign": "merge",
        "plan_campaign": "plan",
        "run_campaign": "run",
        "submit_campaign": "submit",
        "verify_campaign": "verify",
    },
)

__all__ = [
    "Campaign",
    "merge_campaign",
    "plan_campaign",
    "run_campaign",
    "submit_campaign",
    "verify_campaign",
]
