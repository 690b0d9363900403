"""Models in a user's own Geant4 program: in its volumes, wherever they lie, and for its read-out."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions
from caloforge.fast import ShowerServer
from caloforge.fast.maker import Piece, ShowerMaker
from caloforge.fast.orders import Order
from caloforge.fast.placing import shower_number
from caloforge.runtime.seeds import derived_seed

MISSING = [name for name in ("geant4_pybind", "xraylib") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"without {', '.join(MISSING)}")
SCRIPT = Path(__file__).parents[1] / "shared" / "own_world.py"

GDML = """<?xml version="1.0"?>
<gdml>
  <define>
    <position name="at" x="100" y="-50" z="30" unit="mm"/>
    <rotation name="turned" y="-90" unit="deg"/>
    <position name="left" x="-1500" unit="mm"/>
    <position name="right" x="1500" unit="mm"/>
    <rotation name="to_left" y="90" unit="deg"/>
    <rotation name="to_right" y="-90" unit="deg"/>
  </define>
  <materials/>
  <solids>
    <box name="hall" x="5000" y="5000" z="5000" lunit="mm"/>
    <tube name="barrel" rmin="800" rmax="960" z="1000" deltaphi="360" aunit="deg" lunit="mm"/>
    <box name="wall" x="600" y="500" z="420" lunit="mm"/>
    <box name="slice" x="600" y="500" z="30" lunit="mm"/>
  </solids>
  <structure>
    <volume name="absorber">
      <materialref ref="G4_Pb"/><solidref ref="slice"/>
    </volume>
    <volume name="barrel"><materialref ref="G4_W"/><solidref ref="barrel"/></volume>
    <volume name="wall">
      <materialref ref="G4_POLYSTYRENE"/><solidref ref="wall"/>
      <physvol><volumeref ref="absorber"/><position name="first" z="-195" unit="mm"/></physvol>
    </volume>
    <volume name="hall">
      <materialref ref="G4_Galactic"/><solidref ref="hall"/>
      WORLD
    </volume>
  </structure>
  <setup name="Default" version="1.0"><world ref="hall"/></setup>
</gdml>
"""
BARREL = '<physvol><volumeref ref="barrel"/><positionref ref="at"/><rotationref ref="turned"/></physvol>'
WALLS = "".join(
    f'<physvol copynumber="{i}"><volumeref ref="wall"/><positionref ref="{side}"/>'
    f'<rotationref ref="to_{side}"/></physvol>'
    for i, side in enumerate(("left", "right"))
)
MIDDLE = [100.0, -50.0, 30.0]
SEED = 5
SIDEWAYS = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]


def shot(particle: str, energy: float, direction: list[float], start: list[float] = MIDDLE) -> dict[str, Any]:
    return {"particle": particle, "energy": energy, "start": start, "direction": direction}


LEFT_ALONE = [
    shot("e+", 1500.0, [0, 0, -1]),  # a particle that the model was not trained on
    shot("e-", 500.0, [0, 0, -1]),  # below its lowest energy
    shot("e-", 60_000.0, [0, 0, -1]),
    shot("e-", 1500.0, [0, 0, -1], [580, -50, 30]),  # too near to the end
    shot("e-", 1500.0, [0, 0.6, -0.8]),  # in the middle of the barrel, but not of a radius
    shot("gamma", 3000.0, [1, 0, 0], [-2000, 43, -38]),  # from behind, through a wall
]
LEFT_ALONE[4]["start"] = [100, -350, 30]


def program(
    folder: Path, particles: list[dict[str, Any]], runs: int = 1, **told: Any
) -> list[dict[str, Any]]:
    """What a user's program prints, an event a line, and something at its end."""
    (folder / "world.gdml").write_text(GDML.replace("WORLD", BARREL + WALLS))
    settings = {"gdml": str(folder / "world.gdml"), "particles": particles, "runs": runs} | told
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, SCRIPT, folder / "settings.json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def servers(siw: ShowerMaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """Models of the barrel and of the walls, whose showers are made at once when all is done."""
    lhcb = ShowerMaker(Checkpoint.load("showertree-lhcb"), "cpu")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        places = [Path(name) / "siw", Path(name) / "lhcb"]
        with ShowerServer(siw, places[0]), ShowerServer(lhcb, places[1]):
            barrel = {"volume": "barrel", "model": str(places[0]), "seed": SEED}
            walls = {"volume": "wall", "model": str(places[1]), "seed": SEED, "together": 1000}
            yield [barrel, walls]


def test_showers_are_those_of_the_model_wherever_a_volume_lies(
    siw: ShowerMaker, servers: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The barrel lies along x and the walls left and right of it; y, z, and −x and x are the depth."""
    taken = [
        shot("e-", 2000.0, [0, 0, 1]),
        shot("e-", 1500.0, [0, -0.6, -0.8]),
        shot("gamma", 20_000.0, [-1, 0, 0], [-1000, 43, -38]),
        shot("gamma", 20_000.0, [1, 0, 0], [1000, 43, -38]),
    ]
    *events, end = program(tmp_path, taken, runs=2, models=servers)
    assert end["counts"] == [[4, {}], [4, {}]]
    assert [event["seen"] for event in events] == [1, 1, 0, 0] * 2  # before the user's sensitive detector
    for run, number in ((0, 0), (0, 1), (1, 0), (1, 1)):
        (shower,) = events[4 * run + number]["showers"]
        asked = taken[number]
        assert (shower["run"], shower["event"], shower["track"]) == (run, number, 1)
        assert (shower["particle"], shower["energy"]) == (11, asked["energy"])
        direction = np.array(asked["direction"])
        np.testing.assert_allclose(shower["direction"], direction, atol=1e-12)
        np.testing.assert_allclose(shower["position"], np.array(MIDDLE) + 800 * direction, atol=1e-6)
        assert shower["time"] == pytest.approx(800 / 299.792458, rel=1e-6)
        seed = SEED if run == 0 else derived_seed(SEED, "fast.run", run)
        conditions = Conditions([asked["energy"]], np.pi / 2, 0.0, "e-", "par04-siw")
        (made,) = siw.make([Piece(Order(seed, np.array([shower_number(number, 1)]), conditions), 0, 1)])
        lit = np.flatnonzero(made[0])
        np.testing.assert_array_equal(shower["energies"], made[0][lit].astype(np.float64) * 0.033)
        # the shower's z is along the particle, its x against the barrel's axis, which is the world's x
        away, axis = np.array(shower["positions"]) - np.array(shower["position"]), np.array([1.0, 0.0, 0.0])
        own = np.stack([-away @ axis, away @ np.cross(axis, direction), away @ direction], axis=1)
        found = siw.model.mesh.index(own - [0, 0, 1e-3])  # as Geant4's deposits are scored
        np.testing.assert_array_equal(found, lit)
    sides = [(s["event"], s["positions"], s["energies"]) for s in end["late"]]
    assert [event for event, _, _ in sides] == [2, 3, 2, 3]
    for event, positions, energies in sides:
        sign = -1 if event == 2 else 1
        x, y, z = np.average(positions, axis=0, weights=energies)
        assert 1290 < sign * x < 1290 + 396
        assert (y, z) == (pytest.approx(43, abs=10), pytest.approx(-38, abs=10))
        assert sum(energies) / 0.176 == pytest.approx(20_000, rel=0.15)


def test_all_else_stays_geant4s_bit_for_bit(servers: list[dict[str, Any]], tmp_path: Path) -> None:
    *events, end = program(tmp_path, LEFT_ALONE[:5], models=servers[:1])
    assert end["counts"] == [[0, {"particle": 1, "energy": 1, "place": 1, "angle": 1}]]
    wrong = [
        (servers[0] | {"volume": "nothing"}, "neither a region nor a logical volume 'nothing'"),
        (servers[0] | {"volume": "wall"}, "par04-siw does not lie in the volume 'wall'"),
        (servers[1] | {"translation": [0, 0, 10]}, "lhcb-ecal does not lie in the volume 'wall'"),
        (servers[1] | {"rotation": SIDEWAYS, "translation": [0, 0, -210]}, "lhcb-ecal does not lie in"),
        (servers[1] | {"rotation": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, "must be a rotation"),
        (servers[1] | {"front": ["tracker"]}, "no region in front of 'wall' is one of"),
    ]
    *alone, end = program(tmp_path, LEFT_ALONE[:5], models=[], wrong=[model for model, _ in wrong])
    for told, (_, why) in zip(end["refused"], wrong, strict=True):
        assert why in told
    assert [event["random"] for event in alone] == [event["random"] for event in events]


def test_what_comes_through_the_back_is_full_simulation(
    servers: list[dict[str, Any]], tmp_path: Path
) -> None:
    *_, end = program(tmp_path, LEFT_ALONE[5:], models=servers[1:])
    assert end["counts"] == [[0, {"place": 1}]]
