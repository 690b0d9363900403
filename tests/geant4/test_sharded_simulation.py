"""A campaign of Geant4's showers."""

from pathlib import Path

import numpy as np

from caloforge.campaign import Campaign, run_campaign, verify_campaign
from caloforge.data import Showers, open_showers
from caloforge.geant4 import simulate

FILE = """
n = 5
seed = 11
shard_size = 3
out = "made/{shard}.h5"

[simulate]
detector = "par04-siw"
energy = "1-2GeV"
"""


def test_geant4_in_shards(tmp_path: Path) -> None:
    path = tmp_path / "geant4.toml"
    path.write_text(FILE)
    campaign = Campaign.load(path)
    assert run_campaign(campaign, workers=1, progress=False).made == 2
    assert verify_campaign(campaign) == []
    joined = Showers.concatenate([open_showers(campaign.file(shard)) for shard in campaign])
    whole = simulate(
        "par04-siw", out=tmp_path / "whole.h5", n=5, seed=11, energy="1-2GeV", workers=1, progress=False
    )
    assert joined.conditions == whole.conditions
    np.testing.assert_array_equal(joined.energies, whole.energies)
    assert campaign.record.cost.seconds > 0
