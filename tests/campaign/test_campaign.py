"""Campaigns: shards that nobody coordinates are the whole, and what is not theirs is named and refused."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_models import toy_showers

from caloforge.campaign import Campaign, merge_campaign, plan_campaign, run_campaign, verify_campaign
from caloforge.campaign.campaign import Seal
from caloforge.campaign.make import make_shard
from caloforge.campaign.verify import shard_states
from caloforge.data import Conditions, Showers, open_showers, write_showers
from caloforge.errors import CaloforgeError, ConditionError, DataError, RecipeError
from caloforge.geant4 import simulate
from caloforge.generation import generate
from caloforge.runtime.files import write_json
from caloforge.runtime.locks import file_lock
from caloforge.runtime.shards import Shard

Asked = Callable[..., Campaign]
LIKE = toy_showers(100, seed=9)


def run(campaign: Campaign, **options: Any) -> Any:
    return run_campaign(campaign, **({"workers": 1, "progress": False} | options))


def joined(campaign: Campaign) -> Showers:
    return Showers.concatenate([open_showers(campaign.file(shard)) for shard in campaign])


def same(one: Showers, other: Showers) -> None:
    assert one.conditions == other.conditions
    np.testing.assert_array_equal(one.energies, other.energies)


def kinds(campaign: Campaign) -> list[tuple[str, bool]]:
    return [(problem.kind, "missing" in problem.why) for problem in verify_campaign(campaign)]


def test_a_campaign_is_one_production(done: Campaign, model: Path) -> None:
    assert shard_states(done) == {"finished": 4, "whole": 0, "begun": 0, "missing": 0}
    assert verify_campaign(done) == []
    whole = generate(model, energy="2-40GeV", n=100, seed=7, progress=False)
    same(joined(done), whole)
    times = {path: path.stat().st_mtime_ns for path in done.folder.iterdir()}
    assert run(Campaign.load(done.path)).made == 0
    assert {path: path.stat().st_mtime_ns for path in done.folder.iterdir()} == times
    names = {f"{number}.{end}" for number in range(1, 5) for end in ("h5", "sum")}
    assert {path.name for path in times} == names | {"campaign.json"}


def test_shares_and_shards_of_other_commands_fit_together(asked: Asked, model: Path) -> None:
    campaign = asked()
    assert run(campaign, share="2/2").made == 2
    assert shard_states(campaign)["missing"] == 2
    out = campaign.file(Shard(1, 4))
    generate(model, energy="2-40GeV", n=100, seed=7, shard="1/4", out=out, progress=False)
    assert shard_states(campaign) == {"finished": 2, "whole": 1, "begun": 0, "missing": 1}
    assert [kind for kind, _ in kinds(campaign)] == ["unfinished", "missing"]
    assert run(campaign).made == 2
    assert verify_campaign(campaign) == []
    with pytest.raises(ConditionError, match="would be empty"):
        run(campaign, share="1/5")


def test_conditions_of_files(asked: Asked, model: Path, tmp_path: Path) -> None:
    write_showers(LIKE[:60], tmp_path / "a.h5")
    write_showers(LIKE[60:], tmp_path / "b.h5")
    campaign = asked(n=None, work={"energy": None, "conditions": ["a.h5", "b.h5"]})
    run(campaign)
    same(joined(campaign), generate(model, like=LIKE, seed=7, progress=False))
    assert verify_campaign(campaign) == []
    write_showers(LIKE[50:90], tmp_path / "b.h5", overwrite=True)
    with pytest.raises(RecipeError, match="n: 101 showers are wanted"):
        asked(n=101, work={"energy": None, "conditions": ["a.h5", "b.h5"]})


def test_conditions_of_files_are_simulated(asked: Asked, tmp_path: Path) -> None:
    if importlib.util.find_spec("geant4_pybind") is None:
        pytest.skip("Geant4 is not installed")
    energy = np.linspace(50, 80, 5)
    shot = Conditions(energy, theta=np.linspace(1.4, 1.6, 5), phi=0.1, particle="gamma")
    write_showers(Showers(np.zeros((5, LIKE.mesh.n_voxels)), shot, LIKE.mesh), tmp_path / "a.h5")
    work: dict[str, Any] = {"model": None, "energy": None, "detector": "par04-siw", "reduced_data": True}
    told = {"table": "simulate", "n": None, "shard_size": 3, "work": work | {"conditions": ["a.h5"]}}
    campaign = asked(**told)
    run(campaign)
    whole = simulate("par04-siw", events=shot, seed=7, reduced_data=True, out=tmp_path / "b.h5", workers=1)
    same(joined(campaign), whole)
    assert verify_campaign(campaign) == []
    write_showers(open_showers(tmp_path / "a.h5")[::-1], tmp_path / "a.h5", overwrite=True)
    with pytest.raises(RecipeError, match="conditions say what is shot; leave out energy"):
        asked(**(told | {"work": work | {"conditions": ["a.h5"], "energy": "1GeV"}}))


def test_a_run_looks_at_its_share_alone(done: Campaign, asked: Asked) -> None:
    done.file(Shard(1, 4)).unlink()
    done.seal(Shard(4, 4)).write_text("{")  # a thousand jobs do not read each other's seals
    assert run(Campaign.load(done.path), share="1/2").made == 1
    with pytest.raises(DataError, match="not valid JSON"):
        run(Campaign.load(done.path))


def test_a_plan_says_what_it_takes_and_begins_nothing(asked: Asked) -> None:
    campaign = asked()
    plan = plan_campaign(campaign)
    assert not campaign.folder.exists()
    assert (plan.showers, plan.shards, plan.missing) == (100, 4, 4)
    run(campaign)
    files = [path.stat().st_size for path in campaign.folder.glob("*.h5")]
    assert sum(files) <= plan.disk < 3 * sum(files)
    assert plan.core_hours > 0
    assert plan_campaign(campaign).missing == 0


def test_verify_names_what_is_wrong(done: Campaign, asked: Asked, tmp_path: Path) -> None:
    one, two, three, four = (done.file(shard) for shard in done)
    kept = tmp_path / "kept"
    shutil.copytree(done.folder, kept)

    def restored() -> None:
        shutil.rmtree(done.folder)
        shutil.copytree(kept, done.folder)

    two.unlink()
    assert kinds(done) == [("missing", False)]
    done.seal(Shard(1, 4)).unlink()
    assert [kind for kind, _ in kinds(done)] == ["unfinished", "missing"]
    assert run(done).made == 2
    assert verify_campaign(done) == []
    for place in (-5, three.stat().st_size // 2):  # in the middle are showers
        restored()
        content = bytearray(three.read_bytes())
        content[place] ^= 1
        three.write_bytes(content)
        assert [kind for kind, _ in kinds(done)] == ["damaged"]
    restored()
    shutil.copy(one, two)
    shutil.copy(done.seal(Shard(1, 4)), done.seal(Shard(2, 4)))
    assert kinds(done) == [("doubled", True)]
    restored()
    other = asked("other.toml", out="other/{shard}.h5", work={"energy": "3-40GeV"})
    run(other)
    shutil.copy(other.file(Shard(4, 4)), four)
    shutil.copy(other.file(Shard(4, 4)), done.folder / "5.h5")
    found = verify_campaign(done)
    assert [problem.kind for problem in found] == ["foreign", "foreign"]
    assert "its showers have other conditions" in found[0].why
    assert "5.h5" in found[1].what
    with pytest.raises(DataError, match=r"5\.h5 is called as the shards"):
        run(done)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 8}, r"its seed differs \(it was 7, now it is 8\)"),
        ({"n": 90}, "its n differs"),
        ({"shard_size": 25}, "its shard_size differs"),
        ({"out": "made/b-{shard}.h5"}, "its names differs"),
        ({"work": {"energy": "3-40GeV"}}, "its generate.energy differs"),
        ({"work": {"precision": "bfloat16"}}, "its generate.precision differs"),
    ],
)
def test_another_campaign_in_the_folder_is_refused(
    done: Campaign, asked: Asked, changes: dict[str, Any], says: str
) -> None:
    before = {path: path.read_bytes() for path in done.folder.iterdir()}
    other = asked("other.toml", **changes)
    for command in (run, plan_campaign, verify_campaign, shard_states):
        with pytest.raises(DataError, match=says):
            command(other)
    assert {path: path.read_bytes() for path in done.folder.iterdir()} == before


def test_what_is_finished_is_finished_whoever_asks(done: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    again = Campaign.load(done.path)
    assert run(again).made == 0
    assert verify_campaign(again) == []
    done.file(Shard(1, 4)).unlink()
    with pytest.raises(DataError, match="its host differs"):
        run(Campaign.load(done.path))


def test_what_is_no_longer_asked_for_is_a_change(asked: Asked) -> None:
    run(asked(work={"theta": "1.5707963267948966rad"}), share="1/4")
    with pytest.raises(DataError, match="theta differs"):
        run(asked())


def test_options_that_came_later_are_as_usual(done: Campaign, asked: Asked) -> None:
    path = done.folder / "campaign.json"
    told = json.loads(path.read_text())
    del told["asked"]["generate.theta"], told["asked"]["generate.allow_extrapolation"]
    path.write_text(json.dumps(told))
    assert shard_states(Campaign.load(done.path))["missing"] == 0
    with pytest.raises(DataError, match="allow_extrapolation differs"):
        shard_states(asked(work={"allow_extrapolation": True}))


def test_another_model_or_host_in_mid_campaign_is_refused(
    asked: Asked, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model, tmp_path / "mine")
    run(asked(work={"model": "mine"}), share="1/2")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    with pytest.raises(DataError, match=r"would make other showers.*its host differs"):
        run(asked(work={"model": "mine"}))
    with pytest.raises(DataError, match=r"wants hosts of the class 'x86_64 Mine'"):
        run(asked("b.toml", out="b/{shard}.h5", host="x86_64 Mine"))
    monkeypatch.undo()
    assert not (tmp_path / "b").exists()


def test_a_shard_of_another_host_or_code_is_foreign(
    asked: Asked, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = asked()
    run(campaign, share="1/2")
    how: dict[str, Any] = {"energy": "2-40GeV", "n": 100, "seed": 7, "progress": False}
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    generate(model, out=campaign.file(Shard(3, 4)), shard="3/4", **how)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    monkeypatch.setattr("caloforge.generation.request.code_version", lambda: "99")
    generate(model, out=campaign.file(Shard(4, 4)), shard="4/4", **how)
    monkeypatch.undo()
    for shard, what in ((Shard(3, 4), "host"), (Shard(4, 4), "code")):
        path = campaign.file(shard)
        with pytest.raises(DataError, match=f"{path} is no shard of this campaign: its {what} differs"):
            make_shard(campaign, shard)
        write_json(campaign.seal(shard), asdict(Seal.of(path, shard, campaign.record)))
    found = verify_campaign(campaign)
    assert [problem.kind for problem in found] == ["foreign", "foreign"]
    assert "showers 50 to 74 are missing" in found[0].why


def test_no_space_and_strangers_are_refused_before_any_work(asked: Asked) -> None:
    large = asked(n=10**12, shard_size=10**8)
    for command in (run, plan_campaign):
        with pytest.raises(DataError, match="there is no space for the plan"):
            command(large)
    assert not large.folder.exists()
    small = asked()
    small.folder.mkdir()
    (small.folder / "17.h5").write_text("mine")
    for command in (run, plan_campaign):
        with pytest.raises(DataError, match=r"17\.h5 is called as the shards"):
            command(asked())
    assert [path.name for path in small.folder.iterdir()] == ["17.h5"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shard_size": 0}, "shard_size: Input should be greater than or equal to 1"),
        ({"n": None}, "n: say how many"),
        ({"out": "made/a.h5"}, "out: must be like"),
        ({"out": "{shard}/a.h5"}, "out: must be like"),
        ({"seed": -1}, "seed: Input should be"),
        ({"sed": 1}, "unknown key 'sed'"),
        ({"table": "simulate"}, "unknown key 'simulate.model'"),
        ({"work": {"energy": None}}, "give either energy"),
        ({"work": {"model": None}}, "say which model"),
        (
            {"work": {"detector": "belle2-pxd"}},
            r"belle2-pxd is a pixel detector.*\[generate_events\] and \[simulate_events\]",
        ),
    ],
)
def test_a_malformed_file_is_refused(asked: Asked, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        asked(**changes)


def test_what_the_model_does_not_know_is_refused(asked: Asked) -> None:
    campaign = asked(work={"energy": "1TeV"})
    with pytest.raises(CaloforgeError, match="outside the trained range"):
        run(campaign)
    assert not campaign.folder.exists()


def test_a_particle_that_the_detectors_own_model_does_not_know_is_made_by_that_of_all(asked: Asked) -> None:
    campaign = asked(
        n=4, work={"model": None, "detector": "par04-siw", "particle": "gamma", "energy": "5GeV"}
    )
    run(campaign)
    made = joined(campaign)
    assert set(made.conditions.particle) == {22}
    assert made.provenance["checkpoint"]["model"] == "tree.joint:JointShowerTree"


def test_merged_in_one_file_or_a_virtual_one(done: Campaign, tmp_path: Path) -> None:
    whole = joined(done)
    for virtual in (False, True):
        out = tmp_path / f"{virtual}.h5"
        same(merge_campaign(done, out, virtual=virtual), whole)
        stamp = out.stat().st_mtime_ns
        same(merge_campaign(done, out, virtual=virtual), whole)  # once is enough
        assert out.stat().st_mtime_ns == stamp
    assert (tmp_path / "True.h5").stat().st_size < (tmp_path / "False.h5").stat().st_size
    with pytest.raises(DataError, match="allow_external"):
        open_showers(tmp_path / "True.h5")
    shuffled = Showers.concatenate([whole[25:50], whole[:25], whole[50:]])
    write_showers(shuffled, tmp_path / "shuffled.h5")
    with pytest.raises(DataError, match=r"0 to 24 are not those of shard 1/4: the order is wrong"):
        merge_campaign(done, tmp_path / "shuffled.h5")
    same(merge_campaign(done, tmp_path / "shuffled.h5", overwrite=True), whole)
    done.file(Shard(3, 4)).unlink()
    with pytest.raises(DataError, match=r"not complete.*\nmissing: shard 3/4, showers 50 to 74"):
        merge_campaign(done, tmp_path / "new.h5")
    assert not (tmp_path / "new.h5").exists()


def test_what_others_make_is_left_to_them(asked: Asked) -> None:
    campaign = asked()
    with file_lock(campaign.seal(Shard(2, 4))):
        tally = run(campaign)
    assert (tally.made, tally.busy) == (3, 1)
    assert run(campaign).made == 1


def command(campaign: Campaign, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "caloforge", "campaign", "run", str(campaign.path), *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid: int) -> list[int]:
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_workers_are_replaced_and_a_signal_keeps_what_is_made(asked: Asked, tmp_path: Path) -> None:
    campaign = asked(n=60_000, shard_size=1000)
    with command(campaign, "--workers", "2") as process:
        wait_for(lambda: len(list(campaign.folder.glob("*.sum"))) >= 2)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        there = len(list(campaign.folder.glob("*.sum")))
        wait_for(lambda: len(list(campaign.folder.glob("*.sum"))) > there + 4)
        process.send_signal(signal.SIGUSR1)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGUSR1, told
    assert "caloforge campaign run goes on from there" in told
    assert "Traceback" not in told
    sealed = shard_states(campaign)["finished"]
    assert 2 < sealed < 60
    problems = verify_campaign(campaign)
    assert len(problems) == 60 - sealed
    assert {problem.kind for problem in problems} <= {"missing", "unfinished"}
    run(campaign)
    assert verify_campaign(campaign) == []
    assert not list(campaign.folder.glob("*.parts"))
