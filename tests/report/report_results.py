"""Made-up results of every kind that an evaluation may hold, for small samples."""

from __future__ import annotations

import numpy as np

from caloforge.evaluation.results import (
    Comparison,
    Conservation,
    Correlation,
    Diagnosis,
    Estimate,
    Evaluation,
    FeatureShare,
    Histogram,
    Localisation,
    Memorisation,
    Profile,
    ResolutionFit,
    ResponseCurve,
    Separation,
    Shift,
    Slice,
    TellTale,
)

FULL = ("cylinder", "ragged-box")
"""Meshes whose report has every section; the others have only what an evaluation always has."""

SHAPES = {
    "shower_start": "depth with 5 % of the energy in front [mm]",
    "shower_max": "depth of the shower maximum [mm]",
    "shower_length": "depth that holds the middle 90 % of the energy [mm]",
    "containment_radius": "radius that holds 90 % of the energy [mm]",
    "asymmetry_longitudinal": "longitudinal asymmetry of the cluster",
}


def everything(evaluation: Evaluation, seed: int = 0) -> Evaluation:
    """The evaluation with every optional result filled in."""
    rng = np.random.default_rng(seed)
    names = [h.name for h in evaluation.histograms if h.layer is not None]
    return evaluation.replace(
        histograms=[*evaluation.histograms, *(shape(name, label, rng) for name, label in SHAPES.items())],
        profiles={**evaluation.profiles, "sparsity_by_threshold": sparsity()},
        classifiers={
            name: result.replace(diagnosis=diagnosis(names, rng), error_rate=0.41, parameters=9000)
            for name, result in evaluation.classifiers.items()
        },
        distances=DISTANCES,
        responses=[response("energy", rng), response("detector", rng)],
        correlations={"layers": correlation("layers", 6, rng), "cells": correlation("cells", 8, rng)},
        slices=[one_slice(k) for k in range(3)],
        conservation=Conservation(
            limit=1.21,
            reference_above=0.001,
            generated_above=0.012,
            expected_error=0.002,
            largest=1.34,
            largest_reference=1.23,
            worst=(7, 31),
            negative_or_empty=2,
        ),
        memorisation=memorisation(rng),
        localisation=Localisation(
            shifts=[
                Shift(name="layer 2", kind="layer", relative=0.031, error=0.004, z=7.7, p_value=1e-12),
                Shift(name="cell 2/1/0", kind="cell", relative=-0.2, error=0.03, z=-6.6, p_value=0.002),
            ],
            tested={"layer": 4, "cell": 72},
            found={"layer": 1, "cell": 1},
            shared_showers=0.25,
            exact={"layer 3": 0.01},
        ),
    )


def shape(name: str, label: str, rng: np.random.Generator) -> Histogram:
    edges = np.linspace(0, 100, 51)
    reference, generated = (np.histogram(rng.normal(m, 15, 900), edges)[0].astype(float) for m in (40, 43))
    return Histogram(
        name=name,
        group=name,
        layer=None,
        label=label,
        edges=edges,
        reference=reference,
        generated=generated,
        reference_error=np.sqrt(reference),
        generated_error=np.sqrt(generated),
        reference_outside=(0.0, 0.0),
        generated_outside=(0.0, 0.0),
        separation=Separation(value=0.03, floor=0.02, floor_std=0.003, error=0.004),
    )


def sparsity() -> Profile:
    thresholds = np.geomspace(0.02, 500, 25)
    mean = 0.3 * np.exp(-np.sqrt(thresholds / 5))
    return Profile(
        name="sparsity_by_threshold",
        label="mean fraction of cells above the threshold",
        position_label="threshold [MeV]",
        positions=thresholds,
        edges=np.geomspace(0.016, 620, 26),
        reference=mean,
        generated=mean * 1.05,
        reference_error=mean * 0.01,
        generated_error=mean * 0.01,
    )


DISTANCES = {
    "fpd": Estimate(
        value=0.0812, error=0.0041, floor=0.0102, floor_error=0.002, floor_from="split of the reference"
    ),
    "kpd": Estimate(
        value=0.00012,
        error=0.0001,
        floor=0.00001,
        floor_error=0.0001,
        floor_from="split of the reference",
        note="Few showers.",
    ),
    "precision": Estimate(
        value=0.71,
        error=0.02,
        floor=0.84,
        floor_error=0.01,
        floor_from="split of the reference",
        ideal=1.0,
        higher_is_better=True,
    ),
    "coverage": Estimate(value=0.9, ideal=1.0, higher_is_better=True),
}


def diagnosis(names: list[str], rng: np.random.Generator) -> Diagnosis:
    edges = np.linspace(-5, 5, 41)
    reference, generated = (np.histogram(rng.normal(m, 1, 300), edges)[0].astype(float) for m in (0.4, -0.4))
    shares = [
        FeatureShare(name=name, drop=0.1 / (k + 1), error=0.01, alone=0.5 + 0.1 / (k + 1))
        for k, name in enumerate(names[:14])
    ]
    tails = [
        [TellTale(row=k, log_weight=sign * (3.0 - k / 10), incident_energy=12e3 + k) for k in range(3)]
        for sign in (-1, 1)
    ]
    return Diagnosis(
        edges=edges,
        reference=reference,
        generated=generated,
        features=shares,
        generated_tails=tails[0],
        reference_tails=tails[1],
        groups=[FeatureShare(name="all e_layer", drop=0.2, error=0.01)],
    )


def response(condition: str, rng: np.random.Generator) -> ResponseCurve:
    energy = condition == "energy"
    positions = np.geomspace(1500, 40000, 5) if energy else np.arange(2.0)
    n = len(positions)
    true = 0.96 + 0.002 * np.arange(n)
    width = np.hypot(0.17 / np.sqrt(positions / 1000), 0.01) if energy else np.array([0.08, 0.1])
    values = [true, true * 1.01, width, width * 0.95]
    if energy:
        values = [np.append(v[:-1], np.nan) for v in values]  # a bin without showers
    return ResponseCurve(
        condition=condition,
        label="incident energy [MeV]" if energy else "detector",
        edges=np.geomspace(1000, 50000, n + 1) if energy else np.zeros(0),
        positions=positions,
        names=() if energy else ("par04-siw", "odd-ecal"),
        reference_count=np.full(n, 200.0),
        generated_count=np.full(n, 180.0),
        reference_response=values[0],
        generated_response=values[1],
        reference_response_error=np.full(n, 0.004),
        generated_response_error=np.full(n, 0.004),
        reference_resolution=values[2],
        generated_resolution=values[3],
        reference_resolution_error=np.full(n, 0.003),
        generated_resolution_error=np.full(n, 0.003),
        linearity=Estimate(
            value=0.012, error=0.004, floor=0.005, floor_error=0.002, floor_from="permutation"
        ),
        fits={
            "reference": ResolutionFit(
                stochastic=0.17,
                noise=0.0,
                constant=0.01,
                stochastic_error=0.005,
                noise_error=np.nan,
                constant_error=0.002,
                chi2=4.4,
                ndf=3,
            )
        }
        if energy
        else {},
    )


def correlation(name: str, k: int, rng: np.random.Generator) -> Correlation:
    reference, generated = (np.corrcoef(rng.normal(size=(k, 40)) + rng.normal(size=40)) for _ in range(2))
    reference[k - 1] = reference[:, k - 1] = np.nan
    labels = tuple(f"{i}/0/1" if name == "cells" else str(i) for i in range(k))
    return Correlation(
        name=name,
        labels=labels,
        reference=reference,
        generated=generated,
        distance=Estimate(value=0.09, error=0.01, floor=0.05, floor_error=0.005, floor_from="permutation"),
    )


def one_slice(k: int) -> Slice:
    return Slice(
        condition="energy",
        low=1000.0 * 4**k,
        high=4000.0 * 4**k,
        label=f"{4**k} to {4 ** (k + 1)} GeV",
        counts={"reference": 40, "generated": 30},
        separation={
            "e_layer": Separation(value=0.02 + 0.05 * k, floor=0.02, floor_std=0.003),
            "width_r": Separation(value=0.02, floor=0.02, floor_std=0.003),
        },
        response=Comparison(reference_mean=0.96, reference_std=0.06, generated_mean=0.97, generated_std=0.07),
        metrics={
            "fpd": Estimate(value=0.02, error=0.003, floor=0.01, floor_error=0.002),
            "auc_high": Estimate(value=0.61, error=0.03, floor=0.5, floor_error=0.03, ideal=0.5),
        },
        note="too few showers for the kernel distance" if k == 2 else "",
    )


def memorisation(rng: np.random.Generator) -> Memorisation:
    edges = np.linspace(0, 4, 41)
    counts = [np.histogram(rng.normal(m, 0.4, 500), edges)[0].astype(float) for m in (1.9, 2.0, 2.0)]
    return Memorisation(
        counts={"generated": 100, "training": 90, "held_out": 90},
        space="the layers’ energies",
        edges=edges,
        generated_to_training=counts[0],
        generated_to_held_out=counts[1],
        held_out_to_training=counts[2],
        nearer=Estimate(
            value=0.52, error=0.02, floor=0.5, floor_error=0.02, floor_from="expectation", ideal=0.5
        ),
        copies=1,
        copies_expected=0.5,
        rows=((4, 17), (8, 3)),
        verdict="No sign that training showers are repeated.",
    )
