"""Made-up results of every kind that an evaluation may hold, for small samples."""

from __future__ import annotations

import dataclasses

import numpy as np

from caloforge.evaluation import Evaluation
from caloforge.evaluation.results import (
    Comparison,
    Conservation,
    Correlation,
    Diagnosis,
    Estimate,
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

FULL = ("cylinder", "unknown-depth", "ragged-box")
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
    return dataclasses.replace(
        evaluation,
        histograms=[*evaluation.histograms, *(shape(name, label, rng) for name, label in SHAPES.items())],
        profiles={**evaluation.profiles, "sparsity_by_threshold": sparsity()},
        classifiers={
            name: dataclasses.replace(
                result, diagnosis=diagnosis(names, rng), error_rate=0.41, parameters=9000
            )
            for name, result in evaluation.classifiers.items()
        },
        distances=DISTANCES,
        responses=[response("energy", rng), response("detector", rng)],
        correlations={"layers": correlation("layers", 6, rng), "cells": correlation("cells", 8, rng)},
        slices=[one_slice(k) for k in range(3)],
        conservation=Conservation(1.21, 0.001, 0.012, 0.002, 1.34, 1.23, (7, 31), 2),
        memorisation=memorisation(rng),
        localisation=Localisation(
            [
                Shift("layer 2", "layer", 0.031, 0.004, 7.7, 1e-12),
                Shift("cell 2/1/0", "cell", -0.2, 0.03, -6.6, 0.002),
            ],
            {"layer": 4, "cell": 72},
            {"layer": 1, "cell": 1},
            0.25,
            {"layer 3": 0.01},
        ),
    )


def shape(name: str, label: str, rng: np.random.Generator) -> Histogram:
    edges = np.linspace(0, 100, 51)
    reference, generated = (np.histogram(rng.normal(m, 15, 900), edges)[0].astype(float) for m in (40, 43))
    return Histogram(
        name,
        name,
        None,
        label,
        edges,
        reference,
        generated,
        np.sqrt(reference),
        np.sqrt(generated),
        (0.0, 0.0),
        (0.0, 0.0),
        Separation(0.03, 0.02, 0.003, 0.004),
    )


def sparsity() -> Profile:
    thresholds = np.geomspace(0.02, 500, 25)
    mean = 0.3 * np.exp(-np.sqrt(thresholds / 5))
    return Profile(
        "sparsity_by_threshold",
        "mean fraction of cells above the threshold",
        "threshold [MeV]",
        thresholds,
        np.geomspace(0.016, 620, 26),
        mean,
        mean * 1.05,
        mean * 0.01,
        mean * 0.01,
    )


DISTANCES = {
    "fpd": Estimate(0.0812, 0.0041, 0.0102, 0.002, "split of the reference"),
    "kpd": Estimate(0.00012, 0.0001, 0.00001, 0.0001, "split of the reference", note="Few showers."),
    "precision": Estimate(0.71, 0.02, 0.84, 0.01, "split of the reference", 1.0, True),
    "coverage": Estimate(0.9, ideal=1.0, higher_is_better=True),
}


def diagnosis(names: list[str], rng: np.random.Generator) -> Diagnosis:
    edges = np.linspace(-5, 5, 41)
    reference, generated = (np.histogram(rng.normal(m, 1, 300), edges)[0].astype(float) for m in (0.4, -0.4))
    shares = [
        FeatureShare(name, 0.1 / (k + 1), 0.01, 0.5 + 0.1 / (k + 1)) for k, name in enumerate(names[:14])
    ]
    tails = [[TellTale(k, sign * (3.0 - k / 10), 12e3 + k) for k in range(3)] for sign in (-1, 1)]
    return Diagnosis(edges, reference, generated, shares, *tails, [FeatureShare("all e_layer", 0.2, 0.01)])


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
        condition,
        "incident energy [MeV]" if energy else "detector",
        np.geomspace(1000, 50000, n + 1) if energy else np.zeros(0),
        positions,
        () if energy else ("par04-siw", "odd-ecal"),
        np.full(n, 200.0),
        np.full(n, 180.0),
        *values[:2],
        np.full(n, 0.004),
        np.full(n, 0.004),
        values[2],
        values[3],
        np.full(n, 0.003),
        np.full(n, 0.003),
        Estimate(0.012, 0.004, 0.005, 0.002, "permutation"),
        {"reference": ResolutionFit(0.17, 0.0, 0.01, 0.005, np.nan, 0.002, 4.4, 3)} if energy else {},
    )


def correlation(name: str, k: int, rng: np.random.Generator) -> Correlation:
    reference, generated = (np.corrcoef(rng.normal(size=(k, 40)) + rng.normal(size=40)) for _ in range(2))
    reference[k - 1] = reference[:, k - 1] = np.nan
    labels = tuple(f"{i}/0/1" if name == "cells" else str(i) for i in range(k))
    return Correlation(name, labels, reference, generated, Estimate(0.09, 0.01, 0.05, 0.005, "permutation"))


def one_slice(k: int) -> Slice:
    return Slice(
        "energy",
        1000.0 * 4**k,
        4000.0 * 4**k,
        f"{4**k} to {4 ** (k + 1)} GeV",
        {"reference": 40, "generated": 30},
        {"e_layer": Separation(0.02 + 0.05 * k, 0.02, 0.003), "width_r": Separation(0.02, 0.02, 0.003)},
        Comparison(0.96, 0.06, 0.97, 0.07),
        {"fpd": Estimate(0.02, 0.003, 0.01, 0.002), "auc_high": Estimate(0.61, 0.03, 0.5, 0.03, ideal=0.5)},
        "too few showers for the kernel distance" if k == 2 else "",
    )


def memorisation(rng: np.random.Generator) -> Memorisation:
    edges = np.linspace(0, 4, 41)
    counts = [np.histogram(rng.normal(m, 0.4, 500), edges)[0].astype(float) for m in (1.9, 2.0, 2.0)]
    return Memorisation(
        {"generated": 100, "training": 90, "held_out": 90},
        "the layers’ energies",
        edges,
        *counts,
        Estimate(0.52, 0.02, 0.5, 0.02, "expectation", 0.5),
        1,
        0.5,
        ((4, 17), (8, 3)),
        "No sign that training showers are repeated.",
    )
