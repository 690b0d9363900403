"""Refining given showers: the right ones, the right number of times, and the same whatever the batch."""

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from caloforge.cli.generate import upsample
from caloforge.data import Conditions, Showers, coarsened, open_showers, write_showers
from caloforge.detector import CylinderMesh
from caloforge.errors import CheckpointError, ConditionError, DataError
from caloforge.generation import generate
from caloforge.training import train

MESH = CylinderMesh.regular(n_z=4, n_phi=4, n_r=2)
FACTORS = (2, 2, 1)
FLOW = {"blocks": 1, "hidden": 8, "bins": 4}
ENERGIES = {"kind": "inductive", "hidden": 8, "depth": 1, "bins": 4}
RECIPE = {
    "model": "upsampling:CoarseToFine",
    "settings": {
        "grouping": FACTORS,
        "energies": ENERGIES,
        "coarse": {"model": "flow.supercalo:SuperCaloCoarse", "settings": FLOW | {"energies": ENERGIES}},
        "fine": {
            "model": "flow.supercalo_fine:SuperCaloFine",
            "settings": FLOW | {"layers": ENERGIES, "chunk": 64},
        },
        "leave_out": ["coarse.layers"],
    },
    "training": {"steps": 3, "batch_size": 16, "validation_fraction": 0.2},
}


def fine_showers(n=60, seed=0):
    rng = np.random.default_rng(seed)
    energy = np.exp(rng.uniform(np.log(1000), np.log(10000), n))
    shares = rng.gamma(0.5, size=(n, MESH.n_voxels))
    energies = energy[:, None] * 0.9 * shares / shares.sum(axis=1, keepdims=True)
    energies[energies < 15] = 0
    return Showers(energies.reshape(n, *MESH.shape), Conditions(energy, particle="e-", detector="toy"), MESH)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return train(RECIPE, fine_showers(), out=tmp_path_factory.mktemp("chain") / "model", progress=False)


@pytest.fixture(scope="module")
def coarse():
    return coarsened(fine_showers(), FACTORS)[:7].load()


def test_each_coarse_shower_is_refined_so_many_times(chain, coarse):
    fine = generate(chain, given=coarse, copies=3, seed=1)
    assert fine.mesh == MESH
    assert len(fine) == 21
    np.testing.assert_array_equal(fine.conditions.energy, np.tile(coarse.conditions.energy, 3))
    sums = MESH.coarsen(fine.energies, FACTORS)
    np.testing.assert_allclose(sums, np.tile(coarse.energies, (3, 1, 1, 1)), rtol=1e-5, atol=1e-2)
    assert not np.allclose(fine.energies[:7], fine.energies[7:14])


def test_refined_showers_do_not_depend_on_the_batch(chain, coarse, tmp_path):
    whole = generate(chain, given=coarse, copies=3, seed=1).energies
    in_file = generate(chain, given=coarse, copies=3, seed=1, batch_size=2, out=tmp_path / "a.h5")
    np.testing.assert_array_equal(in_file.energies, whole)
    np.testing.assert_array_equal(generate(chain, given=coarse, copies=3, n=10, seed=1).energies, whole[:10])
    rest = generate(chain, given=coarse[3:], seed=1, first=3)
    np.testing.assert_array_equal(rest.energies, whole[3:7])


def test_other_given_showers_are_another_request(chain, tmp_path):
    out, coarse = tmp_path / "a.h5", coarsened(fine_showers(), FACTORS)[:25].load()
    made = generate(chain, given=coarse, out=out)
    again = generate(chain, given=coarse, out=out, resume=True)
    np.testing.assert_array_equal(again.energies, made.energies)
    energies = coarse.energies.copy()
    energies[10:-10] *= 5
    other = Showers(energies, coarse.conditions, coarse.mesh)
    with pytest.raises(DataError, match="exists"):
        generate(chain, given=other, out=out, resume=True)


def test_a_chain_also_makes_whole_showers(chain):
    fine = generate(chain, energy=2000.0, n=5)
    assert fine.energies.shape == (5, *MESH.shape)
    assert (fine.energies.sum(axis=(1, 2, 3)) > 0).all()


def test_what_does_not_fit_is_refused(chain, coarse, checkpoint):
    fine = fine_showers()
    both = "cylinder mesh 4 × 4 × 2 .*refines showers on a cylinder mesh 2 × 2 × 2 "
    with pytest.raises(CheckpointError, match=both):
        generate(chain, given=fine)
    like_it = Showers(
        np.ones((3, *checkpoint.mesh.shape)), checkpoint_conditions(checkpoint), checkpoint.mesh
    )
    with pytest.raises(CheckpointError, match="does not refine showers"):
        generate(checkpoint, given=like_it)
    with pytest.raises(ConditionError, match="own conditions"):
        generate(chain, given=coarse, conditions=coarse.conditions)
    with pytest.raises(ConditionError, match="exactly one"):
        generate(chain, given=coarse, energy=1000.0)
    with pytest.raises(ConditionError, match="copies"):
        generate(chain, energy=1000.0, copies=2)
    with pytest.raises(ConditionError, match="no showers to refine"):
        generate(chain, given=coarse[:0])


def checkpoint_conditions(checkpoint):
    low, high = checkpoint.valid_range["energy"]
    theta, phi = checkpoint.valid_range["theta"][0], checkpoint.valid_range["phi"][0]
    return Conditions(np.linspace(low, high, 3), theta, phi)


def test_the_command(chain, coarse, tmp_path):
    write_showers(coarse, tmp_path / "coarse.h5")
    app = typer.Typer()
    app.command()(upsample)
    target = tmp_path / "fine.h5"
    arguments = [str(chain.path), str(tmp_path / "coarse.h5"), "-o", str(target), "--copies", "2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "14 showers on a cylinder mesh 4 × 4 × 2" in result.output
    expected = generate(chain, given=coarse, copies=2)
    np.testing.assert_array_equal(open_showers(target).energies, expected.energies)
