"""Events of a pixel detector: sources, volumes, digitisation, files that are the same whoever makes them."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from caloforge.cli.app import app
from caloforge.data.pixels import open_events
from caloforge.data.pixels.rates import event_rates, parse_rates
from caloforge.detector import PixelDetector
from caloforge.errors import ConditionError, DataError, DetectorError
from caloforge.geant4 import find_data, simulate_events
from caloforge.geant4.pixel.digitise import digitise
from caloforge.geant4.pixel.sources import particles_of_event

N = 6


@pytest.fixture(scope="module")
def pxd():
    return PixelDetector.load("belle2-pxd")


@pytest.fixture(scope="module")
def quiet(pxd):
    """The same with a fiftieth of the background."""
    description = pxd.to_dict()
    for source in description["sources"]:
        source["mean"] /= 50
    return PixelDetector.from_dict(description)


SETTINGS = {"n": N, "rate": "0.5-2", "seed": 5, "progress": False}


@pytest.fixture(scope="module")
def reference(quiet, tmp_path_factory):
    """An uninterrupted run on one worker."""
    return simulate_events(quiet, out=tmp_path_factory.mktemp("reference") / "a.h5", workers=1, **SETTINGS)


def same(a, b):
    one, other = a.read(0, len(a)), b.read(0, len(b))
    for name in ("counts", "u", "v", "charge"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(a.conditions.rates, b.conditions.rates)


def test_what_is_in_the_file(reference, quiet):
    hits = reference.read(0, N)  # which are checked: on cells, in order, between threshold and 255
    assert hits.charge.min() >= 7
    assert (hits.counts.sum(axis=1) > 0).all()
    rates = reference.conditions.rates
    assert rates.shape == (N, 3)
    assert (rates > 0.5 * 0.7).all()
    assert (rates < 2 * 1.4).all()
    np.testing.assert_array_equal(reference.conditions.number, np.arange(N))
    assert (reference.conditions.seed == 5).all()
    made = reference.provenance["settings"]
    assert made["physics"] == "G4EmStandardPhysics"
    assert made["rates"]["all"] == [0.5, 2.0]
    assert (reference.extra["geant4_cpu_seconds"] > 0).all()
    inner = hits.counts[:, :16].sum() / 16
    assert inner > hits.counts[:, 16:].sum() / 24  # fluence falls with the radius


def test_two_workers_and_a_kill_make_the_same(reference, quiet, tmp_path):
    out, path = tmp_path / "b.h5", tmp_path / "quiet.json"
    path.write_text(quiet.model_dump_json(by_alias=True, exclude_none=True))
    call = f"simulate_events(detector, out={str(out)!r}, workers=1, **{SETTINGS!r})"
    code = (
        "import json, pathlib; from caloforge.detector import PixelDetector; "
        "from caloforge.geant4 import simulate_events; "
        f"detector = PixelDetector.from_dict(json.loads(pathlib.Path({str(path)!r}).read_text())); {call}"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ.copy()) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("b.h5.parts/chunk-*.npz")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not out.exists()
    assert list(tmp_path.glob("b.h5.parts/chunk-*.npz"))
    with pytest.raises(DataError, match=r"its rates differs"):
        simulate_events(quiet, out=out, resume=True, **(SETTINGS | {"rate": 1}))
    same(simulate_events(quiet, out=out, workers=2, resume=True, **SETTINGS), reference)
    same(simulate_events(quiet, out=out, workers=2, resume=True, **SETTINGS), reference)  # nothing left to do
    assert {found.name for found in tmp_path.iterdir()} == {"b.h5", "quiet.json"}
    with pytest.raises(DataError, match="exists"):
        simulate_events(quiet, out=out, **SETTINGS)
    assert len(open_events(out)) == N


DEPOSITS = """
import json, pathlib, sys
import numpy as np
from caloforge.detector import PixelDetector
from caloforge.geant4.pixel.engine import PixelEngine
detector = PixelDetector.from_dict(json.loads(pathlib.Path(sys.argv[1]).read_text()))
engine = PixelEngine(detector, official=False)
found = []
engine.run(np.ones((2, 3)), np.arange(2), 1, lambda number, deposits, seconds: found.append(deposits))
columns = {name: np.concatenate([getattr(d, name) for d in found]) for name in found[0]._fields}
np.savez(sys.argv[2], **columns)
"""


def test_deposits_lie_in_the_sensors_of_the_file(quiet, tmp_path):
    """Volumes are turned and placed as `PixelDetector.sensors` says."""
    (tmp_path / "quiet.json").write_text(quiet.model_dump_json(by_alias=True, exclude_none=True))
    command = [sys.executable, "-c", DEPOSITS, tmp_path / "quiet.json", tmp_path / "deposits.npz"]
    subprocess.run(command, env=os.environ | find_data().environment, check=True, capture_output=True)
    with np.load(tmp_path / "deposits.npz") as stored:
        deposits = dict(stored)
    assert len(np.unique(deposits["sensor"])) > 30
    for sensor in np.unique(deposits["sensor"]).tolist():
        frame = quiet.sensors[sensor]
        layer = quiet.layers[frame.layer]
        half = [layer.edges_u[-1], layer.edges_v[-1], layer.thickness_um * 1e-3 / 2]
        for point in (deposits["start"], deposits["end"]):
            local = (point[deposits["sensor"] == sensor] - frame.centre) @ frame.axes.T
            assert (np.abs(local) <= np.array(half) + 1e-6).all()
    length = np.linalg.norm(deposits["end"] - deposits["start"], axis=1)
    assert length.max() <= quiet.step_mm * 1.0001  # those of photons are points
    assert (length == 0).any()
    assert (np.abs(deposits["time"]) <= 10_100).all()
    assert np.median(deposits["energy"][length > 0] / length[length > 0] * 0.075) == pytest.approx(
        0.02, rel=0.3
    )  # 20 keV in 75 µm


def test_what_circles_for_ever_ends(pxd, tmp_path):
    """Perpendicular to the field, in vacuum, on a circle that meets nothing."""
    circling = {"name": "circling", "kind": "single-beam", "mean": 5.0, "share": {"e-": 1.0}, "power": 1.0}
    circling |= {
        "energy_mev": [5.0, 6.0],
        "angle_rad": 1e12,
        "swirl_rad": 0.0,
        "radius_mm": 50.0,
        "z_mm": [0, 0],
    }
    detector = PixelDetector.from_dict(pxd.to_dict() | {"sources": [circling]})
    events = simulate_events(detector, out=tmp_path / "a.h5", n=1, workers=1, progress=False)
    assert events.read(0, 1).counts.sum() < 10  # noise alone


def test_rates_are_functions_of_the_event(pxd):
    ranges = parse_rates("0.5-2", pxd)
    numbers = np.arange(4000)
    rates = event_rates(pxd, ranges, 1, numbers)
    np.testing.assert_array_equal(rates[100:200], event_rates(pxd, ranges, 1, numbers[100:200]))
    logs = np.log(rates)
    assert (np.corrcoef(logs.T) > 0.95).all()  # shared by all sources of an event
    assert (np.corrcoef(logs.T)[0, 1:] < 1).all()
    np.testing.assert_allclose(logs[:, 0].std(), np.log(4) / np.sqrt(12), rtol=0.05)
    named = event_rates(pxd, parse_rates("two_photon=3,single_beam=0.1-0.2,1", pxd), 1, numbers)
    np.testing.assert_array_equal(named[:, 0], 3.0)
    assert ((named[:, 1] >= 0.1) & (named[:, 1] <= 0.2)).all()
    np.testing.assert_allclose(named[:, 2].mean(), 1.0, atol=0.01)


@pytest.mark.parametrize("rate", ["-1", -0.5, "2-0.5", "0-1", "fast", "1-2-3", float("nan"), (1.0,)])
def test_rates_that_are_none(pxd, rate):
    with pytest.raises(ConditionError, match="expected a factor"):
        parse_rates(rate, pxd)


def test_sources_that_are_none(pxd):
    with pytest.raises(ConditionError, match="no source 'cosmics' of background; it has two_photon"):
        parse_rates("cosmics=2", pxd)


def test_sources(pxd):
    window = pxd.readout.window_us
    none = particles_of_event(pxd.sources, np.zeros(3), window, 1, 0)
    assert len(none) == 0
    one = particles_of_event(pxd.sources, np.ones(3), window, 1, 7)
    again = particles_of_event(pxd.sources, np.ones(3), window, 1, 7)
    np.testing.assert_array_equal(one.direction, again.direction)
    assert (np.abs(one.time) <= 10_000).all()
    np.testing.assert_allclose(np.linalg.norm(one.direction, axis=1), 1.0)
    counts = [len(particles_of_event(pxd.sources[1:2], np.ones(1), window, 1, i)) for i in range(200)]
    mean = pxd.sources[1].mean
    np.testing.assert_allclose(np.mean(counts), mean, rtol=0.005)  # a Poisson number
    np.testing.assert_allclose(np.std(counts), np.sqrt(mean), rtol=0.2)


def test_pairs_have_a_steep_spectrum_and_balance(pxd):
    pairs = particles_of_event(pxd.sources[:1], np.full(1, 10.0), pxd.readout.window_us, 1, 0)
    half = len(pairs) // 2
    momentum = np.sqrt(pairs.energy * (pairs.energy + 2 * 0.51099895))
    transverse = (momentum[:, None] * pairs.direction)[:, :2]
    np.testing.assert_allclose(transverse[:half], -transverse[half:], atol=1e-9)
    pt = np.linalg.norm(transverse[:half], axis=1)
    np.testing.assert_allclose((pt > 5).mean(), 0.25, atol=0.01)  # p_T^−3 from 2.5 MeV on


def test_grazing_secondaries_prefer_one_side(pxd):
    source = pxd.sources[1]
    found = particles_of_event((source,), np.full(1, 20.0), pxd.readout.window_us, 1, 0)
    phi = np.arctan2(found.start[:, 1], found.start[:, 0]) - np.deg2rad(source.phi_deg)
    np.testing.assert_allclose(2 * np.cos(phi).mean(), source.phi_excess, atol=0.02)
    np.testing.assert_allclose(2 * np.sin(phi).mean(), 0.0, atol=0.02)
    radial = (found.start * found.direction)[:, :2].sum(axis=1)
    assert (radial >= 0).all()  # they leave the beam pipe


class Deposit:
    """What the digitiser takes: deposits along straight steps."""

    def __init__(self, pxd, sensor, start, end, energy):
        frame = pxd.sensors[sensor]
        self.sensor = np.array([sensor])
        self.energy = np.array([energy])
        self.start, self.end = (frame.centre + np.array([p]) @ frame.axes for p in (start, end))
        self.time = np.zeros(1)


def exact(pxd, **changes):
    """A read-out without anything random."""
    none = dict.fromkeys(
        ("noise_electrons", "pedestal_spread_adu", "noise_hits", "diffusion_um", "lorentz_um"), 0.0
    )
    return PixelDetector.from_dict(pxd.to_dict() | {"readout": pxd.to_dict()["readout"] | none | changes})


def test_a_point_is_one_pixel(pxd):
    detector = exact(pxd)
    u, v = 0.05 * 10.5, 0.01  # the middle of the eleventh cell from the middle, and v
    energy = 20 * 216.7 * 3.65e-6  # 20 ADU
    for sensor, cell in ((1, None), (0, None)):
        hits = digitise(Deposit(detector, sensor, (u, v, 0), (u, v, 0), energy), detector, 1, 0)
        assert hits.counts[0].tolist() == [int(i == sensor) for i in range(40)]
        assert hits.charge.tolist() == [20]
        assert hits.u.tolist() == [135]
        edges = detector.layers[0].edges_v
        cell = np.searchsorted(edges, -v if detector.sensors[sensor].flip_v else v) - 1
        assert hits.v.tolist() == [cell]


def test_charge_is_kept_and_shared_along_the_track(pxd):
    detector = exact(pxd, threshold_adu=1)
    energy = 1000 * 216.7 * 3.65e-6
    step = Deposit(detector, 1, (-1.0, 0.001, 0), (1.0, 0.001, 0), energy)  # over 40 cells in u
    hits = digitise(step, detector, 1, 0)
    assert len(hits.u) == 40
    assert hits.charge.sum(dtype=int) == pytest.approx(1000, abs=20)
    np.testing.assert_allclose(hits.charge, 25, atol=1)
    shifted = exact(pxd, threshold_adu=1, lorentz_um=100.0)
    np.testing.assert_array_equal(digitise(step, shifted, 1, 0).u, hits.u + 2)
    wide = exact(pxd, threshold_adu=1, diffusion_um=40.0)
    assert len(np.unique(digitise(step, wide, 1, 0).v)) > 1


def test_threshold_saturation_and_noise(pxd):
    adu = 216.7 * 3.65e-6

    def charges(detector, amount):
        return digitise(
            Deposit(detector, 3, (0.02, 0.01, 0), (0.02, 0.01, 0), amount * adu), detector, 1, 0
        ).charge

    assert charges(exact(pxd), 6.4).tolist() == []
    assert charges(exact(pxd), 6.6).tolist() == [7]
    assert charges(exact(pxd), 300).tolist() == [155]  # the pedestal of 100 leaves as much of 255
    assert charges(exact(pxd), 0.1).tolist() == []
    noise = exact(pxd, noise_hits=1e-5)
    counts = [len(digitise(Deposit(noise, 3, (0, 0, 0), (0, 0, 0), 0.0), noise, 1, i).u) for i in range(10)]
    np.testing.assert_allclose(np.mean(counts), 76.8, rtol=0.15)


def test_the_command(quiet, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(app, ["simulate", *map(str, arguments)], catch_exceptions=True)

    wrong = run("belle2-pxd", "-n", 1, "--energy", "1GeV", "--allow-outside")
    assert isinstance(wrong.exception, ConditionError)
    assert "--energy, --allow-outside have no meaning there; --rate" in str(wrong.exception)
    wrong = run("par04-siw", "-n", 1, "--rate", "2")
    assert isinstance(wrong.exception, ConditionError)
    assert "no pixel detector and has no --rate" in str(wrong.exception)
    wrong = run("belle2-pxd", "-n", 1, "--rate", "2-1", "-o", tmp_path / "a.h5")
    assert "expected a factor" in str(wrong.exception)
    assert not list(tmp_path.iterdir())


def test_bad_requests(pxd, tmp_path):
    out = tmp_path / "a.h5"
    with pytest.raises(ConditionError, match="expected a factor"):
        simulate_events(pxd, out=out, n=1, rate=-1.0)
    with pytest.raises(ConditionError, match="n must be at least 1"):
        simulate_events(pxd, out=out, n=0)
    with pytest.raises(DetectorError, match="par04-siw is no pixel detector"):
        simulate_events("par04-siw", out=out, n=1)
    assert not list(tmp_path.iterdir())
