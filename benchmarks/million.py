"""Training on and judging a million showers: time and memory, each in a process of its own.

    python benchmarks/billion.py sizes FOLDER --model gflash:par04-siw --sizes 1000000   # makes the showers
    python benchmarks/million.py epoch FOLDER/1000000.h5 [--times 1]   # of the loader, without a network
    python benchmarks/million.py evaluate FILE [FILE …] [-n 200000] [--classifiers quick]
    python benchmarks/million.py processes FILE [-n 2000] [--recipe NAME] [--processes 1 2]    # by torchrun

An epoch is read from disk in the order of a training, to its end, and again from its middle on, as a training
that was stopped there does: the batches must be the same to the last bit. ``--times`` joins the file with
itself. ``evaluate`` judges the second n showers of the files, one after the other, by the first n.
``processes`` trains for three epochs and tells the rate of the last.
Results go into docs/results/million.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measure import keep, peak_mib, timed

FILE = Path(__file__).parents[1] / "docs" / "results" / "million.json"
EPOCHS = 3


def epoch(given: argparse.Namespace) -> dict[str, Any]:
    """An epoch, whole and from its middle on."""
    import torch

    from caloforge.data import Showers, open_showers
    from caloforge.training.loader import ShowerLoader, hold_out

    before, digesting = peak_mib(), 0.0
    training, _ = hold_out(Showers.join([open_showers(f) for f in given.file] * given.times), 0.1, seed=0)
    loader = ShowerLoader(
        training,
        given.batch,
        detectors=list(training.meshes),
        device=torch.device("cpu"),
        in_memory=False,
        prefetch=True,
    )

    def digests(start: int) -> Iterator[str]:
        nonlocal digesting
        for batch in loader.epoch(0, start):
            began = time.thread_time()
            state = hashlib.sha256(batch.energies.numpy())
            state.update(batch.energy.numpy())
            digesting += time.thread_time() - began
            yield state.hexdigest()

    whole: list[str] = []
    spent = timed(lambda: whole.extend(digests(0)))
    spent["cpu"] -= digesting
    middle = len(whole) // 2
    if list(digests(middle)) != whole[middle:]:
        raise SystemExit("an epoch that goes on in its middle is another one")
    told = {"showers": loader.n, "batches": len(whole), **spent}
    return told | {"peak_mib": peak_mib(), "above_imports_mib": peak_mib() - before}


def evaluate(given: argparse.Namespace) -> dict[str, Any]:
    """Two samples of n, by everything and trained classifiers."""
    from evaluation import AnonymousMemory

    from caloforge.data import Showers, open_showers
    from caloforge.evaluation import evaluate as judge

    showers = Showers.join([open_showers(file) for file in given.file])
    samples = showers[: given.n], showers[given.n : 2 * given.n]
    aucs: dict[str, float] = {}

    def judged() -> None:
        found = judge(*samples, classifiers=given.classifiers, progress=False)
        aucs.update({name: result.auc for name, result in found.classifiers.items()})

    with AnonymousMemory() as memory:
        spent = timed(judged)
    return {
        "showers": [len(sample) for sample in samples],
        "classifiers": aucs,
        **spent,
        "peak_mib": peak_mib(),
        "anonymous_mib": memory.peak,
    }


def processes(given: argparse.Namespace) -> dict[str, Any]:
    """Showers a second of a training by so many processes."""
    from caloforge.data import open_showers, write_showers

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        write_showers(open_showers(given.file[0])[: given.n], Path(folder) / "showers.h5")
        for number in given.processes:
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
            train = ["-m", "caloforge", "train", given.recipe, "showers.h5", "--out", f"{number}"]
            settings = ["--device", "cpu", "--set", f"training.epochs={EPOCHS}"]
            subprocess.run(
                [sys.executable, *launch, *train, *settings],
                cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                check=True,
            )
            last = json.loads((Path(folder) / f"{number}" / "log.jsonl").read_text().splitlines()[-1])
            found[str(number)] = {name: last[name] for name in ("showers_per_second", "peak_memory_mib")}
    return {"recipe": given.recipe, "showers": given.n, "processes": found}


WHAT: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "epoch": epoch,
    "evaluate": evaluate,
    "processes": processes,
}


def main() -> None:
    """Measure in a process of its own, and keep the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("file", type=Path, nargs="+")
    parser.add_argument("-n", type=int, help="showers of a sample, or trained on")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--classifiers", default="quick")
    parser.add_argument("--recipe", default="conv-l2lflows-small")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.n = given.n or {"evaluate": 200_000}.get(given.what, 2000)
    if given.here:
        print(json.dumps(WHAT[given.what](given)))
        return
    command = [sys.executable, __file__, *sys.argv[1:], "--here"]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    print(json.dumps(found, indent=1))
    size = found["showers"] if isinstance(found["showers"], int) else found["showers"][0]
    keep(FILE, f"{given.what} of {size}", found)


if __name__ == "__main__":
    main()
