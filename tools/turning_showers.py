"""Writes what the front page of the documentation turns: one shower of Geant4 and one of the default model.

python tools/turning_showers.py docs/_static/showers.js

Both are the first at 20 GeV in par04-siw with seed 1: nobody chose them. Cells hold x, y, z in mm and their
energy in keV; the faintest, which have together a hundredth of the energy, are left out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import caloforge as cf


def cells(showers: cf.Showers) -> list[list[int]]:
    """x, y, z and energy of the cells of the first shower, brightest first."""
    centres = showers.mesh.centres()
    energies = showers.energies[0].ravel()
    order = np.argsort(energies)[::-1]
    kept = order[: int(np.searchsorted(np.cumsum(energies[order]), 0.99 * energies.sum())) + 1]
    columns = [centres["x"][kept], centres["y"][kept], centres["z"][kept], 1000 * energies[kept]]
    return np.rint(np.stack(columns, 1)).astype(int).tolist()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        truth = cf.simulate(
            "par04-siw", out=Path(folder) / "truth.h5", n=1, energy="20GeV", seed=1, progress=False
        )
        made = cf.generate(detector="par04-siw", like=truth, seed=1, progress=False)
        showers = {"Geant4": cells(truth), "caloforge": cells(made)}
    text = json.dumps(showers, separators=(",", ":"))
    Path(sys.argv[1]).write_text(f"window.turningShowers = {text};\n", encoding="utf-8")


if __name__ == "__main__":
    main()
