"""Campaigns and a training on a real Slurm of one machine, if it is installed, and on a real Dask cluster."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from toy_models import toy_showers

from caloforge.campaign import Campaign, run_campaign, submit_campaign, verify_campaign
from caloforge.campaign.submit import Jobs, script
from caloforge.checkpoint import Checkpoint
from caloforge.data import write_showers
from caloforge.errors import ConditionError, DataError
from caloforge.runtime.shards import Shard

Asked = Callable[..., Campaign]
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol")
MISSING = [name for name in DAEMONS if shutil.which(name) is None]
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=bf_interval=5,sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


TRAINING_GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "training.md"
RECIPE = """\
model = "flow.inductive:InductiveLayerFlow"
settings = { hidden = 16, scale = 4.0 }
training = { epochs = 100, batch_size = 30, learning_rate = 1e-3, ema = 0.9 }
"""


def wait_for(what: Callable[[], Any], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Slurm of this machine alone, in a folder of its own."""
    if MISSING or os.geteuid():
        pytest.skip(f"not installed, or not root: {', '.join(MISSING)} (Debian: apt install slurm-wlm munge)")
    folder, processes = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp")), []
    host = platform.node().partition(".")[0]
    told = {"host": host, "user": "root", "folder": folder, "cpus": os.cpu_count()}
    (folder / "slurm.conf").write_text(CONFIG.format(**told))
    version = 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1
    (folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/v{version}\n")
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    (folder / "state").mkdir()
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    munge = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid"}
    munge |= {"log-file": "munge.log", "seed-file": "munge.seed"}
    options = [f"--{name}={folder / file}" for name, file in munge.items()]
    try:
        for words in (["munged", "--foreground", "--force", *options], ["slurmctld", "-D"], ["slurmd", "-D"]):
            with (folder / f"{words[0]}.out").open("w") as log:
                processes.append(subprocess.Popen(words, stdout=log, stderr=log))
        wait_for(lambda: "idle" in subprocess.run(["sinfo", "-h"], capture_output=True, text=True).stdout)
        yield folder
    finally:
        subprocess.run(
            ["scancel", "--user=root", "--signal=KILL", "--full"], check=False
        )  # left by a failure
        for process in reversed(processes):
            process.terminate()
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_real_slurm_stops_and_goes_on(slurm: Path, asked: Asked) -> None:
    campaign = asked(n=200_000, shard_size=1000)
    said = submit_campaign(campaign, "slurm", Jobs(number=1, cpus=2, minutes=10))
    job = said.split()[-1]
    wait_for(lambda: len(list(campaign.folder.glob("*.sum"))) >= 2)
    subprocess.run(["scancel", "--batch", "--signal=USR1", f"{job}_1"], check=True)
    log = campaign.folder / "logs" / f"{job}_1.log"
    wait_for(lambda: "goes on from there" in log.read_text())
    assert len(list(campaign.folder.glob("*.sum"))) < 200

    def told() -> str:
        return subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout

    wait_for(lambda: "Restarts=1" in told())
    wait_for(lambda: "JobState=COMPLETED" in told() or "JobState=FAILED" in told())
    assert "files made" in log.read_text(), log.read_text()
    assert verify_campaign(campaign) == []


@pytest.mark.slow
def test_a_training_of_two_processes_is_stopped_by_slurm_and_goes_on(slurm: Path, tmp_path: Path) -> None:
    """By the script of docs/how-to/training.md, for one machine without GPUs."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    write_showers(toy_showers(145), tmp_path / "showers.h5")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {
        "--nodes=4": "--nodes=1",
        "#SBATCH --gpus-per-node=4\n": "",
        "--cpus-per-task=32": f"--cpus-per-task={os.cpu_count()}",
        "OMP_NUM_THREADS=8": "OMP_NUM_THREADS=1",
        "--nproc-per-node 4": "--nproc-per-node 2",
        ":29500": f":{port}",
        "RECIPE showers-*.h5 --out model": "recipe.toml showers.h5 --out model --device cpu",
    }
    script = TRAINING_GUIDE.read_text("utf-8").partition("```sh\n#!/bin/bash")[2].partition("```")[0]
    for told, meant in here.items():
        assert told in script, told
        script = script.replace(told, meant)
    words = ["sbatch", "--parsable", f"--output={tmp_path}/log", f"--chdir={tmp_path}"]
    launcher = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{launcher}:{os.environ['PATH']}"}
    sent = subprocess.run(
        words, input=f"#!/bin/bash{script}", env=environment, capture_output=True, text=True, check=True
    )
    job, epochs = sent.stdout.strip(), tmp_path / "model" / "log.jsonl"

    def log() -> str:
        return (tmp_path / "log").read_text()

    def told() -> str:
        return subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout

    wait_for(lambda: epochs.exists() and len(epochs.read_text().splitlines()) > 2)
    subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
    wait_for(lambda: "Restarts=1" in told())
    assert len(epochs.read_text().splitlines()) < 100, log()
    wait_for(lambda: "JobState=COMPLETED" in told() or "JobState=FAILED" in told(), 900)
    assert not (tmp_path / "model" / "resume").exists(), log()
    alone = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    train = ["-m", "caloforge", "train", "recipe.toml", "showers.h5", "--out", "whole", "--device", "cpu"]
    subprocess.run(
        [sys.executable, *alone, *train], cwd=tmp_path, env=environment | {"OMP_NUM_THREADS": "1"}, check=True
    )
    resumed, whole = (Checkpoint.load(tmp_path / name).tensors for name in ("model", "whole"))
    assert all(tensor.equal(whole[name]) for name, tensor in resumed.items())


def test_what_is_submitted(asked: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    campaign = asked()
    jobs = Jobs(cpus=2, minutes=30, grace=90, options=("--partition=long",))
    text = script(campaign, "slurm", jobs)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for line in ("--array=1-4", "--cpus-per-task=2", "--signal=B:USR1@90", "--requeue", "--partition=long"):
        assert f"#SBATCH {line}\n" in text
    assert f'{campaign.path.resolve()} --share "$SLURM_ARRAY_TASK_ID"/4 --workers' in text
    text = script(campaign, "condor", Jobs(number=3, options=("accounting_group = calo",)))
    assert f"campaign run {campaign.path.resolve()} --share $INT(share)/3 --workers 1" in text
    assert text.endswith("accounting_group = calo\nqueue 3\n")
    with pytest.raises(ConditionError, match="5 jobs are more than the 4 files"):
        script(campaign, "slurm", Jobs(number=5))
    with pytest.raises(ConditionError, match="before its end"):
        Jobs(minutes=1, grace=60)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="condor_submit is not on this machine"):
        submit_campaign(campaign, "condor", Jobs())
    assert not campaign.folder.exists()


def test_htcondor_itself_reads_what_is_submitted(asked: Asked) -> None:
    htcondor = pytest.importorskip("htcondor2")
    campaign = asked()
    submit = htcondor.Submit(script(campaign, "condor", Jobs(number=3, cpus=2)))
    words = f"-P -m caloforge campaign run {campaign.path.resolve()} --share 1/3 --workers 2"
    assert submit.expand("arguments") == f'"{words}"'
    assert submit.getQArgs() == "3"
    assert submit["request_cpus"] == "2"


@pytest.mark.filterwarnings("default")
def test_a_real_dask_cluster(asked: Asked) -> None:
    pytest.importorskip("distributed")
    campaign = asked()
    run_campaign(campaign, share="1/4", workers=1, progress=False)
    campaign.file(Shard(3, 4)).write_text("not a shard")
    with pytest.raises(DataError, match=r"^shard 3/4: .*3\.h5"):
        run_campaign(campaign, dask="local", workers=2, progress=False)
    campaign.file(Shard(3, 4)).unlink()
    run_campaign(campaign, workers=1, progress=False)
    assert verify_campaign(campaign) == []
    campaign.seal(Shard(2, 4)).unlink()
    with pytest.raises(DataError, match="no scheduler of Dask answers at 'tcp"):
        run_campaign(campaign, dask="tcp://127.0.0.1:9", workers=1, progress=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_dead_worker_of_a_dask_cluster_is_survived(asked: Asked, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    campaign = asked(n=6000, shard_size=100)
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(local_directory=str(tmp_path / "dask"), **how) as cluster,
        ThreadPoolExecutor(1) as pool,
    ):
        address = cluster.scheduler_address
        done = pool.submit(run_campaign, campaign, dask=address, progress=False)
        wait_for(lambda: done.done() or len(list(campaign.folder.glob("*.sum"))) > 2)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)
        assert not done.result(300).failed
    assert verify_campaign(campaign) == []
