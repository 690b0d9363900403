import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import toy_models
from toy_models import MESH, LayerGaussian, toy_showers

from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions, Showers, open_showers
from caloforge.data.beam import Beam
from caloforge.data.packing import PackedEnergies
from caloforge.detector import CylinderMesh
from caloforge.errors import CheckpointError, ConditionError, DataError
from caloforge.generation import generate
from caloforge.runtime.locks import folder_lock
from caloforge.runtime.streams import uniforms

LIKE = toy_showers(200, seed=9)


def make(checkpoint, **options):
    return generate(checkpoint, progress=False, **({"like": LIKE} | options))


@pytest.fixture(scope="module")
def reference(checkpoint):
    return make(checkpoint, seed=3).energies


@pytest.fixture
def wide(checkpoint):
    """A checkpoint of a wide network, so that matrix products take other kernels for other batches."""
    model = LayerGaussian(MESH, {"width": 512})
    model.fit(LIKE)
    return Checkpoint.from_model(model, "toy_models:LayerGaussian", checkpoint.valid_range)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 100, 1000])
def test_the_batch_size_changes_no_bit(wide, batch_size, tmp_path):
    whole = make(wide).energies
    file = make(wide, batch_size=batch_size, out=tmp_path / "a.h5")
    assert np.array_equal(file.energies, whole)


@pytest.mark.parametrize(("first", "n"), [(0, 1), (63, 2), (64, 64), (37, 150), (199, 1)])
def test_pieces_of_a_production_are_the_same_as_the_whole(wide, first, n):
    whole = make(wide).energies
    piece = make(wide, like=None, conditions=LIKE.conditions[first : first + n], first=first)
    assert np.array_equal(piece.energies, whole[first : first + n])


@pytest.mark.parametrize(
    "how", [{"like": LIKE}, {"like": None, "energy": "2-50GeV,7GeV", "n": 200, "first": 9}]
)
def test_shards_are_the_whole(wide, how, tmp_path):
    whole = make(wide, **how)
    shards = [make(wide, **how, shard=f"{k}/3", out=tmp_path / f"{k}.h5") for k in (1, 2, 3)]
    joined = Showers.concatenate(shards)
    assert joined.conditions == whole.conditions
    assert np.array_equal(joined.energies, whole.energies)
    assert shards[1].provenance["settings"]["shard"] == "2/3"
    assert shards[1].provenance["request"]["first"] == how.get("first", 0) + 66
    with pytest.raises(ConditionError, match="would be empty"):
        make(wide, **how, shard="1/201")


def test_a_shard_may_be_of_more_showers_than_a_file_holds(checkpoint):
    last = make(checkpoint, like=None, energy="2-50GeV", n=10**12, shard="500000000/500000000")
    assert len(last) == 2000


def test_the_number_of_threads_changes_no_bit(wide):
    one = make(wide, threads=1).energies
    torch.set_num_threads(2)
    try:
        assert np.array_equal(make(wide).energies, one)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_the_seed_changes_every_shower(checkpoint, reference):
    assert np.array_equal(make(checkpoint, seed=3).energies, reference)
    other = make(checkpoint, seed=4).energies
    assert (other != reference).any(axis=(1, 2, 3)).all()


def test_without_fixed_blocks_only_rounding_differs(checkpoint, reference):
    made = make(checkpoint, seed=3, fixed_blocks=False, batch_size=10)
    np.testing.assert_allclose(made.energies, reference, rtol=1e-4)
    assert made.provenance["performance"]["batch_size"] == 10


def test_the_result_says_what_it_is(checkpoint, tmp_path):
    showers = make(checkpoint.path, out=tmp_path / "a.h5", seed=5, threads=1)
    assert showers.mesh == MESH
    assert np.array_equal(showers.conditions.energy, LIKE.conditions.energy)
    assert set(showers.conditions.detector) == {"toy"}
    about = showers.provenance
    assert about["checkpoint"]["fingerprint"] == checkpoint.fingerprint
    assert about["checkpoint"]["provenance"]["showers"] == {"action": "toy"}
    assert set(about["performance"]) >= {
        "showers_per_second",
        "ms_per_shower",
        "seconds",
        "batch_size",
        "threads",
        "device",
        "peak_memory_mib",
    }
    assert about["settings"]["seed"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_energies_given_as_numbers(checkpoint):
    one = generate(checkpoint, energy=1e4, n=5, progress=False)
    assert one.conditions.energy.tolist() == [1e4] * 5
    assert set(one.conditions.particle) == {11}
    assert set(one.conditions.detector) == {"toy"}
    assert one.conditions.theta[0] == pytest.approx(np.pi / 2)
    two = generate(checkpoint, energy=[2e3, 1e4], progress=False)
    assert len(two) == 2
    few = make(checkpoint, n=3)
    assert np.array_equal(few.conditions.energy, LIKE.conditions.energy[:3])


def test_numbers_of_numpy(checkpoint, tmp_path):
    plain = {"energy": 1e4, "theta": np.pi / 2, "n": 5, "seed": 3, "first": 2, "batch_size": 4, "threads": 1}
    numpy = {"energy": np.float32(1e4), "theta": np.float64(np.pi / 2)}
    numpy |= {name: np.int64(plain[name]) for name in ("n", "seed", "first", "batch_size", "threads")}
    expected = generate(checkpoint, progress=False, **plain)
    made = generate(checkpoint, out=tmp_path / "a.h5", progress=False, **numpy)
    assert np.array_equal(made.energies, expected.energies)
    generate(checkpoint, out=tmp_path / "a.h5", progress=False, resume=True, **plain)  # the same request
    with pytest.raises(ConditionError, match="n must be at least 1 and a whole number"):
        generate(checkpoint, progress=False, **(plain | {"n": np.float64(2.5)}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy": [2e3, 9e5]}, r"energy of shower 1 is 900000 MeV, outside the trained range .*1 of 2"),
        ({"energy": 1e4, "theta": 1.0}, r"theta of shower 0 is 1 rad"),
        ({"conditions": Conditions([1e4], particle="gamma")}, r"particle of shower 0 is 'gamma'.*'e-'"),
        ({"conditions": Conditions([1e4], detector="other")}, r"detector of shower 0 is 'other'.*'toy'"),
        ({}, "exactly one of"),
        ({"energy": 1e4, "like": LIKE}, "exactly one of"),
        ({"energy": [1e4, 2e4], "n": 3}, "2 energies but n = 3"),
        ({"like": LIKE, "n": 201}, "201 showers were asked for"),
        ({"like": LIKE, "theta": 1.0}, "theta and phi go with energy"),
        ({"energy": 1e4, "n": 0}, "n must be at least 1"),
        ({"energy": 1e4, "seed": 1.5}, "a seed must be a whole number"),
        ({"energy": 1e4, "seed": 2**64}, "a seed must be a whole number"),
        ({"energy": 1e4, "first": -1}, "first must be at least 0"),
    ],
)
def test_what_the_model_was_not_trained_for_is_refused(checkpoint, options, message):
    with pytest.raises(ConditionError, match=message):
        generate(checkpoint, progress=False, **options)


def test_simulation_and_generation_of_one_seed_draw_different_conditions(checkpoint, wide):
    beam = Beam("e-", ((2e3, 2e4),), "log-uniform", (1.2, 1.6), (0.0, 1.0), None, None)
    simulated = beam.conditions("toy", 7, np.arange(50))
    assert np.array_equal(
        simulated.energy, 2e3 * np.exp(uniforms(7, np.arange(50), "geant4.energy", 1)[:, 0] * np.log(10))
    )
    wide.valid_range = checkpoint.valid_range | {"theta": [1.0, 2.0], "phi": [0.0, 2.0]}
    drawn = make(wide, like=None, energy="2-20GeV", theta="1.2-1.6rad", phi="0-1rad", n=50, seed=7).conditions
    for name in ("energy", "theta", "phi"):
        assert not np.isclose(getattr(drawn, name), getattr(simulated, name), rtol=1e-6).any()
    other = drawn[[3, 4]]  # the same conditions, however they were found, make the same showers
    assert np.array_equal(
        make(wide, like=None, conditions=other, first=3, seed=7).energies,
        make(wide, like=None, energy="2-20GeV", theta="1.2-1.6rad", phi="0-1rad", n=50, seed=7).energies[3:5],
    )


def test_extrapolation_on_request(checkpoint):
    made = generate(checkpoint, energy=1e5, n=3, allow_extrapolation=True, progress=False)
    assert np.isfinite(made.energies).all()


def test_an_angle_must_be_given_where_there_are_several(checkpoint, wide):
    wide.valid_range = checkpoint.valid_range | {"theta": [1.0, 2.0]}
    with pytest.raises(ConditionError, match="give theta"):
        generate(wide, energy=1e4, progress=False)
    assert generate(wide, energy=1e4, theta=1.1, progress=False).conditions.theta[0] == 1.1


def test_showers_on_another_mesh_are_refused(checkpoint):
    mesh = CylinderMesh.regular(n_z=4, n_phi=6, n_r=3, dz=5)
    other = Showers(LIKE.energies, LIKE.conditions, mesh)
    with pytest.raises(CheckpointError, match="train on this mesh"):
        make(checkpoint, like=other)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_illegal_energies_are_caught(wide, value):
    wide.tensors["share"][1, 2, 0] = value
    with pytest.raises(CheckpointError, match=r"voxel 24 of shower 10 \(seed 0, 10000 MeV"):
        generate(wide, energy=1e4, n=3, first=10, progress=False)


def test_existing_files_are_kept(checkpoint, tmp_path):
    first = make(checkpoint, out=tmp_path / "a.h5")
    with pytest.raises(DataError, match="exists"):
        make(checkpoint, out=tmp_path / "a.h5")
    with pytest.raises(DataError, match="exists"):
        make(checkpoint, out=tmp_path / "a.h5", resume=True, seed=1)
    assert np.array_equal(make(checkpoint, out=tmp_path / "a.h5", resume=True).energies, first.energies)
    del first
    make(checkpoint, out=tmp_path / "a.h5", overwrite=True, seed=2)


class Stops(LayerGaussian):
    """Sends its own process a signal while the third block is made."""

    blocks = 0

    def decode(self, noise, conditions):
        type(self).blocks += 1
        if self.blocks == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return super().decode(noise, conditions)


@pytest.fixture
def stopped(checkpoint, tmp_path, monkeypatch):
    """A generation that was stopped after three of four blocks: its checkpoint and the file to be."""
    monkeypatch.setattr(toy_models, "Stops", Stops, raising=False)
    monkeypatch.setattr(Stops, "blocks", 0)
    stops = Checkpoint.load(checkpoint.path)
    stops.model_name = "toy_models:Stops"
    with pytest.raises(KeyboardInterrupt, match=r"192 of 200 showers.*resume=True"):
        make(stops, out=tmp_path / "a.h5", seed=3, batch_size=70)
    return stops, tmp_path / "a.h5"


def test_a_stopped_generation_goes_on_to_the_same_showers(stopped, reference):
    checkpoint, out = stopped
    assert not out.exists()
    assert len(list(out.with_name("a.h5.parts").glob("chunk-*"))) == 2
    made = make(checkpoint, out=out, seed=3, resume=True)
    assert Stops.blocks == 4
    assert np.array_equal(made.energies, reference)
    assert [path.name for path in out.parent.iterdir()] == ["a.h5"]


def test_parts_of_another_request_are_not_used(stopped, reference):
    checkpoint, out = stopped
    with pytest.raises(DataError, match="unfinished generation"):
        make(checkpoint, out=out, seed=3)
    with pytest.raises(DataError, match="its seed differs"):
        make(checkpoint, out=out, seed=4, resume=True)
    with pytest.raises(DataError, match="its conditions differs"):
        make(checkpoint, out=out, seed=3, resume=True, like=toy_showers(200, seed=8))
    assert np.array_equal(make(checkpoint, out=out, seed=3, overwrite=True).energies, reference)


@pytest.mark.parametrize("n_voxels", [72, 6480, 600_000])
@pytest.mark.parametrize("start", [0, 17])
def test_packed_energies_keep_every_bit(n_voxels, start, tmp_path):
    n = 90 if n_voxels < 10_000 else 3
    random = np.random.default_rng(0)
    energies = (random.exponential(size=(n, n_voxels)) * (random.random((n, n_voxels)) > 0.8)).astype("f4")
    packed = PackedEnergies.pack(energies, start)
    assert len(packed) == n
    again = PackedEnergies.from_columns(packed.columns())
    assert np.array_equal(again.unpack(), energies)


KILLED = """
import os, signal, sys
import torch, toy_models
torch.set_num_threads(1)
from caloforge.generation import generate
from caloforge.runtime.locks import folder_lock
from caloforge.runtime.streams import uniforms

class Killed(toy_models.LayerGaussian):
    blocks = 0
    def decode(self, noise, conditions):
        self.blocks += 1
        if self.blocks == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(noise, conditions)

Killed.__module__ = "toy_models"
toy_models.LayerGaussian = Killed
like = toy_models.toy_showers(200, seed=9)
generate(sys.argv[1], like=like, out=sys.argv[2], seed=3, batch_size=64, progress=False)
"""


def test_a_killed_generation_goes_on_to_the_same_showers(checkpoint, tmp_path, reference):
    out = tmp_path / "a.h5"
    command = [sys.executable, "-c", KILLED, str(checkpoint.path), str(out)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    request = json.loads((tmp_path / "a.h5.parts" / "request.json").read_text())["request"]
    assert request["checkpoint"] == checkpoint.fingerprint
    made = make(checkpoint, out=out, seed=3, resume=True)
    assert made.provenance["performance"]["n_showers"] == 72
    assert np.array_equal(made.energies, reference)
    assert np.array_equal(open_showers(out).energies, reference)


def test_a_kill_after_the_last_shower_does_no_harm(stopped, reference):
    checkpoint, out = stopped
    parts = out.with_name("a.h5.parts")
    kept = {path.name: path.read_bytes() for path in parts.iterdir()}
    make(checkpoint, out=out, seed=3, resume=True)
    parts.mkdir()
    for name, content in kept.items():
        (parts / name).write_bytes(content)
    made = make(checkpoint, out=out, seed=3, resume=True)
    assert np.array_equal(made.energies, reference)
    assert [path.name for path in out.parent.iterdir()] == ["a.h5"]


def test_two_generations_of_one_file_do_not_mix(checkpoint, reference, tmp_path):
    with folder_lock(tmp_path / "a.h5.parts"), pytest.raises(DataError, match="another process is writing"):
        make(checkpoint, out=tmp_path / "a.h5", overwrite=True)
    assert np.array_equal(make(checkpoint, out=tmp_path / "a.h5", seed=3).energies, reference)
