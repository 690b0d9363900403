"""Autoregressive flows: ms a shower of a density pass, our inverse, and the inverses of nflows and zuko.

    pip install 'caloforge[benchmark]'
    python benchmarks/autoregressive.py [--flows flow-1 …] [--batches 1 100 1000] [--json FILE]

CPU time of one thread, so that what else the machine does matters little. The flows are those of SuperCalo
(arXiv:2308.11700) and of iCaloFlow's teacher (arXiv:2305.11934): 8 blocks, 8 bins, random weights. Columns:

* density: one pass of ours through all blocks in plain torch and in the kernel;
* inverse: ours, with float32 and bfloat16 networks;
* nflows: its own flow of the same sizes (MaskedPiecewiseRationalQuadraticAutoregressiveTransform);
* nflows*, zuko*: their loops around our blocks, so that weights, splines and samples are the same.

Times are per shower: SuperCalo has 648 rows a shower ("lit": 100 of them), iCaloFlow's teacher 45 layers, one
after the other, each of them a call. Where a library would take more than a second, one of its D passes, all
equal, is timed and multiplied by D: "~".
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measure import peak_mib
from torch import Tensor, nn

from caloforge.models.networks.autoregressive.block import MaskedSplines
from caloforge.models.networks.autoregressive.flow import AutoregressiveFlow
from caloforge.models.networks.autoregressive.kernel import FlowKernel, flow_library
from caloforge.models.networks.splines import splines

BLOCKS, BINS = 8, 8
LONG = 1.0
"""Seconds that one inverse of a library may take."""


@dataclass(frozen=True)
class Case:
    """A published flow: how many rows a shower has at once, and how many calls one after the other."""

    dims: int
    context: int
    hidden: int
    depth: int
    bound: float
    rows: int = 1
    calls: int = 1

    def flow(self, blocks: int = BLOCKS) -> AutoregressiveFlow:
        """Ours, with random weights whose splines are not the identity."""
        torch.manual_seed(0)
        flow = AutoregressiveFlow(
            self.dims,
            self.context,
            blocks=blocks,
            hidden=self.hidden,
            depth=self.depth,
            bins=BINS,
            bound=self.bound,
            context_units=min(32, self.hidden // 4),
        )
        for block in flow.masked_splines():
            nn.init.normal_(block.weight, std=0.3 / (block.weight.shape[1] ** 0.5))
        return flow.eval()


CASES = {
    "SuperCalo A": Case(10, 31, 128, 2, 14, rows=648),
    "SuperCalo A, lit": Case(10, 31, 128, 2, 14, rows=100),
    "flow-1": Case(45, 1, 256, 1, 14),
    "flow-2": Case(648, 10, 648, 1, 6),
    "iCaloFlow teacher": Case(144, 191, 256, 2, 14, calls=45),
}


@contextmanager
def plain_torch() -> Iterator[None]:
    """Our flows and splines without their kernels."""
    nothing = {"return_value": None}
    with mock.patch.object(FlowKernel, "run", **nothing), mock.patch.object(splines, "has_kernel", **nothing):
        yield


Inverse = Callable[[Tensor, Tensor], Tensor]
"""Noise (n, D) and context (n, C) → data."""


def nflows_native(case: Case) -> tuple[Inverse, Inverse]:
    """nflows' own flow of the same sizes: its inverse, and one of the D passes that it repeats."""
    from nflows.transforms import CompositeTransform, ReversePermutation
    from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform

    torch.manual_seed(0)
    sizes = {"features": case.dims, "hidden_features": case.hidden, "context_features": case.context or None}
    least = {f"min_{what}": 1e-6 for what in ("bin_width", "bin_height", "derivative")}
    blocks = [
        MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
            **sizes,
            **least,
            num_bins=BINS,
            tails="linear",
            tail_bound=case.bound,
            num_blocks=case.depth,
            use_residual_blocks=False,
        ).eval()
        for _ in range(BLOCKS)
    ]
    parts = [part for block in blocks for part in (block, ReversePermutation(case.dims))]
    flow = CompositeTransform(parts)
    return (lambda z, c: flow.inverse(z, c)[0]), _one_pass(blocks)


def _one_pass(blocks: list[Any]) -> Inverse:
    def run(z: Tensor, context: Tensor) -> Tensor:
        for block in blocks:
            parameters = block.autoregressive_net(torch.zeros_like(z), context)
            z = block._elementwise_inverse(z, parameters)[0]
        return z

    return run


class OurNet(nn.Module):
    """The network of one of our blocks as nflows wants it: (n, D), (n, C) → (n, D·Q)."""

    def __init__(self, block: MaskedSplines) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.block.parameters_for(x.T, context).permute(2, 1, 0).reshape(len(x), -1)


def nflows_loop(flow: AutoregressiveFlow) -> tuple[Inverse, Inverse]:
    """nflows' loop over dimensions around our blocks, and one pass of it."""
    from nflows.transforms.autoregressive import AutoregressiveTransform

    class Ours(AutoregressiveTransform):  # type: ignore[misc]
        def __init__(self, block: MaskedSplines) -> None:
            super().__init__(OurNet(block))
            self.block = block

        def _output_dim_multiplier(self) -> int:
            return self.block.n_parameters

        def _elementwise_inverse(self, inputs: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
            raw = parameters.view(*inputs.shape, self.block.n_parameters).permute(2, 0, 1)
            image, slope = self.block.splines(inputs, raw, inverse=True)
            return image, slope.sum(dim=1)

    blocks = [Ours(block) for block in flow.masked_splines()]
    return _reversed(flow, [lambda z, c, b=b: b.inverse(z, c)[0] for b in blocks]), _one_pass(blocks)


def zuko_loop(flow: AutoregressiveFlow) -> tuple[Inverse, Inverse]:
    """zuko's loop over dimensions around our blocks, and one pass of it."""
    from zuko.transforms import AutoregressiveTransform, DependentTransform, MonotonicRQSTransform

    class Ours(MonotonicRQSTransform):  # type: ignore[misc]
        def __init__(self, block: MaskedSplines, raw: Tensor) -> None:
            super(MonotonicRQSTransform, self).__init__()
            self.block, self.raw = block, raw

        def _inverse(self, y: Tensor) -> Tensor:
            return self.block.splines(y, self.raw, inverse=True)[0]

    def inverse(block: MaskedSplines, passes: int) -> Inverse:
        def run(z: Tensor, context: Tensor) -> Tensor:
            def meta(x: Tensor) -> Any:
                raw = block.parameters_for(x.T, context).permute(0, 2, 1)
                return DependentTransform(Ours(block, raw), 1)

            y: Tensor = AutoregressiveTransform(meta, passes).inv(z)
            return y

        return run

    blocks = flow.masked_splines()
    full, one = ([inverse(block, passes) for block in blocks] for passes in (flow.dims, 1))
    return _reversed(flow, full), _reversed(flow, one)


def _reversed(flow: AutoregressiveFlow, inverses: list[Inverse]) -> Inverse:
    def sample(z: Tensor, context: Tensor) -> Tensor:
        for i in reversed(range(len(inverses))):
            z = inverses[i](z[:, flow.orders[i]], context)[:, flow.inverse_orders[i]]
        return z

    return sample


def milliseconds(run: Callable[[], object], seconds: float = 0.3) -> float:
    """Median CPU time of the runs that fit in ``seconds``, at least three (one, if it takes longer)."""
    start = time.process_time()
    run()
    if time.process_time() - start > seconds:
        return (time.process_time() - start) * 1e3
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < 300):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return sorted(times)[len(times) // 2] * 1e3


def slow(loop: tuple[Inverse, Inverse], z: Tensor, context: Tensor) -> tuple[float, bool]:
    """Milliseconds of a library's inverse, and whether they are D times those of one of its equal passes."""
    full, one_pass = loop
    one = milliseconds(lambda: one_pass(z, context))
    if one * z.shape[1] > LONG * 1e3:
        return one * z.shape[1], True
    return milliseconds(lambda: full(z, context)), False


def same_samples(case: Case, rows: int = 4) -> dict[str, float]:
    """Largest differences: our samples from those of the libraries' loops, and float32 from float64.

    Of the whole flow, or of one block where the libraries would need minutes.
    """
    blocks = BLOCKS if case.dims < 500 else 1
    result, samples = {"blocks": float(blocks)}, {}
    for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
        flow = case.flow(blocks).to(dtype)
        z, context = (t.to(dtype) for t in inputs(case, rows))
        samples[name] = flow.sample(z, context)
        for library, loop in (("nflows", nflows_loop), ("zuko", zuko_loop)):
            with plain_torch():
                theirs = loop(flow)[0](z, context)
            result[f"{library}, {name}"] = float((theirs - samples[name]).abs().max())
    result["float32 from float64"] = float((samples["float32"] - samples["float64"]).abs().max())
    result["their float32 from float64"] = float((theirs - samples["float64"]).abs().max())
    return result


def inputs(case: Case, rows: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    sizes = (case.dims, case.context)
    z, context = (torch.randn(rows, n, generator=generator, dtype=torch.float64) for n in sizes)
    return z.to(dtype), context.to(dtype)


def measure(case: Case, showers: int, competitors: bool) -> dict[str, float | str]:
    """Milliseconds a shower by column."""
    flow = case.flow()
    z, context = inputs(case, showers * case.rows)
    unit = case.calls / showers
    row: dict[str, float | str] = {}
    with plain_torch():
        for name, low in (("density torch f32", False), ("density torch bf16", True)):
            row[name] = milliseconds(lambda low=low: flow.to_noise(z, context, low)) * unit
    for name, low in (("f32", False), ("bf16", True)):
        row[f"density {name}"] = milliseconds(lambda low=low: flow.to_noise(z, context, low)) * unit
        before = peak_mib()
        row[f"inverse {name}"] = milliseconds(lambda low=low: flow.sample(z, context, low)) * unit
        row[f"MiB more, {name}"] = peak_mib() - before
    if competitors:
        loops = {"nflows": nflows_native(case), "nflows*": nflows_loop(flow), "zuko*": zuko_loop(flow)}
        for name, loop in loops.items():
            with plain_torch():
                taken, scaled = slow(loop, z, context)
            row[name] = taken * unit
            if scaled:
                row[f"{name} scaled"] = "~"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of autoregressive flows on one thread")
    parser.add_argument("--flows", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 100, 1000])
    parser.add_argument("--ours", action="store_true", help="leave the other libraries out")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kernel = "plain" if flow_library(torch.float32, False) is None else "compiled"
    result: dict[str, Any] = {"kernel": kernel, "torch": torch.__version__}
    columns = [
        "density torch f32",
        "density torch bf16",
        "density f32",
        "inverse f32",
        "density bf16",
        "inverse bf16",
        "nflows",
        "nflows*",
        "zuko*",
    ]
    print("| flow | showers | " + " | ".join(columns) + " | nflows / ours | inverse / density |")
    print("|" + "---|" * (len(columns) + 4))
    with torch.no_grad():
        for name in options.flows:
            case = CASES[name]
            found: dict[str, Any] = {"showers": {}}
            for showers in options.batches:
                # rows of independent voxels: more than this changes nothing but the time it takes
                used = min(showers, max(1, 100_000 // case.rows))
                row = measure(case, used, not options.ours)
                found["showers"][showers] = row | {"measured on": used}
                best, density = row["inverse bf16"], row["density bf16"]
                cells = [f"{row.get(f'{c} scaled', '')}{row[c]:.3g}" if c in row else "" for c in columns]
                ratio = f"{row['nflows'] / best:.0f}" if "nflows" in row else ""  # type: ignore[operator]
                label = f"{showers}" if used == showers else f"{showers} (of which {used})"
                print(
                    f"| {name} | {label} | {' | '.join(cells)} | {ratio} | {best / density:.2f} |", flush=True
                )  # type: ignore[operator]
            if not options.ours:
                found["largest difference"] = same_samples(case)
                print(f"{name}: largest difference of samples {found['largest difference']}", flush=True)
            result[name] = found
    result["peak MiB"] = peak_mib()
    print(f"peak memory {peak_mib():.0f} MiB")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
