"""How many operations a shower is where each of them costs a launch: on any device but a CPU.

    python benchmarks/operations.py [MODEL ...] [--precision bfloat16] [--kernels fused] [--kinds]

Counted on a CPU, which is made to do what other devices do: noise and decode of one shower in plain torch,
all rows. "kernels" are the operations that calculate or copy something: views, reshapes that copy nothing
and tensors without values are left out. They are told by the file of caloforge that asks for them, and with
``--kinds`` by the operation. With ``--kernels fused`` what torch's compiler writes is counted, too; on a GPU
it may need two kernels for one of them. Compiling takes minutes, the first time.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor.utils import run_and_get_code
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

import caloforge
from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.pretrained import pretrained_folder, pretrained_names
from caloforge.data import Conditions
from caloforge.generation.noise import torch_normals
from caloforge.models import lit
from caloforge.models.base import ConditionTensors, GeneratorModel
from caloforge.models.networks import fused, linear

ROOT = str(Path(caloforge.__file__).parent)
NOTHING = {"aten::empty", "aten::new_empty", "aten::empty_like", "aten::detach", "aten::_unsafe_view"}
"""Operations that calculate nothing and are no views by their schema."""


LAUNCH = re.compile(
    r"^ +(?:\w+ = )?(?:(cpp_fused)\w*|extern_kernels\.(\w+)|torch\.ops\.aten\.(\w+)[.\w]*)\(", re.M
)
"""A call of a kernel in what torch's compiler writes for a CPU."""


class Operations(TorchDispatchMode):
    """Counts operations, by file of caloforge and by name; ``kernels`` are those that calculate something."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self.n, self.waits = 0, 0
        self.by_file: Counter[str] = Counter()
        self.by_kind: Counter[str] = Counter()

    @property
    def kernels(self) -> int:
        return self.by_kind.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        self.n += 1
        self.waits += name == "aten::_local_scalar_dense"
        if not _is_view(func) and name not in NOTHING:
            self.by_kind[name.removeprefix("aten::")] += 1
            self.by_file[_file()] += 1
        return func(*args, **(kwargs or {}))

    @contextmanager
    def in_compiled(self) -> Iterator[None]:
        """Count what compiled methods launch, too."""
        kept, written = fused._compiled, dict[Any, list[str]]()

        def compiled(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                shapes = [
                    (x.shape, x.stride(), x.dtype)
                    for x in tree_leaves((args, kwargs))
                    if isinstance(x, Tensor)
                ]
                key = method.__qualname__, str(shapes)
                with _disable_current_modes():
                    if key not in written:
                        _, codes = run_and_get_code(kept(method), *args, **kwargs)
                        written[key] = ["".join(found) for found in LAUNCH.findall("".join(codes))]
                    result = method(*args, **kwargs)
                self.by_kind.update(written[key])
                self.by_file[f"{method.__qualname__}, fused"] += len(written[key])
                return result

            return call

        fused._compiled = compiled  # type: ignore[assignment]
        try:
            yield
        finally:
            fused._compiled = kept


def _is_view(func: Any) -> bool:
    """Whether the result of an operation shares the memory of what it is given, and nothing is written."""
    aliases = [argument.alias_info for argument in func._schema.arguments]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _file() -> str:
    """The innermost file of caloforge on the stack."""
    frame = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith(ROOT):
        frame = frame.f_back  # type: ignore[assignment]
    return "" if frame is None else frame.f_code.co_filename[len(ROOT) + 1 :]


@contextmanager
def as_elsewhere() -> Iterator[None]:
    """Let a CPU compute all rows and keep rounded weights, as other devices do."""
    kept = lit.traced, linear.keeps
    lit.traced, linear.keeps = lambda: True, lambda device: True
    try:
        yield
    finally:
        lit.traced, linear.keeps = kept


def shower(name: str, precision: str, kernels: str = "plain") -> tuple[GeneratorModel, Callable[[], Tensor]]:
    """A model that comes with caloforge, and its noise and decode of one shower."""
    checkpoint = Checkpoint.load(pretrained_folder(name))
    model = checkpoint.model("cpu", precision, kernels)
    low, high = checkpoint.valid_range["energy"]
    one = Conditions([(low * high) ** 0.5], 1.5, 0.0, particle="e-", detector=model.detectors[0])
    conditions, number = ConditionTensors.of(one, model.detectors), torch.zeros(1, dtype=torch.int64)

    def make() -> Tensor:
        shapes = {key: torch.Size(shape) for key, shape in model.noise_shapes().items()}
        noise = torch_normals(0, number, {key: shape.numel() for key, shape in shapes.items()})
        noise = {key: noise[key].reshape(1, *shape) for key, shape in shapes.items()}
        return model.decode(noise, conditions)

    return model, make


@torch.no_grad()  # under inference_mode what is made of several operations would be one
def counted(name: str, precision: str, kernels: str = "plain") -> Operations:
    """Operations of one shower of a model that comes with caloforge."""
    _, make = shower(name, precision, kernels)
    operations = Operations()
    with as_elsewhere(), operations.in_compiled():
        make()  # what is derived once may be
        operations.reset()
        with operations:
            make()
    return operations


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=pretrained_names(showers=True))
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--kernels", default="plain", choices=("plain", "fused"))
    parser.add_argument("--kinds", action="store_true")
    given = parser.parse_args(arguments)
    for name in given.models:
        counts = counted(name, given.precision, given.kernels)
        print(f"\n{name}: {counts.kernels} kernels of {counts.n} operations")
        for what, n in (counts.by_kind if given.kinds else counts.by_file).most_common(40):
            print(f"{n:7d}  {what}")


if __name__ == "__main__":
    main()
