"""Monotonic rational-quadratic splines (Durkan, Bekasov, Murray, Papamakarios, arXiv:1906.04032).

On [−B, B] a spline is given by the widths and heights of K bins and the slopes at their K − 1 inner knots;
beyond it is the identity, and the slope at ±B is one, so that the map is smooth there. One function serves
both directions: the forward direction has a closed form, and so has the inverse (the stable root of a
quadratic equation).

Shapes: ``(*)`` any shape of scalars, ``(3K − 1, *)`` their unconstrained parameters. The parameters come
first so that every operation over bins runs along contiguous memory, and only what the bin of each scalar
needs is scaled: with bins last and all knots computed, splines cost more than the networks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.models.networks.splines.kernel import compiled_spline, has_kernel

__all__ = ["n_spline_parameters", "rational_quadratic", "rational_quadratic_image"]

LARGEST_LOGIT = 4.0
"""Bins differ in size by at most exp(2 · 4), about 3000."""
MIN_SLOPE = 1e-3
# softplus(_UNIT_SLOPE) + MIN_SLOPE = 1, so that parameters of zero give the identity
_UNIT_SLOPE = math.log(math.expm1(1.0 - MIN_SLOPE))


def n_spline_parameters(bins: int) -> int:
    """Unconstrained parameters of one spline with ``bins`` bins: K widths, K heights, K − 1 slopes."""
    return 3 * bins - 1


def rational_quadratic(
    x: Tensor,
    parameters: Tensor,
    *,
    bound: float,
    inverse: bool = False,
    largest_logit: float = LARGEST_LOGIT,
    compiled: bool = True,
) -> tuple[Tensor, Tensor]:
    """Map x (*) with the splines ``parameters`` (3K − 1, *): the image (*) and log |dy/dx| (*).

    With ``inverse=True`` x is taken as an image; the result and its logarithmic slope are the inverse's.
    Parameters of zero give the identity. Logits of bins are kept within ±``largest_logit``, so that two bins
    differ in size by at most exp(2·largest_logit). With ``compiled`` the kernel is used where it can.
    """
    if compiled and has_kernel(x, parameters):
        return compiled_spline(x, parameters, bound, inverse, largest_logit)
    return _in_torch(x, parameters, bound, inverse, largest_logit)


def rational_quadratic_image(
    x: Tensor,
    parameters: Tensor,
    *,
    bound: float,
    inverse: bool = False,
    largest_logit: float = LARGEST_LOGIT,
    compiled: bool = True,
) -> Tensor:
    """The image of `rational_quadratic` alone, to the last bit; plain torch has less to do for it."""
    if compiled and has_kernel(x, parameters):
        return compiled_spline(x, parameters, bound, inverse, largest_logit)[0]
    return _Bins(x, parameters, bound, inverse, largest_logit).image()


def _in_torch(
    x: Tensor, parameters: Tensor, bound: float, inverse: bool, largest_logit: float
) -> tuple[Tensor, Tensor]:
    bins = _Bins(x, parameters, bound, inverse, largest_logit)
    return bins.image(), bins.log_slope()


class _Bins:
    """The bin in which each scalar lies, (1, N) and (2, N), and where in it.

    On a GPU it is operations that cost: widths and heights, and both slopes, go through each together, and
    nothing is looked up that a sum or a view gives.
    """

    def __init__(
        self, x: Tensor, parameters: Tensor, bound: float, inverse: bool, largest_logit: float
    ) -> None:
        n_bins = (len(parameters) + 1) // 3
        self.x, self.values, self.inverse = x, x.reshape(1, -1), inverse
        self.inside = self.values.clamp(-bound, bound)
        # split rather than slices, each of whose gradients would be as large as all parameters
        flat = parameters.reshape(len(parameters), -1)
        logits, raw = torch.split(flat, [2 * n_bins, n_bins - 1])
        sizes = logits.clamp(-largest_logit, largest_logit).view(2, n_bins, -1).softmax(dim=1)  # (2, K, N)
        sums = sizes.cumsum(dim=1)  # no product with a matrix, which TF32 and autocast would round
        passed = sums[1 if inverse else 0, :-1] <= self.inside * (0.5 / bound) + 0.5  # (K − 1, N)
        at = passed.sum(dim=0, keepdim=True).expand(2, 1, -1)
        size = sizes.gather(1, at)
        # from the middle, because most of the values are near it and round less
        self.x0, self.y0 = ((sums.gather(1, at) - size - 0.5) * (2 * bound)).unbind()
        self.width, self.height = (size * (2 * bound)).unbind()
        knots = F.pad(raw, (0, 0, 1, 1)).unfold(0, 2, 1).permute(2, 0, 1)  # before and behind, (2, K, N)
        slopes = F.softplus(knots.gather(1, at) + _UNIT_SLOPE) + MIN_SLOPE
        # slopes in units of the bin's own; sums below are of numbers that are not negative, and where g
        # cancels, what is added to it is large: exact to rounding, however steep or flat the spline is
        self.unit = self.width / self.height
        self.d0, self.d1 = (slopes * self.unit).unbind()
        self.left, self.right = self._places()

    def _places(self) -> tuple[Tensor, Tensor]:
        """How far each scalar is from the ends of its bin along x, in a unit of its own."""
        if not self.inverse:
            t = ((self.inside - self.x0) / self.width).clamp(0, 1)
            return t, 1 - t
        # the root of the quadratic equation, its discriminant written as g² + 4 ρ (1 − ρ)
        rho = ((self.inside - self.y0) / self.height).clamp(0, 1)
        rest = 1 - rho
        g = torch.addcmul(self.d0 * rest, self.d1, rho, value=-1)
        root = torch.addcmul(rho * rest, g, g, value=0.25).sqrt()
        root = torch.add(root, g.abs(), alpha=0.5)
        return torch.where(g > 0, rho, root), torch.where(g > 0, root, rest)

    def image(self) -> Tensor:
        left, right = self.left, self.right
        if self.inverse:
            image = torch.addcmul(self.x0, left / (left + right), self.width)
        else:
            share = (left * left + self.d0 * (left * right)) / self._bottom()
            image = torch.addcmul(self.y0, share, self.height)
        return torch.where(self.values == self.inside, image, self.values).view_as(self.x)

    def log_slope(self) -> Tensor:
        left, right, bottom = self.left, self.right, self._bottom()
        top = self.d1 * left * left + 2 * (left * right) + self.d0 * right * right
        slope = top / (self.unit * bottom * bottom)
        log_slope = -(slope * (left + right).square()).log() if self.inverse else slope.log()
        return torch.where(self.values == self.inside, log_slope, 0.0).view_as(self.x)

    def _bottom(self) -> Tensor:
        left, right = self.left, self.right
        return left * left + right * right + (self.d0 + self.d1) * (left * right)
