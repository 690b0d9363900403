"""What an evaluation returns: plain dataclasses that turn into JSON and back.

Legend: ``B`` bins, ``V`` voxels. "reference" is the sample held to be true, "generated" the
one that is judged.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "SCHEMA",
    "ClassifierResult",
    "Comparison",
    "Evaluation",
    "Histogram",
    "Profile",
    "Separation",
    "Timing",
]

SCHEMA = 1
"""Version of the layout of ``metrics.json``; raised where a key is removed or changes its meaning."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Separation:
    """A separation power with the value expected from chance alone.

    Attributes:
        value: S in [0, 1].
        floor: mean S where the showers of both are shuffled and dealt out again in these numbers.
        floor_std: its standard deviation; S above ``floor + 3 floor_std`` is a real difference.
    """

    value: float
    floor: float
    floor_std: float


@dataclass(frozen=True, eq=False)
class Histogram:
    """One feature of both samples in the same bins.

    Attributes:
        name: unique name, ``group`` or ``group_<layer number>`` (``ec_eta_12``).
        group: what is filled: ``e_ratio``, ``e_layer``, ``sparsity``, ``ec_eta``, ``cell_energy``, …
        layer: the detector's number of the layer, or None.
        label: axis label in words, with the unit in square brackets.
        edges: bin edges, (B + 1,).
        reference, generated: entries in each bin, (B,).
        reference_error, generated_error: their statistical errors (one standard deviation), (B,).
        reference_outside, generated_outside: fractions of entries below and above the edges.
        separation: separation power of the entries in range and its floor.
        log_x, log_y: whether an axis is best drawn logarithmically.
    """

    name: str
    group: str
    layer: int | None
    label: str
    edges: Floats
    reference: Floats
    generated: Floats
    reference_error: Floats
    generated_error: Floats
    reference_outside: tuple[float, float]
    generated_outside: tuple[float, float]
    separation: Separation
    log_x: bool = False
    log_y: bool = False

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        return cls(
            **_arrays(plain, "edges", "reference", "generated", "reference_error", "generated_error")
            | {name: tuple(plain[name]) for name in ("reference_outside", "generated_outside")}
            | {"separation": Separation(**plain["separation"])}
        )


@dataclass(frozen=True, eq=False)
class Profile:
    """Mean energy of a shower along one direction.

    Attributes:
        name: ``longitudinal`` (one bin a layer) or ``radial``.
        label, position_label: labels of the value and of the position, with units.
        positions: layer numbers (or places, where numbers have gaps) or bin centres (mm), (B,).
        edges: bin edges, (B + 1,); positions ∓ ½ or mm.
        reference, generated: mean energy in the bin, MeV, (B,).
        reference_error, generated_error: standard errors of the means, MeV, (B,).
    """

    name: str
    label: str
    position_label: str
    positions: Floats
    edges: Floats
    reference: Floats
    generated: Floats
    reference_error: Floats
    generated_error: Floats

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        names = (f.name for f in dataclasses.fields(cls))
        return cls(**_arrays(plain, *(n for n in names if n not in ("name", "label", "position_label"))))


@dataclass(frozen=True)
class Comparison:
    """Mean and standard deviation over the showers of one feature in both samples, in the feature's unit."""

    reference_mean: float
    reference_std: float
    generated_mean: float
    generated_std: float


@dataclass(frozen=True)
class ClassifierResult:
    """How well a trained network tells generated showers from reference showers; AUC 0.5 means it cannot.

    Attributes:
        name: ``low``, ``low-normed`` or ``high``.
        auc, auc_std: mean over the trainings, and their standard deviation (0 for one training).
        jsd, jsd_std: Jensen-Shannon divergence from the calibrated network, bits; 0 same, 1 disjoint.
        auc_noise: standard deviation of the AUC of a network that knows nothing, on as many showers.
        auc_floor, auc_floor_std: the AUC of two halves of the reference, where it was asked for.
        aucs, jsds, best_epochs: one entry a training.
        showers: showers of each class used for training, choosing the epoch and calibrating, and validation.
        seconds: time for all trainings.
        device: where it ran.
        settings: the settings, with the name of the preset if it is one.
    """

    name: str
    auc: float
    auc_std: float
    jsd: float
    jsd_std: float
    auc_noise: float
    auc_floor: float | None
    auc_floor_std: float | None
    aucs: tuple[float, ...]
    jsds: tuple[float, ...]
    best_epochs: tuple[int, ...]
    showers: tuple[int, int, int]
    seconds: float
    device: str
    settings: dict[str, Any]

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        lists = ("aucs", "jsds", "best_epochs", "showers")
        return cls(**dict(plain) | {name: tuple(plain[name]) for name in lists})


@dataclass(frozen=True)
class Timing:
    """Time a shower takes, Geant4 against the generator, at the generated energies.

    Attributes:
        geant4_ms: ms per shower at the generated showers' mean energy; None if unknown.
        geant4_ms_per_gev: CPU time per GeV of incident energy in the reference.
        generator_ms: ms per shower of the generated sample; None if its provenance does not tell.
        speed_up: ``geant4_ms / generator_ms``.
        mean_energy_mev: mean incident energy of the generated showers.
        performance: what the generator recorded: batch size, threads, device, peak memory, …
    """

    geant4_ms: float | None
    geant4_ms_per_gev: float | None
    generator_ms: float | None
    speed_up: float | None
    mean_energy_mev: float
    performance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All metrics of a generated sample against a reference sample.

    Attributes:
        counts: showers, ``reference`` and ``generated``, and those without energy, ``reference_empty``, …
        mesh: the cells, as `Mesh.to_dict` gives them.
        threshold_mev: the smallest cell energy histogrammed.
        histograms: every feature, in the order of groups and layers.
        features: mean and standard deviation of every feature, by the names of the histograms.
        profiles: longitudinal and radial.
        mean_shower: ``reference`` and ``generated``: mean energy of each voxel, MeV, (V,).
        classifiers: by name, ``low``, ``low-normed``, ``high``; empty where none was asked for.
        timing: Geant4 against the generator.
        conditions: the ranges of both samples, and the Kolmogorov-Smirnov test of their energies.
        warnings: plain sentences about what limits these numbers.
        provenance: ``reference``, ``generated`` and ``evaluation``.
    """

    counts: dict[str, int]
    mesh: dict[str, Any]
    threshold_mev: float
    histograms: list[Histogram]
    features: dict[str, Comparison]
    profiles: dict[str, Profile]
    mean_shower: dict[str, Floats]
    classifiers: dict[str, ClassifierResult]
    timing: Timing
    conditions: dict[str, Any]
    warnings: list[str]
    provenance: dict[str, Any]

    @property
    def separation(self) -> dict[str, Separation]:
        """Separation power and its floor by the histograms' names."""
        return {histogram.name: histogram.separation for histogram in self.histograms}

    def group_separation(self) -> dict[str, Separation]:
        """Means over the histograms (layers) of each group; ``floor_std`` is the mean of theirs."""
        groups: dict[str, list[Separation]] = {}
        for histogram in self.histograms:
            groups.setdefault(histogram.group, []).append(histogram.separation)
        return {
            group: Separation(*np.mean([dataclasses.astuple(s) for s in members], axis=0).tolist())
            for group, members in groups.items()
        }

    def histogram(self, name: str) -> Histogram:
        """The histogram called ``name``; DataError names those there are."""
        for histogram in self.histograms:
            if histogram.name == name:
                return histogram
        raise DataError(f"no histogram {name!r}; there are {', '.join(h.name for h in self.histograms)}")

    def summary(self) -> Table:
        """The numbers that matter as a table for `rich.print`."""
        from caloforge.evaluation.summary import summary_table

        return summary_table(self)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict, the layout of ``metrics.json``; numbers first, bulk arrays last."""
        plain = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        bulk = ("histograms", "profiles", "mean_shower", "provenance")
        return (
            {"schema": SCHEMA}
            | {name: value for name, value in plain.items() if name not in bulk}
            | {"separation": _plain(self.separation)}
            | {name: plain[name] for name in bulk}
        )

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The evaluation that `to_dict` wrote; DataError where the layout is another."""
        schema = plain.get("schema") if isinstance(plain, Mapping) else None
        if schema != SCHEMA:
            raise DataError(f"metrics of schema {schema!r}; this version reads {SCHEMA}")
        try:
            return cls(
                histograms=[Histogram.from_dict(h) for h in plain["histograms"]],
                features={name: Comparison(**c) for name, c in plain["features"].items()},
                profiles={name: Profile.from_dict(p) for name, p in plain["profiles"].items()},
                mean_shower={n: np.asarray(v, dtype=np.float64) for n, v in plain["mean_shower"].items()},
                classifiers={n: ClassifierResult.from_dict(c) for n, c in plain["classifiers"].items()},
                timing=Timing(**plain["timing"]),
                **{
                    name: plain[name]
                    for name in ("counts", "mesh", "threshold_mev", "conditions", "warnings", "provenance")
                },
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"malformed metrics: {type(error).__name__} {error}") from error


def _arrays(plain: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return dict(plain) | {name: np.asarray(plain[name], dtype=np.float64) for name in names}


def _plain(value: Any) -> Any:
    """Dataclasses, arrays and tuples as dicts, numbers and lists; numbers that are not finite as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)
