"""Convolutional L2LFlows and L2LFlows: a causal flow for every layer, of U-Net couplings or of MADE blocks.

Legend: ``n`` showers, mesh (Z, P, R), ``L`` layers at once, ``M`` context maps and ``V`` context numbers
of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import MeshError
from caloforge.models.base import Batch
from caloforge.models.coordinates import FIT_BATCH, RunningMoments
from caloforge.models.flow.causal import CausalLayerFlow
from caloforge.models.networks.autoregressive.flow import AutoregressiveFlow
from caloforge.models.networks.convolution import ConvolutionFlow, squeeze

__all__ = ["ConvL2LFlows", "L2LFlows"]

LEAST_SPREAD = 1e-2


class ConvL2LFlows(CausalLayerFlow):
    """Convolutional L2LFlows (Buss, Gaede, Kasieczka, Krause, Shih, arXiv:2405.20407), on regular meshes."""

    class Settings(CausalLayerFlow.Settings):
        """Sizes of the flow of a layer.

        Attributes:
            squeeze: rows and columns that become channels together; by default 2 along axes of even length.
            blocks: steps of ActNorm, coupling and 1×1 convolution.
            bins, bound: of the splines.
            unet_width, levels, depth: channels of the couplings' U-Nets, levels below the finest,
                convolutions on each.
            norm: normalise activations over the channels and positions of an example.
            context: channels that the context is made into.
        """

        squeeze: tuple[int, int] | None = None
        blocks: int = Field(8, ge=1)
        bins: int = Field(10, ge=2)
        bound: float = Field(15.0, gt=0)
        unet_width: int = Field(32, ge=1)
        levels: int = Field(2, ge=0)
        depth: int = Field(2, ge=1)
        norm: bool = True
        context: int = Field(8, ge=1)

    block_size: ClassVar[int] = 256
    example: ClassVar[Mapping[str, Any]] = {"blocks": 2, "unet_width": 8, "levels": 1}
    settings: Settings
    cell_flow: ConvolutionFlow

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        _, rows, columns = self.shape
        factors = s.squeeze or (2 - rows % 2, 2 - columns % 2)
        if rows % factors[0] or columns % factors[1] or factors[0] * factors[1] < 2:
            raise MeshError(
                f"settings.squeeze {list(factors)} on layers of {rows} × {columns} cells; give divisors of "
                "them whose product is 2 or more"
            )
        self.cell_flow = ConvolutionFlow(
            self.n_flows,
            rows,
            columns,
            factors,
            maps=self.n_maps,
            vector=self.n_vector,
            context=s.context,
            periodic=self.periodic,
            blocks=s.blocks,
            bins=s.bins,
            bound=s.bound,
            width=s.unet_width,
            levels=s.levels,
            depth=s.depth,
            norm=s.norm,
        )

    def fit(self, showers: Showers) -> None:
        super().fit(showers)
        moments = RunningMoments((self.n_flows, self.cell_flow.channels, 1, 1))
        generator = torch.Generator().manual_seed(0)
        for energies, conditions in showers.batches(FIT_BATCH):
            batch = Batch.with_energies(energies, conditions)
            y = self.cell_coordinates(batch.energies, generator)
            if self.settings.shared:
                y = y[batch.energies.sum(dim=(2, 3)) > 0][:, None]
            moments.add(squeeze(y, self.cell_flow.factors))
        mean, std = (v[:, :, 0, 0].float() for v in (moments.mean, moments.std()))
        self.cell_flow.start(mean, std.clamp_min(LEAST_SPREAD))

    def cell_log_prob(self, y: Tensor, maps: Tensor, vector: Tensor, bf16: bool) -> Tensor:
        return self.cell_flow.log_prob(y, maps, vector, bf16)

    def cell_sample(self, z: Tensor, maps: Tensor, vector: Tensor, layer: int, bf16: bool) -> Tensor:
        group = slice(0, 1) if self.settings.shared else slice(layer, layer + 1)
        return self.cell_flow.sample(z[:, None], maps[:, None], vector[:, None], group, bf16)[:, 0]


class _LayerMAF(nn.Module):
    """Embedding of the layers before and masked autoregressive flow of one layer's cells."""

    def __init__(self, cells: int, maps: int, vector: int, context: int, **settings: float) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(maps * cells + vector, 2 * context), nn.SiLU(), nn.Linear(2 * context, context)
        )
        self.flow = AutoregressiveFlow(cells, context, **settings)  # type: ignore[arg-type]

    def given(self, maps: Tensor, vector: Tensor) -> Tensor:
        """Context (n, C) of maps (n, M, P, R) and numbers (n, V)."""
        embedded: Tensor = self.embed(torch.cat([maps.flatten(1), vector], dim=1))
        return embedded


class L2LFlows(CausalLayerFlow):
    """L2LFlows (arXiv:2302.11594): a masked autoregressive flow for every layer."""

    class Settings(CausalLayerFlow.Settings):
        """Sizes of the flow of a layer.

        Attributes:
            blocks, hidden, depth, bins, bound: MADE blocks, their hidden units and layers, and their splines.
            context: numbers that the context is embedded in.
        """

        blocks: int = Field(6, ge=1)
        hidden: int = Field(200, ge=1)
        depth: int = Field(1, ge=1)
        bins: int = Field(8, ge=2)
        bound: float = Field(14.0, gt=0)
        context: int = Field(64, ge=1)

    example: ClassVar[Mapping[str, Any]] = {"blocks": 2, "hidden": 16}
    settings: Settings
    cell_flow: nn.ModuleList

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s, cells = self.settings, self.shape[1] * self.shape[2]
        self.cell_flow = nn.ModuleList(
            _LayerMAF(
                cells,
                self.n_maps,
                self.n_vector,
                s.context,
                blocks=s.blocks,
                hidden=s.hidden,
                depth=s.depth,
                bins=s.bins,
                bound=s.bound,
            )
            for _ in range(self.n_flows)
        )

    def cell_log_prob(self, y: Tensor, maps: Tensor, vector: Tensor, bf16: bool) -> Tensor:
        log_p = []
        for i, layer in enumerate(self.cell_flow):
            assert isinstance(layer, _LayerMAF)
            context = layer.given(maps[:, i], vector[:, i])
            log_p.append(layer.flow.log_prob(y[:, i].flatten(1), context, bf16))
        return torch.stack(log_p, dim=1)

    def cell_sample(self, z: Tensor, maps: Tensor, vector: Tensor, layer: int, bf16: bool) -> Tensor:
        flow = self.cell_flow[0 if self.settings.shared else layer]
        assert isinstance(flow, _LayerMAF)
        return flow.flow.sample(z.flatten(1), flow.given(maps, vector), bf16).view_as(z)
