"""Put the model for every calorimeter into the package, with a card of what was measured of it.

    python benchmarks/foundation_card.py FOUNDATION --tables curve/curve.md,slices/slices.md \\
        --bench bench.json --limits "what it cannot do"

Tables are those of foundation.py, times those of ``caloforge bench``; see docs/how-to/foundation.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pretrained import changed_in

from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.pretrained import CARD, PRETRAINED

CARD_TEXT = """# foundation

One tree of energy splits for every calorimeter on cylinders of {mesh}: it is told the physics of a
detector, not its name, and makes showers in detectors that it was not trained on.

## Data

{showers:,} showers of {particles} in {detectors} detectors, {training:,} of them for the
weights and the rest for stopping: detectors drawn at random by `caloforge detectors --random` (seed 1) and
{named}; {low:.3g} to {high:.3g} GeV, many of few GeV and few of many,
θ = {theta[0]:.2f} to {theta[1]:.2f} rad, all φ; by real Geant4 with caloforge's reduced electromagnetic data,
`python benchmarks/foundation_data.py`.
Fingerprint of the data: {data}.

## Recipe and command

    caloforge train foundation data/*.h5 low/*.h5 more/*.h5 high/*.h5 {options} -o foundation

{steps} steps of batches of {batch}, {seconds:.0f} s of one processor thread.
caloforge {version}, torch {torch}.
Fingerprint of the checkpoint: {fingerprint}.

## Seed

Seed {seed}.

## Metrics

{speed}

By `python benchmarks/foundation.py` (docs/how-to/foundation.md); none of these showers was trained on.

{tables}

## Valid range

Detectors on cylinders of as many cells whose materials are known, {particles}, energies and angles
as above. What is logged says how far a detector is from those that it knows.

## Limits

{limits}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("foundation")
    parser.add_argument("--tables", type=lambda text: [Path(path) for path in text.split(",")], required=True)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--limits", required=True)
    given = parser.parse_args()
    checkpoint = Checkpoint.load(given.foundation)
    recipe, valid, made = checkpoint.recipe, checkpoint.valid_range, checkpoint.provenance
    named = [name for name in checkpoint.detectors if not name.startswith("random-")]
    timed = json.loads(given.bench.read_text())
    text = CARD_TEXT.format(
        mesh=" × ".join(map(str, checkpoint.mesh.shape)),
        showers=made["n_showers"],
        training=made["n_training"],
        detectors=len(checkpoint.detectors),
        particles=" and ".join(valid["particle"]),
        named=", ".join(named),
        low=valid["energy"][0] / 1000,
        high=valid["energy"][1] / 1000,
        theta=valid["theta"],
        data=made["fingerprints"]["data"],
        options=" ".join(
            [*(f"--set {c}" for c in changed_in("foundation", recipe)), f"--seed {checkpoint.seed}"]
        ),
        steps=checkpoint.metrics["steps"],
        batch=recipe["training"]["batch_size"],
        seconds=checkpoint.metrics["seconds"],
        version=made["caloforge"],
        torch=made["packages"]["torch"],
        fingerprint=checkpoint.fingerprint,
        seed=checkpoint.seed,
        speed="\n".join(
            f"* ms a shower in par04-siw, one thread, batch {row['batch_size']}: "
            f"{row['processor_ms']:.3g} (Geant4 {timed['geant4']['ms']:.0f} in the same run)"
            for row in timed["rows"]
        ),
        tables="\n\n".join(path.read_text().strip() for path in given.tables),
        limits=given.limits,
    )
    folder = PRETRAINED / "foundation"
    checkpoint.save(folder, overwrite=True)
    (folder / CARD).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
