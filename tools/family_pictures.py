"""Draws the pictures of docs/explanation: how data flow through each family, and what it makes beside Geant4.

    python tools/family_pictures.py [--measure]

Pictures are as wide as a phone, text stays text. Means come from docs/results/profiles.json; ``--measure``
makes that anew, some minutes of one core: 400 electrons of 10 GeV in par04-siw and 40 events of belle2-pxd at
rate 1 from Geant4, and as many from each model that comes with caloforge.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
PROFILES = ROOT / "docs" / "results" / "profiles.json"
IMAGES = ROOT / "docs" / "images"
SHOWERS, EVENTS = 400, 40

FLOWS: dict[str, list[list[str]]] = {
    "caloflow": [
        ["particle", "noise"],
        ["flow: energies of layers"],
        ["CaloFlow: all cells", "iCaloFlow: layer n given n − 1"],
        ["cut at threshold, layers closed"],
        ["shower"],
    ],
    "l2lflows": [
        ["particle", "noise"],
        ["flow: energies of layers"],
        ["flow of layer n", "layers before it"],
        ["map of the spectrum, layers closed"],
        ["shower"],
    ],
    "calodiffusion": [
        ["noise x₁", "particle, energies of layers"],
        ["U-Net: the noise in xₜ"],
        ["a step of the sampler, 400 times"],
        ["layers closed"],
        ["shower"],
    ],
    "showertransformer": [
        ["noise: ranks of cells", "energies of layers"],
        ["transformer, a token a layer"],
        ["1 to 32 steps"],
        ["ranks → energies, layers closed"],
        ["shower"],
    ],
    "showertree": [
        ["whole energy"],
        ["layers 0–22", "layers 23–44"],
        ["halves, down to single layers"],
        ["halves in r and φ, down to cells"],
        ["shower"],
    ],
    "supercalo": [
        ["particle", "noise"],
        ["flow: energies of layers"],
        ["coarse shower, 648 cells"],
        ["flow: 10 parts of each coarse cell"],
        ["shower, 6,480 cells"],
    ],
    "autoencoders": [
        ["training: shower", "generation: prior"],
        ["encoder → latent z", "z from a flow"],
        ["decoder, given particle and layers"],
        ["shower"],
    ],
    "adversarial": [
        ["noise", "particle"],
        ["generator, one pass"],
        ["made showers", "Geant4’s showers"],
        ["critic: which is which?"],
        ["gradients: back to the generator"],
    ],
    "autoregressive": [
        ["noise u₁ … u_D", "context"],
        ["network: spline of x_d from x₁ … x_d−1"],
        ["x_d = spline(u_d), each unit once"],
        ["8 such blocks, order reversed"],
        ["sample x and log p(x)"],
    ],
    "layer-flow": [
        ["particle", "noise"],
        ["one spline a layer: its energy"],
        ["couplings: cells of layer n", "layers before it"],
        ["layers closed"],
        ["shower"],
    ],
    "parametrised": [
        ["particle, detector file"],
        ["depth and shape: T, α"],
        ["Γ: energy of layers", "radial profile"],
        ["Poisson numbers of spots in cells"],
        ["shower"],
    ],
    "pixel": [
        ["rates of backgrounds", "noise"],
        ["numbers of clusters: sensor, size"],
        ["places", "pixels and charges, one by one"],
        ["sum on cells"],
        ["event: 40 images"],
    ],
}
"""Rows of boxes from top to bottom; a box goes into all of the next row, or one into one."""
MODELS = {
    "l2lflows": "conv-l2lflows-siw",
    "showertransformer": "showertransformer-siw",
    "showertree": "showertree-siw",
    "supercalo": "supercalo-siw",
    "parametrised": "gflash:par04-siw",
}
"""What stands beside Geant4, by page; pixel events have a picture of their own kind."""
WIDTH, HIGH, GAP, EDGE = 400, 34, 22, 6
INK, PAPER, TRUE, MADE = "#2b2f36", "#f4f1ec", "#9aa0a8", "#a63a1e"
"""Dark on light, on a white card in dark mode, too."""


def boxes(rows: Sequence[Sequence[str]]) -> tuple[list[str], int]:
    """The elements of rows of boxes with arrows between them, and how high they are."""
    found: list[str] = []
    centres: list[list[float]] = []
    for i, row in enumerate(rows):
        lengths = [len(text) + 4 for text in row]
        room = WIDTH - 2 * EDGE - 12 * (len(row) - 1)
        y, left = EDGE + i * (HIGH + GAP), float(EDGE)
        centres.append([])
        for text, length in zip(row, lengths, strict=True):
            wide = room * length / sum(lengths)
            centres[-1].append(left + wide / 2)
            found.append(
                f'<rect x="{left:.0f}" y="{y}" width="{wide:.0f}" height="{HIGH}" rx="6" fill="{PAPER}" '
                f'stroke="{INK}"/>'
                f'<text x="{centres[-1][-1]:.0f}" y="{y + 22}" text-anchor="middle">{escape(text)}</text>'
            )
            left += wide + 12
        if i:
            above = y - GAP
            level = len(centres[-2]) == len(centres[-1])
            pairs = zip(*centres[-2:], strict=True) if level else itertools.product(*centres[-2:])
            found += [
                f'<path d="M{a:.0f} {above} L{b:.0f} {y - 2}" stroke="{INK}" marker-end="url(#tip)"/>'
                for a, b in pairs
            ]
    return found, 2 * EDGE + len(rows) * HIGH + (len(rows) - 1) * GAP


def curves(
    top: int, title: str, below: str, true: Sequence[float], made: Sequence[float], *, log: bool = False
) -> tuple[list[str], int]:
    """A panel of steps: Geant4 filled, the model as a line; and where it ends."""
    high, left, right = 120, 12, WIDTH - 12
    values = [np.asarray(v, dtype=float) for v in (true, made)]
    if log:
        floor = min(v[v > 0].min() for v in values)
        values = [np.log(np.maximum(v, floor) / (0.5 * floor)) for v in values]
    largest = max(v.max() for v in values)
    base = top + 24 + high
    x = np.linspace(left, right, len(true) + 1)

    def steps(v: np.ndarray) -> str:
        y = base - high * v / largest
        return " ".join(f"{a:.1f},{c:.1f} {b:.1f},{c:.1f}" for a, b, c in zip(x, x[1:], y, strict=False))

    return [
        f'<text x="{left}" y="{top + 14}">{escape(title)}</text>',
        f'<polygon points="{left},{base} {steps(values[0])} {right},{base}" fill="{TRUE}"/>',
        f'<polyline points="{steps(values[1])}" fill="none" stroke="{MADE}" stroke-width="2"/>',
        f'<path d="M{left} {base} H{right}" stroke="{INK}"/>',
        f'<text x="{right}" y="{base + 16}" text-anchor="end">{escape(below)}</text>',
        f'<text x="{left}" y="{base + 16}"><tspan fill="#6d737b">■</tspan> Geant4 '
        f'<tspan fill="{MADE}">▬</tspan> made</text>',
    ], base + 26


def picture(page: str, profiles: Mapping[str, Any]) -> str:
    """The SVG of a page of docs/explanation."""
    found, end = boxes(FLOWS[page])
    for panel in panels(page, profiles):
        more, end = curves(end + 8, **panel)
        found += more
    alt = "; ".join(" and ".join(row) for row in FLOWS[page])
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {end}" width="{WIDTH}" '
            f'height="{end}" role="img" font-family="sans-serif" font-size="14" fill="{INK}">',
            f"<title>{escape(alt)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0 L8 4 L0 8 Z" fill="{INK}"/></marker></defs>',
            *found,
            "</svg>",
        ]
    )


def panels(page: str, profiles: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What `curves` draws on a page, from the kept means."""
    if page in MODELS:
        true, made = profiles["showers"]["Geant4"], profiles["showers"][MODELS[page]]
        yield {
            "title": "mean energy of a layer",
            "below": "depth",
            "true": true["layers"],
            "made": made["layers"],
        }
        yield {
            "title": "mean energy of a ring, logarithmic",
            "below": "radius",
            "true": true["rings"],
            "made": made["rings"],
            "log": True,
        }
    if page == "pixel":
        true, made = profiles["events"]["Geant4"], profiles["events"]["pxd-clusters"]
        yield {
            "title": "mean occupancy of a ladder",
            "below": "ladder 1.1 to 2.12",
            "true": true,
            "made": made,
        }


def measure() -> dict[str, Any]:
    """Mean energies of layers and rings, MeV, and mean occupancies of ladders."""
    import caloforge as cf
    from caloforge.runtime.processor import processor_name
    from caloforge.runtime.provenance import commit_of

    def means(showers: cf.Showers) -> dict[str, list[float]]:
        mean = np.asarray(showers.energies, dtype=float).mean(axis=0)
        return {"layers": mean.sum(axis=(1, 2)).tolist(), "rings": mean.sum(axis=(0, 1)).tolist()}

    def ladders(events: Any) -> list[float]:
        """Of the lit cells of all sensors of a ladder; sensors are named layer.ladder.sensor."""
        lit = events.read(0, len(events)).counts.mean(axis=0)
        _, n_u, n_v = events.detector.shape
        names = np.array([s.name.rpartition(".")[0] for s in events.detector.sensors])
        return [float(lit[names == name].mean() / (n_u * n_v)) for name in dict.fromkeys(names.tolist())]

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        true = cf.simulate(
            "par04-siw", out=out / "truth.h5", n=SHOWERS, energy="10GeV", seed=11, progress=False
        )
        showers = {"Geant4": means(true)} | {
            model: means(cf.generate(model, like=true, seed=1, progress=False)) for model in MODELS.values()
        }
        seen = cf.simulate_events(
            "belle2-pxd", out=out / "events.h5", n=EVENTS, rate=1, seed=11, progress=False
        )
        made = cf.generate_events("pxd-clusters", n=EVENTS, rate=1, seed=1, progress=False)
        return {
            "about": {
                "showers": f"{SHOWERS} electrons of 10 GeV in par04-siw, and as many of each model",
                "events": f"{EVENTS} events of belle2-pxd at rate 1, and as many of pxd-clusters",
                "machine": processor_name(),
                "commit": commit_of(ROOT),
                "date": date.today().isoformat(),
            },
            "showers": showers,
            "events": {"Geant4": ladders(seen), "pxd-clusters": ladders(made)},
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="make docs/results/profiles.json anew")
    if parser.parse_args().measure:
        PROFILES.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    profiles = json.loads(PROFILES.read_text(encoding="utf-8"))
    for page in FLOWS:
        (IMAGES / f"family-{page}.svg").write_text(picture(page, profiles) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
