"""Which cells are lit together: neighbours of lit cells in Geant4 and in the models that come with caloforge.

    python benchmarks/neighbourhoods.py showers.h5 [--showers 8000] [--models NAME …]
        [--judge [boosted strong low high …]]

``showers.h5`` holds electrons of 1-50 GeV in par04-siw; its last showers are the truth, for whose conditions
each model generates as many, and those before them, where there are as many, a second sample of Geant4,
which is the floor. Given are means per shower and their errors: lit cells without a lit neighbour, pairs of
lit neighbours beyond what independent cells have, clusters, holes and the two-point correlation. With
``--judge`` classifiers, one training each, say how well all this and the usual features tell each sample from
Geant4: boosted trees, or networks by the preset ``strong``, of all inputs (``strong``), of cells (``low``) or
high-level features (``high``). One thread; 8,000 showers take some minutes a model.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

import caloforge
from caloforge.data import Showers, open_showers
from caloforge.evaluation import PRESETS, compute_features, train_classifier
from caloforge.evaluation.physics import NeighbourhoodObservables, describe

MODELS = ("showertree-siw", "showertransformer-siw", "conv-l2lflows-siw", "supercalo-siw")
ROWS = (
    "isolated_ring_0",
    "isolated",
    "isolated_share",
    "pairs_phi_ring_0",
    "pairs_phi",
    "pairs_r_ring_3",
    "pairs_r",
    "pairs_z_ring_1",
    "pairs_z",
    "correlation_phi_1",
    "correlation_r_1",
    "correlation_z_1",
    "clusters",
    "cluster_largest",
    "holes",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("showers")
    parser.add_argument("--showers", dest="n", type=int, default=8000)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--judge", nargs="*", choices=("boosted", "strong", "low", "high"))
    options = parser.parse_args()
    known = open_showers(options.showers)
    first = len(known) - options.n
    if first < 0:
        parser.error(f"{options.showers} holds {len(known)} showers; --showers {options.n} are needed")
    truth = known[first:]
    samples: dict[str, Showers] = {"Geant4": truth}
    if first >= options.n:
        samples["Geant4 again"] = known[first - options.n : first]
    for name in options.models:
        started = time.process_time()
        samples[name] = caloforge.generate(name, like=truth, seed=1, threads=1, progress=False)
        print(f"{name}: {options.n} showers, {time.process_time() - started:.0f} s of CPU", flush=True)
    columns = {name: observe(showers) for name, showers in samples.items()}
    print(f"\n| per shower, means of {options.n} | {' | '.join(samples)} |")
    print("|---|" + "---:|" * len(samples))
    for row in ROWS:
        label = describe(row, truth.mesh).label
        print(f"| {label} | {' | '.join(mean_and_error(c[row]) for c in columns.values())} |")
    if options.judge is not None:
        judge(samples, options.judge or ["boosted"])


def observe(showers: Showers) -> Mapping[str, NDArray[np.float64]]:
    collected = NeighbourhoodObservables(showers.mesh)
    compute_features(showers, visitors=[collected])
    return collected.columns()


def mean_and_error(values: NDArray[np.float64]) -> str:
    known = values[np.isfinite(values)]
    error = known.std() / math.sqrt(len(known))
    decimals = max(0, 1 - math.floor(math.log10(max(error, 1e-9))))
    return f"{known.mean():.{decimals}f} ± {error:.{decimals}f}"


def judge(samples: Mapping[str, Showers], classifiers: Sequence[str]) -> None:
    reference, *others = ((name, (s, compute_features(s))) for name, s in samples.items())
    for (name, sample), which in product(others, classifiers):
        started = time.process_time()
        settings = PRESETS["boosted" if which == "boosted" else "strong"].replace(repeats=1)
        result = train_classifier(which, reference[1], sample, settings)
        assert result.curve is not None
        curve = ", ".join(
            f"{n}: {a:.3f}" for n, a in zip(result.curve.showers, result.curve.aucs, strict=True)
        )
        expected = result.curve.expected
        print(
            f"\n{name}, {which}: AUC {result.auc:.3f} (chance ± {result.auc_noise:.3f}), by showers {curve}; "
            f"expected with {result.curve.at}: {expected.value:.3f} ± {expected.error:.3f}; "
            f"{time.process_time() - started:.0f} s of CPU",
            flush=True,
        )
        for share in result.diagnosis.features[:8] if result.diagnosis else ():
            print(f"  {share.name}: {share.drop:.4f} ± {share.error:.4f} lost, alone {share.alone:.3f}")


if __name__ == "__main__":
    main()
