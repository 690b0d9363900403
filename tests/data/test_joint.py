import numpy as np
import pytest

from caloforge.data import Conditions, Showers, merged_ranges, open_showers, write_showers
from caloforge.detector import CylinderMesh
from caloforge.errors import DataError

CELL_MM = {"a": 3.0, "b": 5.0, "c": 7.0}


def mesh_of(name, **changes):
    return CylinderMesh.regular(**({"n_z": 3, "n_phi": 4, "n_r": 2, "dz": CELL_MM[name]} | changes))


def showers_in(name, n=10, mesh=None, **conditions):
    random = np.random.default_rng(ord(name or "?"))
    mesh = mesh or mesh_of(name)
    energies = random.random((n, *mesh.shape), dtype=np.float32)
    made = Conditions(random.uniform(1e3, 2e3, n), detector=name, **conditions)
    return Showers(energies, made, mesh, {"made": name}, {"seconds": np.arange(n)})


PARTS = [showers_in("b", 7), showers_in("a", 10), showers_in("c", 5)]


@pytest.fixture
def joint():
    return Showers.join(PARTS)


def test_joint_showers_keep_all_that_their_parts_have(joint):
    assert len(joint) == 22
    assert joint.meshes == {name: mesh_of(name) for name in "bac"}
    assert list(joint.meshes) == ["b", "a", "c"]
    assert joint.mesh_shape == (3, 4, 2)
    assert np.array_equal(joint.energies, np.concatenate([part.energies for part in PARTS]))
    assert joint.extra["seconds"].tolist() == [*range(7), *range(10), *range(5)]
    assert "3 × 4 × 2 cells of other sizes" in repr(joint)
    for part, name in zip(PARTS, "bac", strict=True):
        own = joint.filter(detector=name)
        assert own.mesh == part.mesh
        assert own.meshes == {name: part.mesh}
        assert np.array_equal(own.energies, part.energies)


def test_slices_splits_and_copies_know_the_cells_of_each_detector(joint):
    assert joint[5:9].meshes == {name: mesh_of(name) for name in "ba"}
    assert joint[:3].mesh == mesh_of("b")
    for some in (joint.load(), joint.exact(), joint[joint.conditions.energy > 0], *joint.split(0.5, seed=1)):
        for name, mesh in some.meshes.items():
            assert mesh == mesh_of(name)
        assert set(some.meshes) == set(some.conditions.detector.tolist())
    again = Showers.join([joint[:10], joint[10:]])
    assert again.meshes == joint.meshes
    assert np.array_equal(again.energies, joint.energies)


def test_there_is_no_single_mesh_and_hence_no_single_file(joint, tmp_path):
    with pytest.raises(DataError, match=r"b, a, c have cells of other sizes.*filter\(detector"):
        _ = joint.mesh
    with pytest.raises(DataError, match="each detector in a file of its own"):
        write_showers(joint, tmp_path / "joint.h5")
    assert not list(tmp_path.iterdir())
    for name in joint.meshes:
        write_showers(joint.filter(detector=name), tmp_path / f"{name}.h5")
    back = Showers.join([open_showers(tmp_path / f"{name}.h5") for name in joint.meshes])
    assert back.meshes == joint.meshes
    assert np.array_equal(back.energies, joint.energies)


def test_showers_on_one_mesh_are_simply_concatenated():
    parts = [showers_in("a"), showers_in("", mesh=mesh_of("a"))]
    joined = Showers.join(parts)
    assert joined.mesh == mesh_of("a")
    assert joined.meshes == {"": mesh_of("a"), "a": mesh_of("a")}
    assert joined.provenance == Showers.concatenate(parts).provenance
    alone = Showers.join(parts[:1])
    assert (alone.mesh, alone.provenance) == (mesh_of("a"), {"made": "a"})


def test_showers_that_cannot_be_joined_are_refused():
    with pytest.raises(DataError, match="nothing to concatenate"):
        Showers.join([])
    with pytest.raises(DataError, match=r"showers in c are on a cylinder mesh 4 × 4 × 2.*as many cells"):
        Showers.join([PARTS[0], showers_in("c", mesh=mesh_of("c", n_z=4))])
    with pytest.raises(DataError, match=r"in the detector's frame.*as many cells"):
        Showers.join([PARTS[0], showers_in("c", mesh=mesh_of("c", frame="detector"))])
    with pytest.raises(DataError, match="two meshes of the detector 'a'"):
        Showers.join([PARTS[1], showers_in("a", mesh=mesh_of("b"))])
    with pytest.raises(DataError, match="do not name their detector"):
        Showers.join([showers_in("", mesh=mesh_of("a")), showers_in("", mesh=mesh_of("b"))])
    with pytest.raises(DataError, match="showers in 'b', but meshes of a only"):
        Showers(PARTS[0].energies, PARTS[0].conditions, {"a": mesh_of("a")})
    with pytest.raises(DataError, match="there is no mesh"):
        Showers(PARTS[0].energies, PARTS[0].conditions, {})


def test_merged_ranges_hold_all_ranges():
    parts = [*PARTS, showers_in("a", theta=0.5, particle="e-")]
    merged = merged_ranges([part.conditions.ranges() for part in parts])
    whole = Conditions.concatenate([part.conditions for part in parts]).ranges()
    for name in ("particle", "detector"):
        assert sorted(merged.pop(name)) == sorted(whole.pop(name))
    assert merged == whole
    points = [showers_in("a", impact=point).conditions for point in ([0.0, 5.0], [-1.0, 9.0])]
    assert merged_ranges([p.ranges() for p in points])["impact"] == [[-1.0, 5.0], [0.0, 9.0]]
