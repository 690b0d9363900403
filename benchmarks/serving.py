"""One model for several processes (`caloforge serve`) against a model in each: memory and showers a second.

    python benchmarks/serving.py [--model showertree-siw] [--clients 1,2,4] [--seconds 10]

Clients order showers of 1-50 GeV, so many at a time, one order after the other; those with a model of their
own make them in the same blocks. Memory is Pss, in which pages that processes share are divided among them,
of the clients and the server. Showers are counted per second of clock and of processor.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.data import Conditions
from caloforge.fast import ShowerClient

TICKS = 100


def orders(at_once: int, detector: str, theta: float) -> Any:
    """Endless orders: numbers and conditions."""
    random, k = np.random.default_rng(0), 0
    while True:
        energy = np.exp(random.uniform(np.log(1e3), np.log(5e4), at_once))
        yield np.arange(k, k + at_once), Conditions(energy, theta, 0.0, "e-", detector)
        k += at_once


def work(kind: str, model: str, at_once: int, seconds: float) -> None:
    """A client: says that it is ready, waits for a line, and tells how many showers it had in so long."""
    if kind == "own":
        import torch

        from caloforge.checkpoint import Checkpoint
        from caloforge.fast.maker import Piece, ShowerMaker
        from caloforge.fast.orders import Order

        torch.set_num_threads(1)
        maker = ShowerMaker(Checkpoint.load(model), "cpu")
        offer = maker.offer()

        def make(numbers: Any, conditions: Conditions) -> None:
            order = Order(1, numbers, conditions)
            for low in range(0, at_once, maker.block):
                maker.make([Piece(order, low, min(low + maker.block, at_once))])
    else:
        client = ShowerClient(model)
        offer = client.offer

        def make(numbers: Any, conditions: Conditions) -> None:
            client.make(1, numbers, conditions)

    detector, ranges = next(iter(offer.ranges.items()))
    stream = orders(at_once, detector, float(np.mean(ranges["theta"])))
    make(*next(stream))
    print("ready", flush=True)
    sys.stdin.readline()
    end, made = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        make(*next(stream))
        made += at_once
    print(made, flush=True)
    sys.stdin.readline()


def pss_mib(pid: int) -> float:
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("Pss:")) / 1024


def processor(pid: int) -> float:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / TICKS


def measure(kind: str, model: str, n: int, at_once: int, seconds: float, server: int | None) -> None:
    """Run ``n`` clients side by side and tell what they cost."""
    command = [sys.executable, __file__, "--work", kind, "--model", model]
    command += ["--at-once", str(at_once), "--seconds", str(seconds)]
    clients = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(n)
    ]

    def say_and_hear() -> list[str]:
        return [client.stdout.readline().strip() for client in clients if client.stdout]

    def go() -> None:
        for client in clients:
            assert client.stdin is not None
            client.stdin.write("\n")
            client.stdin.flush()

    assert say_and_hear() == ["ready"] * n
    pids = [client.pid for client in clients] + ([] if server is None else [server])
    before, began = sum(map(processor, pids)), time.perf_counter()
    go()
    made = sum(map(int, say_and_hear()))
    clock, used = time.perf_counter() - began, sum(map(processor, pids)) - before
    memory = [pss_mib(pid) for pid in pids]
    go()
    for client in clients:
        client.wait()
    all_in_all = sum(memory)
    print(
        f"| {kind} | {n} | {at_once} | {all_in_all:.0f} | {all_in_all / n:.0f} | {np.mean(memory[:n]):.0f} "
        f"| {made / clock:.0f} | {made / used:.0f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="showertree-siw")
    parser.add_argument("--clients", default="1,2,4")
    parser.add_argument("--orders", default="256,2", help="showers of an order")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2, help="of the server")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--at-once", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.model, options.at_once, options.seconds)
        return
    columns = "model, clients, showers an order, MiB in all, MiB a client, of the client itself, showers/s"
    print(f"| {columns.replace(', ', ' | ')} | showers/s of processor |\n|---|---|---|---|---|---|---|---|")
    for at_once in map(int, options.orders.split(",")):
        for n in map(int, options.clients.split(",")):
            measure("own", options.model, n, at_once, options.seconds, None)
            for merge in (False, True) if at_once < 16 else (False,):
                with tempfile.TemporaryDirectory() as folder:
                    place = str(Path(folder) / "s")
                    how = ["--socket", place, "--threads", str(options.threads), *(["--merge"] * merge)]
                    command = [sys.executable, "-m", "caloforge", "serve", options.model, *how]
                    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
                        assert server.stdout is not None
                        server.stdout.readline()
                        kind = "served, merged" if merge else "served"
                        measure(kind, place, n, at_once, options.seconds, server.pid)
                        server.terminate()


if __name__ == "__main__":
    main()
