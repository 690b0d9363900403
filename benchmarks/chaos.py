"""A campaign whose workers are killed, run out of disk, see the clock jump and are of another class of host.

    python benchmarks/chaos.py FOLDER [--shards 200] [--showers 20] [--workers 4] [--every 1] [--seed 1]

So many workers make the shards of one campaign. Every ``--every`` seconds one of them gets SIGKILL, and
another takes its place, which with some probability may write no file beyond some thousand bytes
(RLIMIT_FSIZE, as a full disk) or is on a host of another class (ATEN_CPU_CAPABILITY). Where libfaketime is
found (Debian: faketime), the clock of all of them jumps by up to years, also backwards, while they run.
Workers are forked, so that most of their lives are work and not the start of Python. At the end one worker
makes what is left; then verify must find nothing, no unfinished file may lie about, and all showers must be
those of one undisturbed command, to the last bit. Exit status 0 and a line of JSON say that.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import select
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from caloforge.campaign import Campaign, run_campaign, verify_campaign
from caloforge.campaign.verify import shard_states
from caloforge.data import Showers, open_showers
from caloforge.errors import CaloforgeError
from caloforge.generation import generate

FAKETIME = "libfaketime.so.1"
PLACES = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib64/faketime")
MODEL, ENERGY, SEED = "gflash:par04-siw", "1-20GeV", 7
LIMITED, OTHER_HOST = 0.3, 0.1
"""How often a worker has a full disk, or is on another class of host."""
BROKEN, REFUSED = 3, 4
"""Exit status of a worker whose disk was full, and of one whose class was refused."""


def with_jumping_clock(file: Path) -> None:
    """Run this program again with a clock that is what ``file`` says, where libfaketime is found."""
    library = next((place for place in PLACES if (Path(place) / FAKETIME).exists()), None)
    if library is None or "FAKETIME_TIMESTAMP_FILE" in os.environ:
        return
    file.write_text("+0\n")
    os.environ |= {
        "LD_PRELOAD": f"{library}/{FAKETIME}",
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    os.execv(sys.executable, [sys.executable, *sys.argv])


def work(path: Path, limit: int | None, other_host: bool) -> None:
    """One worker: makes what is missing, until it is done, killed, or something is wrong."""
    if other_host:
        os.environ["ATEN_CPU_CAPABILITY"] = "default"
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run_campaign(Campaign.load(path), workers=1, progress=False)
    except CaloforgeError as error:
        sys.exit(REFUSED if "its host differs" in str(error) else BROKEN)


def disturbed(path: Path, workers: int, every: float, chance: random.Random, clock: Path) -> Counter[str]:
    """Run the campaign with everything that may go wrong; what did, and how often."""
    fork, events = multiprocessing.get_context("fork"), Counter[str]()
    alive: list[multiprocessing.process.BaseProcess] = []
    campaign = Campaign.load(path)

    def start() -> None:
        limit = chance.randrange(500, 100_000) if chance.random() < LIMITED else None
        other = chance.random() < OTHER_HOST
        process = fork.Process(target=work, args=(path, limit, other))
        process.start()
        alive.append(process)

    def count_ended() -> None:
        for process in [process for process in alive if not process.is_alive()]:
            alive.remove(process)
            told = {BROKEN: "full disks", REFUSED: "refused hosts", -signal.SIGKILL: "kills", 0: "ended"}
            events[told.get(process.exitcode or 0, "errors")] += 1

    while shard_states(campaign)["finished"] < campaign.shards:
        count_ended()
        while len(alive) < workers:
            start()
        select.select([], [], [], every)  # libfaketime breaks time.sleep where the clock jumps
        victim = chance.choice(alive)
        if victim.pid is not None:
            victim.kill()
        if clock.exists():
            clock.write_text(f"{chance.randrange(-(10**8), 10**8):+d}\n")
            events["clock jumps"] += 1
    for process in alive:
        process.join()
    count_ended()
    return events


def main() -> None:
    """Run a campaign in chaos, and compare it with an undisturbed command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--showers", type=int, default=20, help="of a shard")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=1, help="of what goes wrong")
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    clock = told.folder / "clock"
    with_jumping_clock(clock)
    torch.set_num_threads(1)
    n, path = told.shards * told.showers, told.folder / "campaign.toml"
    path.write_text(
        f'n = {n}\nseed = {SEED}\nshard_size = {told.showers}\nout = "made/{{shard}}.h5"\n'
        f'[generate]\nmodel = "{MODEL}"\nenergy = "{ENERGY}"\ndevice = "cpu"\n'
    )
    campaign = Campaign.load(path)
    run_campaign(campaign, share=f"1/{told.shards}", workers=1, progress=False)  # which decides the class
    began = time.monotonic()
    events = disturbed(path, told.workers, told.every, random.Random(told.seed), clock)
    seconds = time.monotonic() - began
    run_campaign(campaign, workers=1, progress=False)
    problems = verify_campaign(campaign)
    left = [path.name for path in campaign.folder.iterdir() if path.suffix not in (".h5", ".sum", ".json")]
    made = Showers.concatenate([open_showers(campaign.file(shard)) for shard in campaign])
    whole = generate(MODEL, energy=ENERGY, n=n, seed=SEED, device="cpu", threads=1, progress=False)
    equal = made.conditions == whole.conditions and np.array_equal(made.energies, whole.energies)
    result = {"shards": told.shards, "seconds": round(seconds, 1), **events}
    result |= {"problems": [str(p) for p in problems], "left": left, "equal": bool(equal)}
    print(json.dumps(result))
    sys.exit(0 if equal and not problems and not left else 1)


if __name__ == "__main__":
    main()
