"""Numbers of a sample of pixel events: occupancies, charges, clusters, what sources and overlays do.

Every one is a function of the events that are chosen, so that errors come from events drawn anew and floors
from two halves of the truth. Legend: ``R`` chosen events, ``B`` sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.pixels.chance import Deal, Rows
from caloforge.evaluation.pixels.merging import OUTCOMES
from caloforge.evaluation.pixels.reading import CLASSES, SEGMENTS, SHAPES, Sample
from caloforge.evaluation.pixels.signal import KINDS
from caloforge.evaluation.results import Quantity

__all__ = ["compare_quantities", "measure"]

Floats = NDArray[np.float64]

BOOTSTRAPS = 100
IMAGE_QUANTILES = (0.01, 0.5, 0.99)
CHARGE_QUANTILES = (0.5, 0.9, 0.99)
SHAPE_WORDS = {"pixels": "pixels", "size_u": "size in u", "size_v": "size in v", "charge": "charge"}
CLASS_WORDS = {
    "soft": "single pixels up to 10 keV (soft photons)",
    "hard": "single pixels above 10 keV (hard photons)",
    "charged": "several pixels (charged particles)",
}


class Label(NamedTuple):
    """What a number is: group, words and unit."""

    group: str
    words: str
    unit: str = ""


Measured = dict[str, tuple[Label, float]]


def compare_quantities(
    truth: Sample, generated: Sample, deals: list[Deal], seed: int, *, twins: bool, sources: bool
) -> dict[str, Quantity]:
    """Every number of both samples.

    Args:
        truth, generated: the samples.
        deals: halves of the truth, for the floors.
        seed: of the events drawn for errors.
        twins: event i of both samples has the same rates, so both are drawn together.
        sources: also what each source does, where rates are known and vary.
    """
    random = np.random.default_rng((seed, 17))

    def measured(sample: Sample, rows: Rows) -> Measured:
        return measure(sample, rows, sources=sources)

    def plain(sample: Sample, rows: Rows) -> list[float]:
        return [value for _, value in measured(sample, rows).values()]

    values = [measured(sample, np.arange(len(sample))) for sample in (truth, generated)]
    drawn: list[tuple[list[float], list[float]]] = []
    for _ in range(BOOTSTRAPS):
        one = random.integers(len(truth), size=len(truth))
        other = one if twins else random.integers(len(generated), size=len(generated))
        drawn.append((plain(truth, one), plain(generated, other)))
    halves = np.array([[plain(truth, deal.truth), plain(deal.other_of(truth), deal.other)] for deal in deals])
    first, second = np.moveaxis(np.array(drawn), 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = (second / first - 1).std(axis=0)
        floors = np.abs(halves[:, 1] / halves[:, 0] - 1).mean(axis=0)
    errors = zip(first.std(axis=0), second.std(axis=0), relative, floors, strict=True)
    return {
        name: Quantity(
            group=label.group,
            label=label.words,
            unit=label.unit,
            reference=true,
            reference_error=e1,
            generated=made,
            generated_error=e2,
            relative=made / true - 1 if true else np.nan,
            error=e3,
            floor=floor,
        )
        for (name, (label, true)), (_, made), (e1, e2, e3, floor) in zip(
            values[0].items(), values[1].values(), errors, strict=True
        )
    }


def measure(sample: Sample, rows: Rows, *, sources: bool) -> Measured:
    """All numbers of the chosen events, (R,), which may be chosen several times."""
    return {
        **dict(_occupancies(sample, rows)),
        **dict(_charges(sample, rows)),
        **dict(_clusters(sample, rows)),
        **dict(_overlays(sample, rows)),
        **(dict(_responses(sample, rows)) if sources else {}),
    }


Numbers = Iterator[tuple[str, tuple[Label, float]]]


def _occupancies(sample: Sample, rows: Rows) -> Numbers:
    detector = sample.events.detector
    cells = detector.shape[1] * detector.shape[2]
    images = 100 * sample.pixels[rows] / cells
    mean = images.mean(axis=0)
    yield (
        "pixels",
        (Label("occupancy", "lit pixels an event"), float(images.sum(axis=1).mean()) * cells / 100),
    )
    yield "occupancy", (Label("occupancy", "occupancy", "%"), float(mean.mean()))
    of: tuple[tuple[str, str, list[tuple[int | str, ...]]], ...] = (
        ("layers", "layer {0}", [(s.layer + 1,) for s in detector.sensors]),
        ("ladders", "ladder {0}.{1}", [(s.layer + 1, s.ladder + 1) for s in detector.sensors]),
        ("ends", "layer {0}, sensor {1}", [(s.layer + 1, s.name.split(".")[2]) for s in detector.sensors]),
        ("sensors", "sensor {0}", [(s.name,) for s in detector.sensors]),
    )
    for group, words, keys in of:
        for key in dict.fromkeys(keys):
            here = np.array([other == key for other in keys])
            name = "occupancy_" + group[:-1] + "_" + ".".join(map(str, key))
            label = Label(f"occupancy of {group}", f"occupancy of {words.format(*key)}", "%")
            yield name, (label, float(mean[here].mean()))
    segments = 100 * SEGMENTS * sample.segments[rows].mean(axis=0) / cells
    for sensor, values in zip(detector.sensors, segments, strict=True):
        for i, value in enumerate(values):
            label = Label(
                "occupancy of segments", f"occupancy of sensor {sensor.name}, v-segment {i + 1}", "%"
            )
            yield f"occupancy_segment_{sensor.name}_{i + 1}", (label, float(value))
    for share, value in zip(IMAGE_QUANTILES, np.quantile(images, IMAGE_QUANTILES), strict=True):
        label = Label("occupancy of one image", f"{share:.0%} quantile of one image's occupancy", "%")
        yield f"image_occupancy_q{round(100 * share)}", (label, float(value))


def _charges(sample: Sample, rows: Rows) -> Numbers:
    spectra = sample.charges[rows].sum(axis=0)
    for place, spectrum in (
        ("", spectra.sum(axis=0)),
        *((f", layer {i + 1}", s) for i, s in enumerate(spectra)),
    ):
        key = place.replace(", layer ", "_layer_")
        label = Label("charge of pixels", f"mean charge{place}", "ADU")
        yield f"charge_mean{key}", (label, _ratio(spectrum @ np.arange(256.0), spectrum.sum()))
        for share in CHARGE_QUANTILES:
            words = "median charge" if share == 0.5 else f"{share:.0%} quantile of the charge"
            label = Label("charge of pixels", f"{words}{place}", "ADU")
            yield f"charge_q{round(100 * share)}{key}", (label, _quantile(spectrum, share))


def _quantile(spectrum: NDArray[np.int64], share: float) -> float:
    """Of charges counted one ADU wide, each spread evenly over its bin."""
    reached = np.concatenate([[0.0], np.cumsum(spectrum)])
    if not reached[-1]:
        return np.nan
    i = int(np.searchsorted(reached, share * reached[-1]))
    return float(i - 0.5 - (reached[i] - share * reached[-1]) / (reached[i] - reached[i - 1]))


def _clusters(sample: Sample, rows: Rows) -> Numbers:
    layers = sample.events.detector.sensor_layers
    of_class, shapes = sample.clusters[rows].mean(axis=0), sample.shapes[rows].mean(axis=0)
    number = of_class.sum(axis=1)
    yield "clusters", (Label("clusters", "clusters an event"), float(number.sum()))
    for i in range(layers.max() + 1):
        label = Label("clusters", f"clusters an event, layer {i + 1}")
        yield f"clusters_layer_{i + 1}", (label, float(number[layers == i].sum()))
    for k, kind in enumerate(CLASSES):
        label = Label("classes of clusters", f"clusters of {CLASS_WORDS[kind]} an event")
        yield f"clusters_{kind}", (label, float(of_class[:, k].sum()))
    for k, shape in enumerate(SHAPES):
        unit = "ADU" if shape == "charge" else ""
        label = Label("clusters", f"mean {SHAPE_WORDS[shape]} of a cluster", unit)
        yield f"cluster_{shape}", (label, _ratio(shapes[:, k].sum(), number.sum()))


def _overlays(sample: Sample, rows: Rows) -> Numbers:
    counts = sample.overlaid[rows].sum(axis=0)
    clusters, *lost = counts.sum(axis=(0, 1))
    for outcome, n in zip(OUTCOMES[1:], lost, strict=True):
        label = Label("overlay", f"signal clusters {outcome} by background", "%")
        yield outcome, (label, 100 * _ratio(n, clusters))
    for i, layer in enumerate(counts):
        for kind, (clusters, *lost) in zip(KINDS, layer, strict=True):
            for outcome, n in zip(OUTCOMES[1:], lost, strict=True):
                words = f"signal clusters {outcome} by background: {kind}, layer {i + 1}"
                label = Label("overlay", words, "%")
                yield f"{outcome}_{kind}_layer_{i + 1}", (label, 100 * _ratio(n, clusters))


def _responses(sample: Sample, rows: Rows) -> Numbers:
    """How the occupancy of each layer follows the rates, and what each source gives at rate 1.

    The first is the slope of logarithms, the second least squares over the events.

    An event scatters as its occupancy is, so relative residuals are made least.
    """
    detector = sample.events.detector
    layers = detector.sensor_layers
    for i in range(len(detector.layers)):
        cells = detector.shape[1] * detector.shape[2] * (layers == i).sum()
        occupancy = 100 * sample.pixels[rows][:, layers == i].sum(axis=1) / cells
        logarithms = np.log(sample.rates[rows].mean(axis=1)), np.log(np.maximum(occupancy, 1e-3))
        label = Label("rates", f"layer {i + 1}: power of the mean rate that the occupancy follows")
        slope = np.cov(*logarithms)[0, 1] / max(np.var(logarithms[0], ddof=1), 1e-12)
        yield f"rate_power_layer_{i + 1}", (label, float(slope))
        weight = 1 / np.maximum(occupancy, 1e-3)
        found = np.linalg.lstsq(sample.rates[rows] * weight[:, None], occupancy * weight, rcond=None)[0]
        for source, value in zip(sample.events.conditions.sources, found, strict=True):
            words = f"layer {i + 1}: occupancy per rate of {source.replace('_', ' ')}"
            yield f"response_{source}_layer_{i + 1}", (Label("rates", words, "%"), float(value))


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below else np.nan
