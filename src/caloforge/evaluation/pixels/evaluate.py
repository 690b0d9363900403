"""`evaluate_events`: all metrics of generated pixel events against true ones, streamed from disk."""

from __future__ import annotations

import os
from functools import partial
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from caloforge.data.pixels import PixelEvents, open_events
from caloforge.errors import DataError
from caloforge.evaluation.histograms import entry_histogram
from caloforge.evaluation.pixels.chance import are_twins, deal_events
from caloforge.evaluation.pixels.correlations import compare_correlations
from caloforge.evaluation.pixels.events import tell_events_apart
from caloforge.evaluation.pixels.memorisation import LEAST_EVENTS as FEWEST_TO_COMPARE
from caloforge.evaluation.pixels.memorisation import event_memorisation
from caloforge.evaluation.pixels.quantities import compare_quantities
from caloforge.evaluation.pixels.rates import rate_curve, rate_ranges, rates_vary
from caloforge.evaluation.pixels.reading import MAP_CELLS, Sample, read_sample
from caloforge.evaluation.progress import Progress, reporting
from caloforge.evaluation.results import Estimate, PixelEvaluation
from caloforge.runtime.provenance import provenance
from caloforge.runtime.streams import checked_seed

__all__ = ["LEAST_EVENTS", "EventOptions", "EventSource", "evaluate_events"]

LEAST_EVENTS = 4
JUDGED_DEALS = 3
"""Trainings of each judge of whole events, on truth against generated and on truth against truth."""
AXES = {
    "pixel_charge": ("charge of a pixel [ADU]", (False, True)),
    "image_occupancy": ("occupancy of one image [%]", (False, False)),
    "clusters": ("clusters of one image", (True, False)),
    "cluster_pixels": ("pixels of a cluster", (True, True)),
    "cluster_size_u": ("size of a cluster in u [cells]", (False, True)),
    "cluster_size_v": ("size of a cluster in v [cells]", (False, True)),
    "cluster_charge": ("charge of a cluster [ADU]", (True, True)),
}

EventSource = PixelEvents | str | os.PathLike[str]


class EventOptions(TypedDict, total=False):
    """Arguments of `evaluate_events` beside the two samples."""

    second_reference: EventSource | None
    training: EventSource | None
    distances: bool
    classifiers: bool
    images: int
    seed: int
    device: str
    progress: bool | Progress


def evaluate_events(
    reference: EventSource,
    generated: EventSource,
    *,
    second_reference: EventSource | None = None,
    training: EventSource | None = None,
    distances: bool = True,
    classifiers: bool = True,
    images: int = 12_000,
    seed: int = 0,
    device: str = "auto",
    progress: bool | Progress = True,
) -> PixelEvaluation:
    """Compare generated pixel events with true ones, see docs/explanation/pixel.md.

    Files are read in batches of 20 events, and single events again for images and neighbours.

    Args:
        reference: the truth.
        generated: the events that are judged.
        second_reference: more true events: floors are then what they give against the truth, not what halves
            of the truth give.
        training: events the generator was trained on, to see whether it repeats them; the truth must not be
            among them. They also train the sensor network.
        distances: FID and KID, for which a network is trained.
        classifiers: whether judges are trained to tell events apart.
        images: that the sensor network sees in training.
        seed: of floors, resampling, signal, network and judges.
        device: of the network; by default a GPU where there is one.
        progress: show progress bars on the terminal, or a function that is called instead.

    Raises:
        DataError: the samples are of different detectors, one has fewer than 4 events, or a file is
            unreadable.
        MissingDependencyError: scipy or scikit-learn is not installed.
    """
    seed = checked_seed(seed)
    truth_events = _checked(reference, "the truth", None)
    made = _checked(generated, "the generated events", truth_events)
    others = {
        name: _checked(source, what, truth_events)
        for name, what, source in (
            ("second reference", "the second reference", second_reference),
            ("training", "the training events", training),
        )
        if source is not None
    }
    trained_on = others.get("training")
    with reporting(progress) as report:

        def read(events: PixelEvents, name: str) -> Sample:
            return read_sample(events, seed, partial(report, f"reading {name}"))

        truth, candidate = read(truth_events, "truth"), read(made, "generated events")
        second = None
        if "second reference" in others:
            second = read(others["second reference"], "second reference")
        deals = deal_events(truth, candidate, second, seed)
        samples = [truth, candidate, *([second] if second else [])]
        sources, twins = rates_vary(samples), are_twins(truth, candidate)
        report("numbers and correlations", 0.0)
        quantities = compare_quantities(truth, candidate, deals, seed, twins=twins, sources=sources)
        report("numbers and correlations", 0.5)
        correlations = compare_correlations(truth, candidate, deals, sources=sources)
        histograms = [
            entry_histogram(
                truth.counts[name],
                candidate.counts[name],
                name=name,
                label=label,
                log=log,
                seed=seed,
                second=second.counts[name] if second else None,
            )
            for name, (label, log) in AXES.items()
        ]
        report("numbers and correlations", 1.0)
        judged = {}
        if classifiers:
            report("telling events apart", 0.0)
            judged = tell_events_apart(truth, candidate, deals[:JUDGED_DEALS], sources=sources, seed=seed)
            report("telling events apart", 1.0)
        measured: dict[str, Estimate] = {}
        network = None
        if distances:
            from caloforge.evaluation.pixels.images import compare_images
            from caloforge.runtime.devices import pick_device

            place = pick_device(device)
            measured, network = compare_images(
                truth, candidate, second, trained_on, seed, place, report, images
            )
        remembered = None
        if trained_on is not None and min(len(made), len(trained_on), len(truth)) >= FEWEST_TO_COMPARE:
            remembered = event_memorisation(
                made, trained_on, truth_events, seed, partial(report, "nearest training events")
            )
    origins = {"reference": truth_events, "generated": made, **others}
    return PixelEvaluation(
        counts={name: len(events) for name, events in origins.items()},
        detector=truth_events.detector.name,
        twins=twins,
        distances=measured,
        network=network,
        classifiers=judged,
        correlations=correlations,
        quantities=quantities,
        memorisation=remembered,
        rates=rate_ranges(truth, candidate),
        rate_curve=rate_curve(truth, candidate) if sources else None,
        timing={"geant4_ms": _ms(truth_events), "generator_ms": _ms(made)},
        histograms=histograms,
        maps={"reference": _map(truth), "generated": _map(candidate)},
        provenance={name: events.provenance for name, events in origins.items()}
        | {"evaluation": provenance("evaluate", seed=seed, distances=distances, images=images)},
    )


def _checked(source: EventSource, role: str, truth: PixelEvents | None) -> PixelEvents:
    events = open_events(source, None if truth is None else truth.detector)
    if truth is not None:
        mine, theirs = events.detector, truth.detector
        different = [name for name in ("layers", "readout") if getattr(mine, name) != getattr(theirs, name)]
        if different:
            raise DataError(
                f"{role} are of {mine.name} and the truth is of {theirs.name}, whose "
                f"{' and '.join(different)} differ; events of one detector can be compared"
            )
    if len(events) < LEAST_EVENTS:
        raise DataError(f"{role} have {len(events)} events; an evaluation needs at least {LEAST_EVENTS}")
    return events


def _map(sample: Sample) -> NDArray[np.float64]:
    """Occupancy of the cells that are joined to one of a map, %; blocks at the far edges may be smaller."""
    _, n_u, n_v = sample.events.detector.shape
    sizes = [
        np.diff(np.append(np.arange(0, n, step), n)) for n, step in zip((n_u, n_v), MAP_CELLS, strict=True)
    ]
    return np.asarray(100 * sample.maps / np.outer(*sizes) / len(sample))


def _ms(events: PixelEvents) -> float | None:
    """Time an event, of what is recorded with the events or of their maker."""
    if "geant4_cpu_seconds" in events.extra:
        return 1000 * float(events.extra["geant4_cpu_seconds"].mean())
    performance = events.provenance.get("performance")
    known = performance.get("ms_per_event") if isinstance(performance, dict) else None
    return float(known) if isinstance(known, int | float) else None
