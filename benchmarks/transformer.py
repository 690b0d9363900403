"""The transformer's `decode` against a straightforward implementation of the same network, and Geant4.

    python benchmarks/transformer.py [CHECKPOINT] [--batches 1 100 10000] [--steps 1 4 32] [--geant4 30]

The straightforward one, written below, has the same weights and gives the same showers: float32, attention as
softmax of a matrix of scores, conditions, places and rotations computed anew in each step. Each row is a
process of its own on one thread: milliseconds of processor time a shower (of wall time on a GPU, where there
is one), the least of a few runs, for 1, 4 and 32 calls of the network, and the largest memory. More than two
blocks of showers are decoded in blocks, as `caloforge generate` does, and two are timed: all are alike.

Without a CHECKPOINT it is the model of a recipe with random weights, none of which is zero.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import peak_mib
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import profile

from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions
from caloforge.detector import CylinderMesh
from caloforge.models.base import ConditionTensors
from caloforge.models.diffusion.backbones.transformer import LONGEST, SHARE_SCALE, Transformer
from caloforge.models.diffusion.model import DiffusionModel
from caloforge.models.diffusion.samplers import SamplerSettings
from caloforge.training import Recipe

SECONDS = 2.0
"""Of processor time that runs of one case are repeated for, twice at least."""
PRODUCTS = ("mm", "addmm", "bmm", "linear", "scaled_dot_product", "flash_attention")


class Straightforward(nn.Module):
    """The network of a `Transformer` as one would write it down; it takes the other's weights."""

    def __init__(self, net: Transformer) -> None:
        super().__init__()
        self.net = net
        self.reads_shares = net.reads_shares

    def prepare(self, conditions: Tensor, layers: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing is prepared."""
        return conditions, layers

    def forward(
        self, x: Tensor, level: Tensor, prepared: tuple[Tensor, Tensor], shares: Tensor | None = None
    ) -> Tensor:
        """(n, Z, P, R) → (n, Z, P, R)."""
        net, (conditions, layers) = self.net, prepared
        (tz, tp, tr), (pz, pp, pr) = net.grid, net.settings.patch
        n, width, heads = len(x), net.settings.width, net.settings.heads
        weight = net.patches.weight.view(width, 1, pz, pp, pr)
        tokens = F.conv3d(x[:, None], weight, net.patches.bias, stride=(pz, pp, pr))
        tokens = tokens.permute(0, 2, 3, 4, 1)  # (n, Zt, Pt, Rt, W)
        tokens = tokens + net.position
        if net.turn is not None:
            tokens = tokens + net.turn
        if net.layer_patches is not None:
            tokens = tokens + net.layer_patches(layers.reshape(n, tz, -1))[:, :, None, None]
        tokens = tokens.reshape(n, -1, width)
        if shares is not None:
            cut, (direction, excess) = net._cut(shares), net._excess(shares, level)
            tokens = tokens + net.share_patches(torch.cat([SHARE_SCALE * cut, excess], dim=-1))
        signal = net.condition(torch.cat([conditions, layers.flatten(1)], dim=1)) + net.level(level)
        signals = net.modulation(F.silu(signal)).view(n, 1, -1, width)
        cosines, sines = rotations(net, width // heads)
        for i, block in enumerate(net.blocks):
            shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = signals[:, :, 2 + 6 * i : 8 + 6 * i].unbind(
                2
            )
            h = F.layer_norm(tokens, (width,)) * (1 + scale_1) + shift_1
            q, k, v = (part.view(n, -1, heads, width // heads) for part in block.qkv(h).chunk(3, dim=-1))
            q, k = rotated(q, cosines, sines), rotated(k, cosines, sines)
            scores = torch.einsum("nihd,njhd->nhij", q, k) / math.sqrt(width // heads)
            read = torch.einsum("nhij,njhd->nihd", scores.softmax(dim=-1), v).reshape(n, -1, width)
            tokens = tokens + gate_1 * block.out(read)
            h = F.layer_norm(tokens, (width,)) * (1 + scale_2) + shift_2
            tokens = tokens + gate_2 * block.down(F.gelu(block.up(h)))
        shift, scale = signals[:, :, :2].unbind(2)
        tokens = F.layer_norm(tokens, (width,)) * (1 + scale) + shift
        cells = net.last(tokens)
        if shares is not None:
            along = (net.excess_last(tokens) * excess).repeat_interleave(pp * pr, dim=-1)
            cells = cells + cut * net.share_last(tokens) + along * net._cut(direction)
        cells = cells.view(n, tz, tp, tr, pz, pp, pr).permute(0, 1, 4, 2, 5, 3, 6)
        return cells.reshape(x.shape)


def rotations(net: Transformer, size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, 1, size/2) of the angles by which tokens are turned."""
    axes = [axis for axis in range(3) if net.grid[axis] > 1]
    columns = []
    for order, axis in enumerate(axes):
        place = torch.arange(net.grid[axis]).view([-1 if a == axis else 1 for a in range(3)]).expand(net.grid)
        count = len(range(order, size // 2, len(axes)))
        for number in range(count):
            if axis == 1:
                frequency = 2 * math.pi / net.grid[1] * (number % (net.grid[1] // 2) + 1)
            else:
                frequency = LONGEST ** (-number / count)
            columns.append(frequency * place)
    angles = torch.stack(columns, dim=-1)
    angles = angles.view(-1, 1, size // 2).to(net.position.device)
    return angles.cos(), angles.sin()


def rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Pairs of numbers (n, T, H, d) turned."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cosines - b * sines, a * sines + b * cosines], dim=-1)


@dataclass(frozen=True)
class Case:
    """What one process measures."""

    kind: str  # "ours", "ours, compiled" or "straightforward"
    source: str  # folder of a checkpoint, or name of a recipe
    batch: int
    steps: tuple[int, ...]
    device: str


def model_of(
    source: str, device: str = "cpu", *, plain: bool = False, precision: str = "auto"
) -> DiffusionModel:
    """The model of a checkpoint or, with random weights, of a recipe, on a device."""
    if Path(source).is_dir():
        checkpoint = Checkpoint.load(source)
        model = checkpoint.model()
    else:
        recipe = Recipe.load(source)
        torch.manual_seed(0)
        model = DiffusionModel(CylinderMesh.regular(), recipe.settings)
        for parameter in model.backbone.parameters():
            if not parameter.any():  # gates, and the last layer
                nn.init.normal_(parameter, std=0.02)
    assert isinstance(model, DiffusionModel)
    assert isinstance(model.backbone, Transformer)
    if plain:
        model.backbone = Straightforward(model.backbone)  # type: ignore[assignment]
    return model.eval().execute_on(device, precision)


def inputs(model: DiffusionModel, n: int, device: str) -> tuple[dict[str, Tensor], ConditionTensors]:
    """Noise and conditions, 1-50 GeV, of n showers."""
    energies = np.geomspace(1e3, 5e4, n)
    conditions = ConditionTensors.of(Conditions(energies, particle="e-"), device=device)
    noise = model.noise(n, torch.Generator().manual_seed(1))
    return {name: values.to(device) for name, values in noise.items()}, conditions


def blocks(noise: dict[str, Tensor], conditions: ConditionTensors, size: int) -> Iterator[tuple[Any, Any]]:
    """Blocks of showers of that size, or all at once."""
    for start in range(0, len(conditions), size):
        chosen = slice(start, start + size)
        yield {name: values[chosen] for name, values in noise.items()}, conditions[chosen]


def measure(case: Case) -> dict[str, Any]:
    """Milliseconds a shower for each number of steps, and MiB."""
    torch.set_num_threads(1)
    gpu = case.device != "cpu"
    plain = case.kind == "straightforward"
    model = model_of(case.source, case.device, plain=plain, precision="float32" if plain else "auto")
    block = model.block_size_gpu if gpu else model.block_size
    timed = min(case.batch, 2 * block)
    noise, conditions = inputs(model, timed, case.device)
    size = min(block, timed) if case.batch > 2 * block else timed
    result: dict[str, Any] = {"case": case.kind, "batch": case.batch, "device": case.device, "timed": timed}
    if "compiled" in case.kind:
        start = time.perf_counter()
        model.backbone.compile(dynamic=False)
        with torch.inference_mode():
            model.decode(*next(blocks(noise, conditions, size)))
        result["compiled in, s"] = time.perf_counter() - start

    @torch.inference_mode()
    def run() -> None:
        for noises, some in blocks(noise, conditions, size):
            model.decode(noises, some)
        if gpu:
            torch.cuda.synchronize()

    for steps in case.steps:
        sampler = SamplerSettings(kind="euler", steps=steps)
        model.settings = model.settings.model_copy(update={"sampler": sampler})
        result[f"{steps}"] = least(run, time.perf_counter if gpu else time.process_time) / timed * 1e3
    result["MiB"] = torch.cuda.max_memory_allocated() / 2**20 if gpu else peak_mib()
    return result


def least(run: Callable[[], None], clock: Callable[[], float]) -> float:
    """Seconds of the fastest of a few runs after the first."""
    run()
    times: list[float] = []
    while len(times) < 2 or (sum(times) < SECONDS and len(times) < 50):
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


def differences(source: str, device: str) -> dict[str, float]:
    """Ours less the straightforward one: the network's outputs over their standard deviation."""
    outputs = {}
    for name in ("plain", "float32", "bfloat16"):
        plain = name == "plain"
        model = model_of(source, device, plain=plain, precision="float32" if plain else name)
        noise, conditions = inputs(model, 64, device)
        x = noise["cells"]
        with torch.no_grad():
            layer_energies = model.sampled_layer_energies(noise, conditions)
        level = torch.linspace(0, 1, 64, device=device)[:, None]
        with torch.inference_mode():
            outputs[name] = model.network(model.prepare(conditions, layer_energies))(x, level)
    scale, exact = outputs["plain"].std(), outputs.pop("plain")
    result = {f"{name}, rms": float((out - exact).std() / scale) for name, out in outputs.items()}
    return result | {"float32, largest": float((outputs["float32"] - exact).abs().max() / scale)}


def shares(source: str, device: str, n: int = 64, top: int = 8) -> dict[str, float]:
    """Shares of the time of a `decode` in 4 steps: matrix products, and what else takes most."""
    torch.set_num_threads(1)
    model = model_of(source, device)
    noise, conditions = inputs(model, n, device)
    model.settings = model.settings.model_copy(update={"sampler": SamplerSettings(kind="euler", steps=4)})
    with torch.inference_mode():
        model.decode(noise, conditions)
        with profile() as profiled:
            model.decode(noise, conditions)
    times: dict[str, float] = {}
    for event in profiled.key_averages():
        own = event.self_cpu_time_total if device == "cpu" else event.self_device_time_total
        name = event.key.removeprefix("aten::")
        name = "matrix products and attention" if any(word in name for word in PRODUCTS) else name
        times[name] = times.get(name, 0.0) + own
    total = sum(times.values())
    return {name: times[name] / total for name in sorted(times, key=times.__getitem__, reverse=True)[:top]}


def geant4(n: int) -> float:
    """Milliseconds of processor time of a shower, 1-50 GeV electrons in par04-siw."""
    from caloforge.geant4 import simulate

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "g4.h5"
        showers = simulate("par04-siw", out=out, n=n, workers=1, seed=5, energy="1-50GeV", progress=False)
        return float(showers.extra["geant4_cpu_seconds"].mean() * 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="?", help="folder; by default a recipe with random weights")
    parser.add_argument("--recipe", default="showertransformer")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 100, 10_000])
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4, 32])
    parser.add_argument("--kinds", nargs="+", default=["straightforward", "ours", "ours, compiled"])
    parser.add_argument("--geant4", type=int, default=30, help="showers; 0 for none")
    given = parser.parse_args()
    source, steps = given.checkpoint or given.recipe, tuple(given.steps)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    print(json.dumps({"differences": differences(source, devices[-1])}), flush=True)
    rows = []
    spawn = multiprocessing.get_context("spawn")
    for device in devices:
        print(json.dumps({"shares of the time": shares(source, device)}), flush=True)
        for batch in given.batches:
            for kind in given.kinds:
                with ProcessPoolExecutor(1, mp_context=spawn) as pool:  # for a peak memory of its own
                    rows.append(pool.submit(measure, Case(kind, source, batch, steps, device)).result())
                print(json.dumps(rows[-1]), flush=True)
    truth = geant4(given.geant4) if given.geant4 else math.nan
    heads = ["device", "batch", "network", *(f"ms, {s} steps" for s in steps), "× Geant4", "MiB"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for row in rows:
        times = [row[str(s)] for s in steps]
        cells = [row["device"], row["batch"], row["case"], *(f"{ms:.3g}" for ms in times)]
        cells += [" / ".join(f"{truth / ms:.3g}" for ms in times), f"{row['MiB']:.0f}"]
        print("| " + " | ".join(map(str, cells)) + " |")
    print(f"\nGeant4: {truth:.0f} ms a shower")


if __name__ == "__main__":
    main()
