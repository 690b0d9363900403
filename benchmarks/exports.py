"""Exported models in ONNX Runtime against torch, one thread: milliseconds a shower, and memory.

    python benchmarks/exports.py [--models showertree-siw,supercalo-siw] [--files folder] [--times 30]

Each model is exported into the folder unless its file is there. Showers of the middle energy, from the same
noise; times are of the processor, the least of several, so that what else runs on the machine counts little.
torch makes them by caloforge's own kernels and without. Memory is what a process of ONNX Runtime alone holds
more after showers of this model (VmRSS, and the most it ever held) than with an empty session.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BATCHES = (1, 100)


def least(call: Callable[[], object], times: int) -> float:
    """Seconds of the processor of one call, the least of several."""
    call()
    found = []
    for _ in range(times):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return min(found)


def memory() -> dict[str, float]:
    """MiB that this process holds and held at most."""
    told = Path("/proc/self/status").read_text()
    return {name: int(told.partition(f"{name}:")[2].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")}


def in_onnx_runtime(file: str, inputs: str, times: int) -> None:
    """A process without torch: says what it measured."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    empty = Path(inputs).with_name("empty.onnx").read_bytes()
    held = onnxruntime.InferenceSession(empty, options, providers=providers)
    held.run(None, {"x": np.ones(1, np.float32)})
    with np.load(inputs) as stored:
        feed = dict(stored)
    before, begin = memory(), time.process_time()
    session = onnxruntime.InferenceSession(file, options, providers=providers)
    told: dict[str, float] = {"load": time.process_time() - begin}
    for n in BATCHES:
        some = {name: x[:n] for name, x in feed.items()}
        told[f"b{n}"] = least(lambda some=some: session.run(None, some), times if n == 1 else 3)  # type: ignore[misc]
        after = memory()
        told |= {f"{name}_{n}": after[name] - before["VmRSS"] for name in after}
    print(json.dumps(told))


def measured(name: str, folder: Path, times: int) -> dict[str, float]:
    """Of one shipped model."""
    import numpy as np
    import torch

    from caloforge.checkpoint import Checkpoint
    from caloforge.exports import export
    from caloforge.exports.graph import Graph

    torch.set_num_threads(1)
    held, file, told = Checkpoint.load(name), folder / f"{name}.onnx", {}
    if not file.exists():
        begin = time.process_time()
        export(held, file)
        told["export"] = time.process_time() - begin
    told["MiB"] = file.stat().st_size / 2**20
    graph = Graph(held)
    inputs = graph.examples(seed=1, n=max(BATCHES))
    low, high = graph.spans["energy"]
    inputs[0][:] = (low * high) ** 0.5
    with tempfile.TemporaryDirectory() as place:
        feed = Path(place) / "inputs.npz"
        np.savez(feed, **{i.name: x.numpy() for i, x in zip(graph.inputs, inputs, strict=True)})
        write_empty(feed.with_name("empty.onnx"))
        command = [sys.executable, __file__, "--child", file, feed, times]
        ran = subprocess.run([str(x) for x in command], capture_output=True, text=True, check=True)
    told |= json.loads(ran.stdout)
    for kernels in ("auto", "plain"):
        graph.model = held.model("cpu", "float32", kernels)
        for n in BATCHES:
            with torch.no_grad():
                call = lambda n=n: graph(*(x[:n] for x in inputs))  # noqa: E731
                told[f"torch_{kernels}_b{n}"] = least(call, times if n == 1 else 3)
    return told


def write_empty(file: Path) -> None:
    """A graph that does nothing."""
    from onnx import TensorProto, helper, save

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "empty", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    save(model, file)


def main() -> None:
    """Measure and print a table, rows of which are models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default="showertree-siw,showertree-lhcb,supercalo-siw")
    parser.add_argument("--files", type=Path)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--child", nargs=3)
    given = parser.parse_args()
    if given.child:
        in_onnx_runtime(given.child[0], given.child[1], int(given.child[2]))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = given.files or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        for name in given.models.split(","):
            told = measured(name, folder, given.times)
            per = {
                f"{who} b{n}": 1e3 * told[f"{key}b{n}"] / n
                for who, key in (("ORT", ""), ("torch", "torch_auto_"), ("plain torch", "torch_plain_"))
                for n in BATCHES
            }
            print(name, ", ".join(f"{what} {ms:.2f} ms" for what, ms in per.items()))
            rest = {key: round(x, 2) for key, x in told.items() if key[:2] in ("ex", "Mi", "lo", "Vm")}
            print("  ", rest, flush=True)


if __name__ == "__main__":
    main()
