"""Models inside Geant4 runs: the same showers, the same file, and Geant4 for all else."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloforge import simulate, simulate_fast
from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, Detector
from caloforge.errors import ConditionError, DataError, SimulationError
from caloforge.fast import ShowerServer
from caloforge.fast.maker import Piece, ShowerMaker
from caloforge.fast.orders import Order
from caloforge.fast.placing import shower_number
from caloforge.fast.simulate import told_of_fast

MISSING = [name for name in ("geant4_pybind", "xraylib") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"without {', '.join(MISSING)}")
BEAM: dict[str, Any] = {"n": 20, "energy": "1.2-3GeV", "seed": 5, "progress": False, "workers": 1}


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """No official data even where the user has them."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("cache"))
        patch.setenv("XDG_CACHE_HOME", folder)
        patch.setenv("HOME", folder)
        patch.delenv("GEANT4_DATA_DIR", raising=False)
        yield


@pytest.fixture(scope="module")
def reference(siw: ShowerMaker, tmp_path_factory: pytest.TempPathFactory) -> Showers:
    """An uninterrupted run on one worker."""
    out = tmp_path_factory.mktemp("reference") / "a.h5"
    return simulate_fast("par04-siw", siw.checkpoint, out=out, device="cpu", **BEAM)


def count(showers: Showers, what: str) -> int:
    return int(showers.extra[what].sum())


def electron(energy: float, phi: float = 0.0, particle: str = "e-", **more: Any) -> Conditions:
    return Conditions([energy], phi=phi, particle=particle, **more)


def test_showers_are_those_of_the_model(siw: ShowerMaker, tmp_path: Path) -> None:
    """In a vacuum nothing happens to an electron before the face: the file holds what the model made."""
    empty = Detector.from_dict(Detector.load("par04-siw").to_dict() | {"world_material": "G4_Galactic"})
    one = simulate_fast(empty, siw.checkpoint, out=tmp_path / "a.h5", phi="0-360deg", **BEAM)
    assert count(one, "fast_showers") == len(one) == 20
    assert one.extra["fast_energy"] == pytest.approx(one.conditions.energy)
    c = Conditions(one.conditions.energy, np.pi / 2, 0.0, "e-", "par04-siw")
    numbers = np.array([shower_number(i, 1) for i in range(20)])
    for part in (slice(0, 16), slice(16, 20)):  # as the chunks are
        (made,) = siw.make([Piece(Order(5, numbers[part], c[part]), 0, len(numbers[part]))])
        np.testing.assert_array_equal(one.energies[part], made.reshape(-1, *one.mesh.shape))
    two = simulate_fast(
        empty, siw.checkpoint, out=tmp_path / "b.h5", phi="0-360deg", **(BEAM | {"workers": 2})
    )
    np.testing.assert_array_equal(one.energies, two.energies)
    assert one.provenance["fingerprint"] == two.provenance["fingerprint"]
    assert told_of_fast(one) == (
        "20 particles were taken over by showertree-siw, all that came were in its range"
    )


def test_what_the_model_does_not_know_is_full_simulation_bit_for_bit(tmp_path: Path) -> None:
    events = [
        electron(1500.0, particle="e+"),
        electron(1500.0, particle="gamma"),
        electron(1500.0, theta=1.2),
        electron(900.0),
        Conditions([1500.0, 1200.0], phi=[0.0, 0.3], particle="gamma"),
    ]
    how: dict[str, Any] = {"events": events, "seed": 3, "workers": 1, "progress": False}
    full = simulate("par04-siw", out=tmp_path / "full.h5", **how)
    fast = simulate_fast("par04-siw", out=tmp_path / "fast.h5", **how)
    np.testing.assert_array_equal(full.energies, fast.energies)
    assert full.conditions == fast.conditions
    assert fast.conditions.energy.tolist() == [1500, 1500, 1500, 900, 2700]
    assert count(fast, "fast_showers") == 0
    assert fast.extra["fallback_particle"].tolist() == [1, 1, 0, 0, 2]
    assert fast.extra["fallback_angle"].tolist() == [0, 0, 1, 0, 0]
    assert count(fast, "fallback_energy") == 0  # below its lowest energy a model is not asked
    assert "Geant4 kept 1 for their angle, 4 for their particle" in told_of_fast(fast)


def test_events_of_one_particle_are_a_beam(tmp_path: Path) -> None:
    beam = simulate("par04-siw", out=tmp_path / "a.h5", **(BEAM | {"n": 3}))
    events = [beam.conditions[[i]] for i in range(3)]
    listed = simulate("par04-siw", out=tmp_path / "b.h5", events=events, seed=5, progress=False, workers=1)
    np.testing.assert_array_equal(beam.energies, listed.energies)
    assert beam.conditions == listed.conditions


def test_an_event_of_both(tmp_path: Path) -> None:
    """The model makes the electron, Geant4 the positron beside it, on other cells than the model's."""
    mesh = BoxMesh.regular((15, 31, 9), (10.2, 10.0, 10.0))
    pair = Conditions([3000.0, 2000.0], phi=[0.0, 0.1], particle=["e-", "e+"])
    how: dict[str, Any] = {"events": [pair] * 6, "mesh": mesh, "workers": 1, "progress": False}
    full = simulate("par04-siw", out=tmp_path / "full.h5", **how)
    fast = simulate_fast("par04-siw", "showertree-siw", out=tmp_path / "fast.h5", together=1, **how)
    assert fast.extra["fast_showers"].tolist() == [1] * 6
    assert fast.extra["fallback_particle"].tolist() == [1] * 6
    for showers in (full, fast):
        assert (showers.conditions.particle == 0).all()
        near, far = (showers.energies[:, :, y].sum((1, 2, 3)) for y in (slice(20), slice(20, None)))
        assert near.mean() == pytest.approx(2900, rel=0.1)
        assert far.mean() == pytest.approx(1950, rel=0.1)


def test_cells_of_a_detector_that_stay_where_they_are(tmp_path: Path) -> None:
    beam: dict[str, Any] = {"particle": "gamma", "energy": "20GeV", "theta": "0deg", "impact": "43mm,-38mm"}
    fast = simulate_fast("lhcb-ecal", out=tmp_path / "a.h5", n=20, workers=1, progress=False, **beam)
    assert count(fast, "fast_showers") == 20
    centres, cells = fast.mesh.centres(), fast.energies.reshape(20, -1)
    for axis, where in (("x", 43), ("y", -38)):
        assert (cells @ centres[axis] / cells.sum(1)).mean() == pytest.approx(where, abs=3)
    assert cells.sum(1).mean() == pytest.approx(20_000, rel=0.05)


def test_a_server_of_ones_own(siw: ShowerMaker, tmp_path: Path, place: Path, reference: Showers) -> None:
    with ShowerServer(siw, place) as server:
        shared = simulate_fast("par04-siw", place, out=tmp_path / "a.h5", **BEAM)
        assert server.tally.showers == count(shared, "fast_showers")
        with pytest.raises(ConditionError, match="computes as it was started"):
            simulate_fast("par04-siw", place, out=tmp_path / "b.h5", precision="float32", **BEAM)
        with pytest.raises(ConditionError, match="showers in par04-siw, not in 'lhcb-ecal'"):
            simulate_fast("lhcb-ecal", place, out=tmp_path / "b.h5", **BEAM)
    np.testing.assert_array_equal(shared.energies, reference.energies)
    again = simulate_fast("par04-siw", siw.checkpoint, out=tmp_path / "a.h5", resume=True, **BEAM)
    np.testing.assert_array_equal(again.energies, reference.energies)
    with pytest.raises(DataError, match="made with other settings"):
        simulate_fast("par04-siw", "supercalo-siw", out=tmp_path / "a.h5", resume=True, **BEAM)


@pytest.mark.parametrize(("together", "kept"), [(256, "16 of 20 showers are kept"), (1, "None of the 20")])
def test_a_server_that_ends_is_one_clear_error_and_what_is_made_is_kept(
    together: int,
    kept: str,
    siw: ShowerMaker,
    tmp_path: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    reference: Showers,
) -> None:
    answer, answered = ShowerServer._answer, []

    def once(self: ShowerServer, channel: Any, message: Any) -> None:
        if answered:
            raise ConnectionError
        answered.append(message)
        answer(self, channel, message)

    monkeypatch.setattr(ShowerServer, "_answer", once)
    with (
        ShowerServer(siw, place),
        pytest.raises(SimulationError, match=rf"server of showers has ended(.|\n)*{kept}"),
    ):
        simulate_fast("par04-siw", place, out=tmp_path / "a.h5", together=together, **BEAM)
    if together == 1:
        return
    monkeypatch.undo()
    resumed = simulate_fast("par04-siw", siw.checkpoint, out=tmp_path / "a.h5", resume=True, **BEAM)
    np.testing.assert_array_equal(resumed.energies, reference.energies)


def test_models_that_cannot_be_used(tmp_path: Path) -> None:
    other = Checkpoint.load("gflash:par04-siw")
    other.detectors = ("another",)
    other.meshes = {"another": other.mesh}
    with pytest.raises(ConditionError, match="showers in another, not in 'par04-siw'"):
        simulate_fast("par04-siw", other, out=tmp_path / "a.h5", **BEAM)
    with pytest.raises(ConditionError, match="no particles"):
        simulate_fast("par04-siw", out=tmp_path / "a.h5", events=[])
    with pytest.raises(ConditionError, match="event 1 it is not said which"):
        simulate_fast("par04-siw", out=tmp_path / "a.h5", events=[electron(1e3), Conditions([1e3])])
    with pytest.raises(ConditionError, match="2 events are given, but n = 3"):
        simulate_fast("par04-siw", out=tmp_path / "a.h5", events=[electron(1e3)] * 2, n=3)
    with pytest.raises(SimulationError, match="it cannot be told where a particle enters"):
        simulate_fast("calogan-ecal", out=tmp_path / "a.h5", **(BEAM | {"particle": "e+"}))
    assert list(tmp_path.iterdir()) == []
