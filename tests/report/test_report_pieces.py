"""Laws of the parts: geometry, joined bins, rows of numbers, chosen showers, the second process."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from report_samples import MESHES, make_showers

from caloforge.detector import CylinderMesh, Mesh
from caloforge.errors import MeshError
from caloforge.evaluation.results import Correlation, Estimate, Histogram, ResolutionFit, Separation, Timing
from caloforge.report.events import CELLS_SHOWN, choose_pairs, events_payload
from caloforge.report.figures.correlations import difference_limit
from caloforge.report.figures.histograms import draw_layer_pages, join_bins
from caloforge.report.figures.responses import fitted_resolution
from caloforge.report.geometry import LayerCells, cell_bounds, layer_cells, visible_radius
from caloforge.report.mean_shower import MeanShower, layers_payload, mean_shower, significant_difference
from caloforge.report.script_data import script_json
from caloforge.report.words.rows import estimate_row, number_rows, timing_rows
from caloforge.report.words.text import with_error
from caloforge.report.worker import GroupPages


@pytest.mark.parametrize("kind", MESHES)
def test_cells_fill_the_volume_that_the_mesh_gives(kind):
    mesh = MESHES[kind]
    bounds, known = cell_bounds(mesh)
    depth, first, second = bounds[:, 1] - bounds[:, 0], bounds[:, 2:4], bounds[:, 4:6]
    if layer_cells(mesh)[0].polar:
        area = (first[:, 1] - first[:, 0]) * (second[:, 1] ** 2 - second[:, 0] ** 2) / 2
    else:
        area = (first[:, 1] - first[:, 0]) * (second[:, 1] - second[:, 0])
    assert known == (kind != "unknown-depth")
    np.testing.assert_allclose(area * depth, mesh.volumes())


@pytest.mark.parametrize("kind", MESHES)
def test_outlines_cover_each_layer(kind):
    for layer in layer_cells(MESHES[kind]):
        x, y, k = layer.outline()
        corners = np.stack([x, y], axis=-1)
        d1, d2 = corners[1:, 1:] - corners[:-1, :-1], corners[1:, :-1] - corners[:-1, 1:]
        area = np.abs(d1[..., 0] * d2[..., 1] - d1[..., 1] * d2[..., 0]).sum() / 2
        full = np.ptp(layer.a) * (np.diff(layer.b[[0, -1]] ** 2)[0] / 2 if layer.polar else np.ptp(layer.b))
        assert area == pytest.approx(full, rel=0.01)
        values = layer.values(np.arange(np.prod(layer.shape)))
        assert values.shape == (x.shape[0] - 1, x.shape[1] - 1)
        assert values[::k].ravel().tolist() == list(range(values[::k].size))


def test_a_new_kind_of_mesh_registers_how_its_cells_lie(monkeypatch):
    class RingMesh(Mesh):
        kind = "rings"

    monkeypatch.setattr(RingMesh, "__abstractmethods__", frozenset())
    mesh = RingMesh()  # type: ignore[abstract]
    with pytest.raises(MeshError, match="cannot draw a mesh of kind 'rings'"):
        layer_cells(mesh)
    rings = LayerCells(0, True, np.linspace(-np.pi, np.pi, 2), np.arange(3.0), None)
    layer_cells.register(RingMesh, lambda mesh: [rings])
    assert layer_cells(mesh) == [rings]


def test_visible_radius_leaves_empty_rings_out():
    mesh = CylinderMesh((0.0, 1.0), 4, (0.0, 1.0, 2.0, 100.0))
    means = np.zeros(mesh.shape)
    means[..., 0] = 1.0
    layers = layer_cells(mesh)
    assert visible_radius(layers, [means]) == 1.0
    assert visible_radius(layers, [np.zeros(mesh.shape)]) == 100.0


def histogram(reference: np.ndarray, generated: np.ndarray, **changes: object) -> Histogram:
    edges = np.arange(len(reference) + 1.0)
    known = {
        "name": "x",
        "group": "x",
        "layer": None,
        "label": "x [mm]",
        "edges": edges,
        "reference": reference,
        "generated": generated,
        "reference_error": np.sqrt(reference),
        "generated_error": np.sqrt(generated),
        "reference_outside": (0.0, 0.0),
        "generated_outside": (0.1, 0.1),
        "separation": Separation(value=0.1, floor=0.01, floor_std=0.002),
    }
    return Histogram(**(known | changes))  # type: ignore[arg-type]


def test_joined_bins_keep_every_entry():
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, (2, 100)).astype(float)
    drawn = join_bins([histogram(*counts)])
    reference, generated = drawn.values
    assert 16 <= len(reference) < 60
    assert reference.sum() == pytest.approx(1.0)
    assert generated.sum() == pytest.approx(0.8)
    assert set(drawn.edges) <= set(np.arange(101.0))
    total = counts[0].sum()
    np.testing.assert_allclose(drawn.errors[0], np.sqrt(reference / total))


def test_bins_of_empty_and_peaked_histograms():
    nothing = join_bins([histogram(np.zeros(20), np.zeros(20))])
    assert nothing.values.sum() == 0
    peak = np.zeros(100)
    peak[50] = 1000.0
    assert len(join_bins([histogram(peak, peak)]).edges) == 4


def test_several_samples_share_their_bins_without_thin_tails():
    rng = np.random.default_rng(0)
    counts = [np.histogram(rng.normal(50, 8, 20000), np.arange(101.0))[0].astype(float) for _ in range(4)]
    drawn = join_bins([histogram(counts[0], made) for made in counts[1:]], tail=0.001)
    assert drawn.values.shape == drawn.errors.shape == (4, len(drawn.edges) - 1)
    assert 20 < drawn.edges[0] < 30
    assert 70 < drawn.edges[-1] < 80
    np.testing.assert_allclose(drawn.values[0].sum(), 1, atol=0.003)


def test_mean_shower_and_differences_by_chance():
    mesh = MESHES["box"]
    showers = make_showers(mesh, 200, 3)
    mean = mean_shower(showers)
    flat = showers.energies.reshape(200, -1).astype(float)
    np.testing.assert_allclose(mean.mean, flat.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(mean.error, flat.std(axis=0, ddof=1) / np.sqrt(200), rtol=1e-4)
    assert (significant_difference(mean, mean) == 0).all()
    shifted = dataclasses.replace(mean, mean=mean.mean * 3)
    assert np.median(significant_difference(mean, shifted)) == pytest.approx(2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_error(0.01234, 0.00021), "0.01234 ± 0.00021"),
        (with_error(12.34, 3.1), "12.3 ± 3.1"),
        (with_error(-5.0), "−5.00"),
        (with_error(float("nan"), 1.0), "not known"),
        (with_error(1234.5, 250.0), "1234 ± 250"),
        (with_error(0.5, 0.0), "0.500"),
    ],
)
def test_numbers_carry_two_digits_of_their_error(text, expected):
    assert text == expected


def test_every_number_stands_beside_its_floor(sample):
    evaluation = sample("cylinder").evaluation
    rows = {row.name: row for row in number_rows(evaluation)}
    assert rows["Fréchet distance, FPD × 10³"].value == "81.2 ± 4.1"
    assert rows["Fréchet distance, FPD × 10³"].floor == "10.2 ± 2.0"
    assert rows["Fréchet distance, FPD × 10³"].sigmas == pytest.approx(evaluation.distances["fpd"].sigmas())
    assert rows["Coverage"].floor == "ideal 1.00"
    assert math.isnan(rows["Coverage"].sigmas)  # no floor, no significance
    assert rows["Classifier AUC, cells"].floor == "0.502 ± 0.020"
    assert rows["Showers with ΣE/E_inc above 1.21"].sigmas == pytest.approx(5.5)
    assert all(row.floor for name, row in rows.items() if not name.startswith("Speed-up"))
    noted = estimate_row("x", "What it is.", evaluation.distances["fpd"].replace(note="Beware."))
    assert noted.meaning == "What it is. Beware."


def test_resolution_falls_as_its_terms_say():
    fit = ResolutionFit(
        stochastic=0.2,
        noise=0.1,
        constant=0.01,
        stochastic_error=0.0,
        noise_error=0.0,
        constant_error=0.0,
        chi2=1.0,
        ndf=1,
    )
    expected = np.sqrt(0.2**2 / 4 + 0.1**2 / 16 + 0.01**2)
    np.testing.assert_allclose(fitted_resolution(fit, np.array([4.0])), [expected])


def test_scale_of_differences_is_symmetric_and_holds_all():
    reference, generated = np.eye(3), np.eye(3)
    generated[0, 1] = -0.33
    reference[2] = np.nan
    part = Correlation(
        name="layers",
        labels=("0", "1", "2"),
        reference=reference,
        generated=generated,
        distance=Estimate(value=0.1),
    )
    assert difference_limit(part) == pytest.approx(0.4)


def test_unknown_times_are_said_to_be_unknown(sample):
    evaluation = sample("box").evaluation.replace(
        timing=Timing(
            geant4_ms=None, geant4_ms_per_gev=None, generator_ms=None, speed_up=None, mean_energy_mev=1e4
        )
    )
    rows, _ = timing_rows(evaluation)
    assert rows == [
        ("Time per shower", "not known", "not known"),
        ("Showers per second", "not known", "not known"),
    ]


def test_pairs_are_the_nearest_in_energy():
    mesh = CylinderMesh.regular(n_z=20, n_phi=16, n_r=15)
    reference, generated = make_showers(mesh, 40, 1), make_showers(mesh, 60, 2)
    pairs = choose_pairs(reference, generated, display_energy=2e3)
    assert pairs[0].reference.number == np.argmin(np.abs(np.log(reference.conditions.energy / 2e3)))
    for pair in pairs:
        gaps = np.abs(np.log(generated.conditions.energy / pair.reference.incident))
        assert pair.generated.number == np.argmin(gaps)
        event = pair.reference
        assert len(event.cells) == min(event.hits, CELLS_SHOWN)
        assert (np.diff(event.energies) <= 0).all()
        assert event.energies.sum() == pytest.approx(event.total * (1 - event.dropped_share))


def test_data_of_the_page_is_strict_json():
    mesh = MESHES["unknown-depth"]
    reference, generated = make_showers(mesh, 30, 1), make_showers(mesh, 30, 2)
    empty = MeanShower(*(np.zeros(mesh.n_voxels),) * 2)
    layers = layers_payload(mesh, mean_shower(reference), empty)
    events = events_payload(mesh, choose_pairs(reference, generated))
    text = script_json({"layers": layers, "events": events, "text": "</script><!--"})
    assert "<" not in text
    assert json.loads(text)["text"] == "</script><!--"
    assert events["depthKnown"] is False


def test_second_process_draws_the_same_pages(sample, tmp_path):
    evaluation = sample("box").evaluation
    groups = {
        name: [h for h in evaluation.histograms if h.group == name][:2] for name in ("e_layer", "width_r")
    }
    finished: list[str] = []
    alone = GroupPages(groups, tmp_path / "one", processes=1).finish()
    with GroupPages(groups, tmp_path / "two", processes=2) as pages:
        both = pages.finish(finished.append)
    assert sorted(finished) == sorted(groups)
    assert {k: [d.name for d in v] for k, v in both.items()} == {
        k: [d.name for d in v] for k, v in alone.items()
    }
    for drawings in both.values():
        for drawing in drawings:
            for ending in ("png", "pdf"):
                here, there = (tmp_path / n / f"{drawing.name}.{ending}" for n in ("one", "two"))
                assert here.read_bytes() == there.read_bytes()


def workers() -> list[str]:
    """Children of this process that draw."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and b"caloforge.report.worker" in (folder / "cmdline").read_bytes():
                found.append(folder.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no list of processes")
def test_second_process_ends_with_the_first_one(sample, tmp_path):
    groups = {name: sample("box").evaluation.histograms[:1] for name in ("first", "second")}
    with GroupPages(groups, tmp_path, processes=2):
        end = time.monotonic() + 10
        while not workers() and time.monotonic() < end:  # a process has no name yet while it begins
            time.sleep(0.01)
        assert len(workers()) == 1
    assert workers() == []


def test_figures_do_not_depend_on_a_users_matplotlibrc(sample, tmp_path):
    import matplotlib

    histograms = sample("box").evaluation.histograms[:2]
    before = dict(matplotlib.rcParams)
    plain = draw_layer_pages("page", "Title", histograms, tmp_path / "plain")
    users = {
        "figure.dpi": 33,
        "savefig.dpi": 300,
        "savefig.bbox": "tight",
        "savefig.transparent": True,
        "font.family": "monospace",
        "axes.grid": True,
        "axes.labelpad": 20,
        "lines.antialiased": False,
        "mathtext.fontset": "cm",
        "path.sketch": (1, 100, 2),
        "pdf.use14corefonts": True,
        "text.usetex": True,
    }
    with matplotlib.rc_context(users):
        inside = dict(matplotlib.rcParams)
        changed = draw_layer_pages("page", "Title", histograms, tmp_path / "changed")
        assert dict(matplotlib.rcParams) == inside
    assert dict(matplotlib.rcParams) == before
    for one, other in zip(plain, changed, strict=True):
        for ending in ("png", "pdf"):
            first, second = (drawing.folder / f"{drawing.name}.{ending}" for drawing in (one, other))
            assert first.read_bytes() == second.read_bytes()
