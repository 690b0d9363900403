"""Laws of Conditions and Showers: nothing is lost, reordered or silently changed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloforge.data import Conditions, Showers, coarsened, describe
from caloforge.detector import BoxMesh, CylinderMesh, calochallenge_mesh
from caloforge.errors import ConditionError, DataError, MeshError

MESH = CylinderMesh.regular(n_z=3, n_phi=2, n_r=2)


def make(n: int, first: int = 0, with_impact: bool = False) -> Showers:
    """Shower i has the energies 12 i, 12 i + 1, … and the incident energy i + 1."""
    numbers = np.arange(first, first + n)
    energies = (numbers[:, None] * 12 + np.arange(12)).astype(np.float32)
    conditions = Conditions(
        numbers + 1.0,
        theta=np.full(n, 1.2),
        particle=np.where(numbers % 2, 11, 22),
        detector=np.where(numbers % 3, "a", "bc"),
        impact=np.stack([numbers, -numbers], axis=1) if with_impact else None,
    )
    return Showers(energies, conditions, MESH, {"made": "here"}, {"number": numbers, "pair": np.ones((n, 2))})


def same(a: Showers, b: Showers) -> bool:
    extra = a.extra.keys() == b.extra.keys() and all(np.array_equal(a.extra[k], b.extra[k]) for k in a.extra)
    return extra and a.conditions == b.conditions and np.array_equal(a.energies, b.energies)


@given(st.integers(0, 40), st.lists(st.floats(0.05, 1), min_size=1, max_size=4), st.booleans())
def test_parts_of_a_split_join_to_the_whole(n: int, weights: list[float], shuffle: bool) -> None:
    showers = make(n, with_impact=True)
    fractions = [w / sum(weights) for w in weights]
    parts = showers.split(*fractions, seed=3 if shuffle else None)
    joined = Showers.concatenate(parts)
    order = np.argsort(joined.extra["number"])
    assert same(joined[order], showers)
    if not shuffle:
        assert order.tolist() == list(range(n))
    again = showers.split(*fractions, seed=3 if shuffle else None)
    assert all(same(a, b) for a, b in zip(parts, again, strict=True))


@given(st.integers(1, 30), st.data())
def test_a_subset_of_a_subset(n: int, data: st.DataObject) -> None:
    showers = make(n)
    first = data.draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=20))
    m = len(first)
    second = data.draw(st.lists(st.integers(-m, m - 1), max_size=20))
    chosen = np.arange(n)[first][second] if second else np.arange(0)
    part = showers[first][second]
    assert part.extra["number"].tolist() == chosen.tolist()
    assert np.array_equal(part.energies.reshape(len(chosen), 12)[:, 0], chosen * 12)
    assert part.conditions.energy.tolist() == (chosen + 1.0).tolist()
    assert "SubsetSource" not in type(part.source._parent).__name__  # not a chain that grows


@given(st.integers(0, 30), st.slices(30), st.integers(1, 7))
def test_slices_masks_and_batches(n: int, chosen: slice, size: int) -> None:
    showers = make(n)
    mask = np.zeros(n, dtype=bool)
    mask[chosen] = True
    assert np.array_equal(showers[chosen].energies, showers.energies[chosen])
    assert np.array_equal(showers[mask].energies, showers.energies[mask])
    batches = list(showers[chosen].batches(size))
    assert sum(len(conditions) for _, conditions in batches) == len(showers[chosen])
    if batches:
        assert np.array_equal(np.concatenate([e for e, _ in batches]), showers.energies[chosen])
    assert np.array_equal(showers.read(2, 5), showers.energies[2:5])
    assert showers.read(5, 2).shape == (0, *MESH.shape)


def test_filters() -> None:
    showers = make(12)
    assert showers.filter(energy=(3, 5)).extra["number"].tolist() == [2, 3]
    assert showers.filter(particle="e-").extra["number"].tolist() == [1, 3, 5, 7, 9, 11]
    assert showers.filter(detector="bc", particle=22).extra["number"].tolist() == [0, 6]
    assert len(showers.filter(theta=(0, 1.2))) == 0
    assert len(showers.filter(theta=(1.2, 2), phi=(0, 0.1))) == 12
    assert len(showers.filter(energy=(100, 200)).energies) == 0


def test_concatenation() -> None:
    joined = Showers.concatenate([make(3), make(0), make(4, first=3)])
    assert same(joined, make(7))
    assert same(Showers.concatenate([joined[4:], joined[:4]])[[3, 4, 5, 6, 0, 1, 2]], make(7))
    assert joined.provenance["parts"][0] == {"made": "here"}
    bare = Showers(make(2).energies, make(2).conditions, MESH)
    assert Showers.concatenate([make(2), bare]).extra == {}
    other = Showers(np.zeros((1, 12)), Conditions(1.0), BoxMesh.regular((3, 2, 2), (1, 1, 1)))
    with pytest.raises(MeshError, match="showers to concatenate: expected the cylinder"):
        Showers.concatenate([make(1), other])
    named = [
        Showers(s.energies, Conditions(1.0, detector=name), s.mesh)
        for s, name in ((make(1), "here"), (other, "there"))
    ]
    with pytest.raises(MeshError, match=r"concatenate of there, not of here: .* kind \(cylinder and box\)"):
        Showers.concatenate(named)
    with pytest.raises(ConditionError, match="impact"):
        Showers.concatenate([make(1), make(1, with_impact=True)])
    with pytest.raises(DataError, match="nothing to concatenate"):
        Showers.concatenate([])


def test_coarsening_is_lazy_and_keeps_the_energy() -> None:
    showers = make(5)
    coarse = coarsened(showers, (3, 1, 2))
    assert coarse.mesh.shape == (1, 2, 1)
    assert np.array_equal(coarse.energies.sum(axis=(1, 2, 3)), showers.energies.sum(axis=(1, 2, 3)))
    assert np.array_equal(coarse[[4, 0]].energies, coarse.energies[[4, 0]])
    ragged = calochallenge_mesh("1-photons")
    with pytest.raises(MeshError, match="three axes"):
        coarsened(Showers(np.zeros((1, 368)), Conditions(1.0), ragged), (1, 1, 1))


def test_description() -> None:
    facts = describe(make(1500))
    assert facts["looked_at"] == 1000
    assert describe(make(1500), everything=True)["looked_at"] == 1500
    assert facts["energy"] == [1, 1500]
    assert facts["particle"] == ["e-", "gamma"]
    few = describe(Showers([[0.0] * 12, [0, 6] + [2] * 10], Conditions([10.0, 13.0]), MESH))
    assert few["response"][0] == pytest.approx(1.0)
    assert few["sparsity"] == 13 / 24
    assert few["cell_energy"] == [2, 6]
    assert few["showers_without_energy"] == 1
    assert describe(make(0))["showers"] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e-6, 1e39])
def test_illegal_energies_are_named(value: float) -> None:
    energies = np.zeros((4, 12))
    energies[2, 7] = value
    with pytest.raises(DataError, match="energy of shower 2, voxel 7"):
        Showers(energies, Conditions(np.ones(4)), MESH)


def test_what_does_not_fit_is_said() -> None:
    ones = Conditions(np.ones(4))
    with pytest.raises(DataError, match=r"\(4, 11\) do not fit"):
        Showers(np.zeros((4, 11)), ones, MESH)
    with pytest.raises(DataError, match="real numbers"):
        Showers(np.full((4, 12), "x"), ones, MESH)
    with pytest.raises(DataError, match="3 showers but conditions for 4"):
        Showers(np.zeros((3, 12)), ones, MESH)
    for column in (np.ones(3), np.float64(1)):
        with pytest.raises(DataError, match="column 'c' has shape"):
            Showers(np.zeros((4, 12)), ones, MESH, extra={"c": column})
    showers = make(4)
    with pytest.raises(DataError, match=r"showers\[i : i \+ 1\]"):
        showers[2]  # type: ignore[index]
    for bad in ([4], [-5], [0, 7]):
        with pytest.raises(DataError, match=f"index {bad[-1]} is out of range"):
            showers[bad]
    with pytest.raises(DataError, match="whole numbers"):
        showers[[0.5]]  # type: ignore[list-item]
    with pytest.raises(DataError, match="mask"):
        showers[np.ones(3, dtype=bool)]
    with pytest.raises(DataError, match="at least 1"):
        next(showers.batches(0))
    with pytest.raises(ConditionError, match="fractions"):
        showers.split(0.9, 0.2)
    with pytest.raises(DataError, match="do not fit"):
        Showers(make(2).source, Conditions([1.0, 2.0]), CylinderMesh.regular(n_z=1, n_phi=2, n_r=3)).energies  # noqa: B018


def test_conditions() -> None:
    conditions = Conditions([1, 2], particle="e+", detector="x", impact=(1, 2))
    assert conditions.particle.tolist() == [-11, -11]
    assert conditions.impact is not None
    assert conditions.impact.tolist() == [[1, 2], [1, 2]]
    assert Conditions([1, 2], particle=["e-", "gamma"]).particle.tolist() == [11, 22]
    assert conditions[np.array([False, True])] == conditions[[1]] == conditions[1:]
    assert conditions != conditions[:1]
    assert Conditions.concatenate([conditions[:1], conditions[1:]]) == conditions
    assert pickle.loads(pickle.dumps(conditions)) == conditions
    assert conditions.ranges()["impact"] == [[1, 2], [1, 2]]
    assert len(Conditions([])) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"energy": [1, 0]}, "energy of shower 1 is 0.0 MeV; it must be positive"),
        ({"energy": [1, np.nan]}, "energy of shower 1 is nan"),
        ({"energy": [[1.0]]}, "one axis"),
        ({"energy": ["a"]}, "energy must be numbers"),
        ({"energy": [1, 2], "theta": [1, np.inf]}, "theta of shower 1"),
        ({"energy": [1, 2], "phi": [1, 2, 3]}, r"phi must have shape \(2,\)"),
        ({"energy": 1, "particle": "electron"}, "unknown particle 'electron'; known are e-"),
        ({"energy": 1, "particle": 2**40}, "particle must be numbers"),
        ({"energy": 1, "impact": [1, 2, 3]}, "impact"),
    ],
)
def test_bad_conditions(arguments: dict, words: str) -> None:
    with pytest.raises(ConditionError, match=words):
        Conditions(**arguments)


@pytest.mark.parametrize(("n", "most", "chosen"), [(10, 4, [0, 3, 6, 9]), (10, 10, range(10)), (0, 3, [])])
def test_every_kth_shower_and_no_more_than_so_many(n, most, chosen):
    energy = np.arange(n) + 1.0
    showers = Showers(np.ones((n, 8)), Conditions(energy), CylinderMesh.regular(n_z=2, n_phi=2, n_r=2))
    np.testing.assert_array_equal(showers.thinned(most).conditions.energy, energy[list(chosen)])
