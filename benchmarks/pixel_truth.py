"""Events of belle2-pxd from Geant4 beside what is published of Belle II's simulated background.

    python benchmarks/pixel_truth.py [EVENTS.h5] [-n 50]

Without a file, simulates N events at the nominal rate first. The published figures are statistics of 10,000
simulated events that come with IEA-GAN (MIT licence). Errors are those of the mean over events.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from caloforge.data.pixels import PixelEvents, open_events

OCCUPANCY = {"layer 1": 1.489, "layer 2": 0.512, "all": 0.903}  # %
LADDERS = [
    *(1.66, 1.60, 1.47, 1.35, 1.32, 1.38, 1.52, 1.62),
    *(0.590, 0.585, 0.535, 0.495, 0.476, 0.456, 0.455, 0.462, 0.475, 0.506, 0.537, 0.577),
]
CHARGE = {"mean": 21.6, "median": 17, "90 %": 35, "99 %": 114, "99.9 %": 177}
SPECTRUM = {7: 5.2, 11: 4.4, 12: 4.4, 15: 4.5, 16: 4.5}  # % of all pixels at this charge
IMAGE = {1: 0.365, 50: 0.595, 99: 1.795}  # quantiles of one image's occupancy, %


def statistics(events: PixelEvents) -> tuple[np.ndarray, np.ndarray]:
    """Occupancies (N, S) in % and numbers of pixels by sensor and charge (S, 256)."""
    sensors, n_u, n_v = events.detector.shape
    counts, charges = [], np.zeros(sensors * 256, dtype=np.int64)
    for hits, _ in events.batches():
        counts.append(hits.counts)
        charges += np.bincount(hits.sensor * 256 + hits.charge, minlength=len(charges))
    return np.concatenate(counts) / (n_u * n_v) * 100, charges.reshape(sensors, 256)


def quantile(charges: np.ndarray, share: float) -> int:
    return int(np.searchsorted(np.cumsum(charges), share * charges.sum()))


def row(name: str, here: float, published: float, error: float | None = None) -> None:
    told = "" if error is None else f" ± {error:.3g}"
    print(f"| {name} | {here:.4g}{told} | {published:g} | {(here / published - 1) * 100:+.1f} % |")


def compare(events: PixelEvents) -> None:
    occupancy, charges = statistics(events)
    n, layers = len(events), [sensor.layer for sensor in events.detector.sensors]
    of_layer = [np.array(layers) == i for i in range(len(events.detector.layers))]
    rates = events.conditions.rates.mean(axis=0)
    told = ", ".join(f"{s} {r:.3f}" for s, r in zip(events.conditions.sources, rates, strict=True))
    print(f"{n} events, mean rates: {told}")
    print("\n| | here | published | |\n|---|---|---|---|")
    chosen = {"layer 1": of_layer[0], "layer 2": of_layer[1], "all": np.ones(len(layers), dtype=bool)}
    for name, published in OCCUPANCY.items():
        mean = occupancy[:, chosen[name]].mean(axis=1)
        row(f"occupancy, {name}, %", mean.mean(), published, mean.std() / np.sqrt(n))
    row("pixels an event", charges.sum() / n, 69_344)
    ladders = occupancy.reshape(n, -1, 2).mean(axis=2)
    for i, published in enumerate(LADDERS):
        layer, ladder = (1, i + 1) if i < 8 else (2, i - 7)
        error = ladders[:, i].std() / np.sqrt(n)
        row(f"occupancy, ladder {layer}.{ladder}, %", ladders[:, i].mean(), published, error)
    for name, published in (("layer 1", 1.0), ("layer 2", 1.11)):
        here = occupancy[:, chosen[name]]
        row(f"forward / backward, {name}", here[:, 0::2].mean() / here[:, 1::2].mean(), published)
    for share, published in IMAGE.items():
        row(f"one image's occupancy, quantile {share} %, %", np.percentile(occupancy, share), published)
    total, adu = charges.sum(axis=0), np.arange(256)
    row("charge, mean, ADU", total @ adu / total.sum(), CHARGE["mean"])
    for share, name in ((0.5, "median"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")):
        row(f"charge, {name}, ADU", quantile(total, share), CHARGE[name])
    for name, published in (("layer 1", 21.0), ("layer 2", 22.7)):
        of_these = charges[chosen[name]].sum(axis=0)
        row(f"charge, mean, {name}, ADU", of_these @ adu / of_these.sum(), published)
    for value, published in SPECTRUM.items():
        row(f"share of pixels with {value} ADU, %", total[value] / total.sum() * 100, published)
    if "geant4_cpu_seconds" in events.extra:
        seconds = events.extra["geant4_cpu_seconds"]
        print(f"\nGeant4: {seconds.mean():.2f} s of CPU an event (at most {seconds.max():.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("events", nargs="?", type=Path)
    parser.add_argument("-n", type=int, default=50)
    arguments = parser.parse_args()
    if arguments.events is not None:
        compare(open_events(arguments.events))
        return
    from caloforge.geant4 import simulate_events

    compare(simulate_events("belle2-pxd", out="pixel_truth.h5", n=arguments.n, resume=True))


if __name__ == "__main__":
    main()
