"""Which particles a model takes over, and what it is told of them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from caloforge.detector import BoxMesh, Detector
from caloforge.errors import SimulationError
from caloforge.geant4.acceptance import MARGIN_RAD, Acceptance, Incident

CYLINDER = Detector.load("par04-siw")
RANGE = {"energy": [1e3, 5e4], "theta": [math.pi / 2] * 2, "phi": [0.0, 0.0], "particle": ["e-"]}
BARREL = Acceptance.of(CYLINDER, CYLINDER.mesh, RANGE)
LHCB = Detector.load("lhcb-ecal")
WIDE = {"theta": [0.0, 0.35], "phi": [0.0, 6.28], "particle": ["e-", "gamma"], "energy": [1e3, 1e5]}
BOX = Acceptance.of(LHCB, LHCB.mesh, WIDE | {"impact": [[-5.0, -4.0], [5.0, 4.0]]})


def at(acceptance: Acceptance, **changed: Any) -> Incident | str:
    """An electron of 10 GeV at the middle of the face, and as it should come but for the changes."""
    usual: dict[str, Any] = {"track": 1, "particle": 11, "energy": 1e4}
    usual |= {"position": (0.0, 0.0, 0.0), "direction": (0.0, 0.0, 1.0)}
    if acceptance.cylinder:
        usual |= {"position": (800.0, 0.0, 0.0), "direction": (1.0, 0.0, 0.0)}
    return acceptance.take(**(usual | changed))


def along(theta: float, phi: float) -> tuple[float, float, float]:
    return math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"particle": -11}, "particle"),
        ({"particle": 22}, "particle"),
        ({"energy": 989.0}, "energy"),
        ({"energy": 50_501.0}, "energy"),
        ({"energy": math.nan}, "energy"),
        ({"direction": along(math.pi / 2 + 1.1 * MARGIN_RAD, 0.0)}, "angle"),
        ({"direction": along(math.pi / 2, 1.1 * MARGIN_RAD)}, "angle"),
        ({"position": (800.0, 0.0, 970.0)}, "place"),
    ],
)
def test_what_is_left_to_geant4_in_a_cylinder(changed: dict[str, Any], why: str) -> None:
    assert at(BARREL, **changed) == why


def test_a_cylinder_is_the_same_all_around() -> None:
    phi = 2.5
    told = at(BARREL, position=(800 * math.cos(phi), 800 * math.sin(phi), 3.0), direction=along(1.58, phi))
    assert isinstance(told, Incident)
    assert (told.theta, told.phi, told.shift) == (math.pi / 2, 0.0, (0.0, 0.0))


def test_cells_of_a_box_follow_the_impact_point() -> None:
    told = at(BOX, particle=22, position=(43.0, -22.0, 0.0), direction=along(0.2, -1.0))
    assert isinstance(told, Incident)
    assert told.shift == (40.0, -20.0)
    assert told.impact == pytest.approx((3.0, -2.0))
    assert (told.theta, told.phi) == pytest.approx((0.2, 2 * math.pi - 1.0))
    assert at(BOX, position=(46.0, -22.0, 0.0)) == "place"  # between the points that it knows
    assert at(BOX, position=(280.0, 0.0, 0.0)) == "place"  # not contained
    assert at(BOX, direction=along(0.4, 1.0)) == "angle"


def test_phi_matters_only_off_the_normal() -> None:
    narrow = Acceptance.of(LHCB, LHCB.mesh, WIDE | {"phi": [1.0, 1.0], "impact": [[-5.0, -4.0], [5.0, 4.0]]})
    told = at(narrow, direction=along(0.01, -2.0))
    assert isinstance(told, Incident)
    assert told.phi == 1.0
    assert at(narrow, direction=along(0.1, -2.0)) == "angle"


def test_a_lower_limit_of_ones_own() -> None:
    assert BARREL.above == pytest.approx(990.0)
    assert Acceptance.of(CYLINDER, CYLINDER.mesh, RANGE, 5e3).above == 5e3


def test_a_model_that_cannot_be_told_where() -> None:
    with pytest.raises(SimulationError, match="knows no impact points"):
        Acceptance.of(LHCB, LHCB.mesh, WIDE)


def test_cells_that_do_not_repeat_stay_where_they_are() -> None:
    uneven = BoxMesh((0.0, 400.0), (-30.0, 0.0, 30.0), (-30.0, -10.0, 30.0), "detector")
    fixed = Acceptance.of(LHCB, uneven, WIDE | {"impact": [[-5.0, -5.0], [5.0, 5.0]]})
    assert isinstance(at(fixed), Incident)
    assert at(fixed, position=(60.0, 0.0, 0.0)) == "place"


@pytest.mark.parametrize("acceptance", [BARREL, BOX])
def test_it_goes_to_another_process(acceptance: Acceptance) -> None:
    assert Acceptance.from_dict(json.loads(json.dumps(acceptance.to_dict()))) == acceptance
