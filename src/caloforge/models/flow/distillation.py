"""Probability-density distillation: a flow with one-pass sampling learns from one with one-pass density.

CaloFlow II (Krause and Shih, arXiv:2110.11377) and iCaloFlow (arXiv:2305.11934): an inverse autoregressive
flow, the student, shall be the same map as a masked autoregressive flow, the teacher. Both have the same
blocks with the same orders and splines from data to noise, so that a perfect student has the teacher's values
between blocks and the teacher's splines in each; it differs in what its networks read, the noise side of a
block where the teacher's read the data side.

Legend: ``n`` examples, ``D`` dimensions, ``B`` blocks, ``K`` spline bins, ``Q = 3K − 1``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.errors import RecipeError
from caloforge.models.base import Batch
from caloforge.models.flow.cell_model import CellFlowModel
from caloforge.models.lit import drawn, lit_examples, lit_mean
from caloforge.models.networks.autoregressive.flow import AutoregressiveFlow, Direction
from caloforge.models.networks.splines.splines import MIN_SLOPE
from caloforge.models.student import Student
from caloforge.models.trainable import Trainable
from caloforge.settings import Settings

__all__ = ["DensityStudent", "DistillationSettings", "distillation_losses"]

_UNIT_SLOPE = math.log(math.expm1(1.0 - MIN_SLOPE))


class DistillationSettings(Settings):
    """Terms of `distillation_losses`; the defaults are those of the papers.

    Attributes:
        noise, data: weight of the way from noise to data (z-loss) and of that from data (x-loss).
        between: weight of the values between blocks on either way, beside one for where it ends.
        splines: weight of the widths, heights and slopes of the splines on either way.
        teacher_forcing: every block of the student is given the teacher's value on its noise side and not
            that of the student's block before it, so that blocks learn independently of each other.
    """

    noise: float = Field(0.5, ge=0)
    data: float = Field(0.5, ge=0)
    between: float = Field(1.0, ge=0)
    splines: float = Field(1.0, ge=0)
    teacher_forcing: bool = False


def distillation_losses(
    teacher: AutoregressiveFlow,
    student: AutoregressiveFlow,
    x: Tensor,
    context: Tensor,
    generator: torch.Generator,
    settings: DistillationSettings,
    bf16: bool = False,
    lit: Tensor | None = None,
) -> dict[str, Tensor]:
    """How far the student is from the teacher's inverse; mean squares over examples and dimensions.

    z-loss: noise → student → data → teacher → noise. x-loss: data → teacher → noise → student → data. Each
    has the distance between where the way ended and where it began, and those of the values and the splines
    that both flows had at the same place.

    With teacher forcing both are teacher → noise → student → data, from data that the teacher makes of noise
    and from x.

    Args:
        teacher: of direction "density"; gradients go through it, never into it.
        student: of direction "sampling", with the teacher's dimensions, blocks, orders, bins and bound.
        x, context: data (n, D) and context (n, C).
        generator: of the noise.
        settings: weights of the terms.
        bf16: networks in bfloat16.
        lit: which examples count, (n,); by default all.

    Returns:
        "loss", the weighted sum, and "noise" and "data", the mean squared distances where the ways end; a way
        whose weight is 0 is not gone.
    """

    counted = x.new_ones(len(x), dtype=torch.bool) if lit is None else lit

    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Mean square over the examples that count and all dimensions, of values (…, n)."""
        return lit_mean((a - b).square().flatten(0, -2).mean(dim=0), counted)

    def distances(ours: _Pass, others: _Pass, end: int) -> tuple[Tensor, Tensor]:
        at_end = distance(ours.values[end], others.values[end])
        between = [distance(a, b) for a, b in zip(ours.values[1:-1], others.values[1:-1], strict=True)]
        splines = [distance(a, b) for a, b in zip(ours.splines, others.splines, strict=True)]
        loss = at_end + settings.between * sum(between) + settings.splines * sum(splines)
        return loss, at_end.detach()

    def from_data(start: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            seen = _Pass.through(teacher, start, context, bf16)
        forced = seen.values if settings.teacher_forcing else None
        return distances(seen, _Pass.through(student, seen.values[-1].T, context, bf16, forced), end=0)

    def from_noise() -> tuple[Tensor, Tensor]:
        def noise(n: int) -> Tensor:
            return torch.randn(n, x.shape[1], generator=generator, device=x.device, dtype=x.dtype)

        z = drawn(noise, len(x))
        if settings.teacher_forcing:
            with torch.no_grad():
                start = teacher.sample(z, context, bf16)
            return from_data(start)
        generated = _Pass.through(student, z, context, bf16)
        back = _Pass.through(teacher, generated.values[0].T, context, bf16)
        return distances(back, generated, end=-1)

    losses = {"loss": x.new_zeros(())}
    if settings.noise:
        loss, losses["noise"] = from_noise()
        losses["loss"] = losses["loss"] + settings.noise * loss
    if settings.data:
        loss, losses["data"] = from_data(x)
        losses["loss"] = losses["loss"] + settings.data * loss
    return losses


@dataclass
class _Pass:
    """What a flow makes of n examples in its single pass.

    Attributes:
        values: B + 1 of (D, n), from data to noise; the pass began at one of the ends.
        splines: B of (Q, D, n), normalised.
    """

    values: list[Tensor]
    splines: list[Tensor]

    @classmethod
    def through(
        cls,
        flow: AutoregressiveFlow,
        start: Tensor,
        context: Tensor,
        bf16: bool,
        forced: list[Tensor] | None = None,
    ) -> _Pass:
        """The pass over ``start`` (n, D); towards data, blocks may be given another pass's values."""
        to_data = flow.direction == "sampling"
        values, splines = [start.T], []
        blocks = list(enumerate(zip(flow.masked_splines(), flow.orders, strict=True)))
        for i, (block, order) in reversed(blocks) if to_data else blocks:
            ordered = (values[-1] if forced is None else forced[i + 1])[order]
            raw = block.parameters_for(ordered, context, bf16)
            image, _ = block.splines(ordered, raw, inverse=to_data)
            values.append(image[order.argsort()])
            splines.append(_normalised(raw, block.largest_logit))
        return cls(values[::-1], splines[::-1]) if to_data else cls(values, splines)


def _normalised(raw: Tensor, largest_logit: float) -> Tensor:
    """Raw parameters (Q, …) as K widths and K heights, in parts of the mean one, and K − 1 log-slopes.

    Logarithms, since slopes range over orders of magnitude.
    """
    bins = (len(raw) + 1) // 3
    widths, heights, slopes = torch.split(raw, [bins, bins, bins - 1])
    return torch.cat(
        [
            bins * widths.clamp(-largest_logit, largest_logit).softmax(dim=0),
            bins * heights.clamp(-largest_logit, largest_logit).softmax(dim=0),
            (F.softplus(slopes + _UNIT_SLOPE) + MIN_SLOPE).log(),
        ]
    )


class DensityStudent(Student, CellFlowModel):
    """A `CellFlowModel` whose flows sample in one pass and learn from those of a teacher.

    Layer energies and preprocessing are the teacher's, copied, so that a student is complete without it.
    """

    class Settings(CellFlowModel.Settings):
        """Sizes of the student; ``hidden`` and ``depth`` may differ from the teacher's.

        Attributes:
            distillation: terms of the loss.
        """

        distillation: DistillationSettings = DistillationSettings.model_validate({})

    direction: ClassVar[Direction] = "sampling"
    settings: Settings
    teacher_class: ClassVar[type[CellFlowModel]]

    def use_teacher(self, teacher: Trainable) -> None:
        expected = self.teacher_class
        if not isinstance(teacher, expected) or teacher.direction != "density":
            raise RecipeError(
                f"{type(self).__name__} learns from a trained {expected.__name__}, "
                f"got a {type(teacher).__name__}"
            )
        self.mesh.require_same(teacher.mesh, "the teacher's mesh")
        shared = ("energies", "blocks", "bins", "bound", "coordinates", "scale", "width", "noise_mev")
        self.require_same_settings(teacher, shared)
        state = {
            name: tensor
            for name, tensor in teacher.state_dict().items()
            if not name.startswith("flows.") or name.endswith(".orders")
        }
        self.load_state_dict(state, strict=False)
        self._teacher = (teacher,)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {name: list(flow.parameters()) for name, flow in self.flows.items()}

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """`distillation_losses` of a part's flow, on the examples that its teacher learnt from."""
        teacher = self.teacher().to(batch.energies.device)
        assert isinstance(teacher, CellFlowModel)
        x, context, lit = self.examples(batch, part, generator)
        with lit_examples(lit) as rows:
            losses = distillation_losses(
                teacher.flow(part),
                self.flow(part),
                x[rows],
                context[rows],
                generator,
                self.settings.distillation,
                self.bf16,
                lit[rows],
            )
        return losses | {"weight": lit.sum()}
