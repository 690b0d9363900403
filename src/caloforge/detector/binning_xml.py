"""The binning XML of the Fast Calorimeter Simulation Challenge 2022 (arXiv:2410.21611).

``<Bins>`` holds one ``<Bin pid= name= etaMin= etaMax=>`` per particle, which lists its layers in the order of
the voxels: ``<Layer id="0" r_edges="0,5,10" n_bin_alpha="1"/>``, edges in mm. A layer with fewer than two
edges (``r_edges="0"``) is not read out. The XML knows no depths.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

from caloforge.detector.calochallenge import calochallenge_mesh
from caloforge.detector.mesh import CylinderMesh, Mesh, RaggedCylinderMesh, RaggedLayer
from caloforge.errors import MeshError
from caloforge.runtime.files import write_bytes

__all__ = ["read_binning_xml", "write_binning_xml"]


def read_binning_xml(
    path: str | os.PathLike[str], particle: str | int | None = None, *, layer_depth: float | None = None
) -> Mesh:
    """Read a mesh from a binning XML.

    Args:
        path: the file.
        particle: ``name`` or ``pid`` of the bin to take; needed only where the file has several.
        layer_depth: depth of every layer in mm. With it, equal layers make a `CylinderMesh`.

    Returns:
        The mesh of data set 2 or 3 where the bins are theirs; otherwise a `RaggedCylinderMesh` (without
        depths, so that deposits cannot be scored on it, unless ``layer_depth`` is given).

    Raises:
        MeshError: not such a file, the particle is not in it, or layers or edges are out of order.
    """
    path = Path(path)
    bin_ = _bin_of_particle(path, particle)
    layers: list[RaggedLayer] = []
    last = -1
    for element in bin_.iter("Layer"):
        number, edges, n_phi = _layer_fields(path, element)
        if number <= last:
            raise MeshError(
                f"{path}: layer {number} comes after layer {last}; list layers by increasing id, "
                "since voxels are stored in that order"
            )
        last = number
        if len(edges) < 2:
            continue
        depth = None if layer_depth is None else (len(layers) * layer_depth, (len(layers) + 1) * layer_depth)
        try:
            layers.append(RaggedLayer(number, n_phi, edges, depth))
        except MeshError as error:
            raise MeshError(f"{path}: {error}") from error
    if not layers:
        raise MeshError(f"{path}: no layer has bins; expected <Layer id= r_edges= n_bin_alpha=/> elements")
    return _simplest(layers, layer_depth)


def write_binning_xml(
    mesh: Mesh,
    path: str | os.PathLike[str],
    *,
    particle: str = "electron",
    pid: int = 11,
    eta: tuple[float, float] = (0.0, 0.05),
) -> None:
    """Write the bins of a cylindrical mesh as a binning XML; its depths cannot be kept.

    Layer numbers that the mesh skips are written as layers without bins, as the challenge does.

    Raises:
        MeshError: the mesh is not a cylinder, which the XML cannot describe.
    """
    if isinstance(mesh, CylinderMesh):
        active = dict.fromkeys(range(mesh.shape[0]), (mesh.n_phi, mesh.r_edges))
    elif isinstance(mesh, RaggedCylinderMesh):
        active = {layer.number: (layer.n_phi, layer.r_edges) for layer in mesh.layers}
    else:
        raise MeshError(f"a binning XML describes cylinders only, not a {mesh}")
    bins = ET.Element("Bins")
    bounds = {"etaMin": f"{eta[0]:g}", "etaMax": f"{eta[1]:g}"}
    bin_ = ET.SubElement(bins, "Bin", {"pid": str(pid), "name": particle} | bounds)
    for number in range(max(active) + 1):
        n_phi, edges = active.get(number, (1, (0.0,)))
        values = ",".join(repr(e).removesuffix(".0") for e in edges)
        ET.SubElement(bin_, "Layer", {"id": str(number), "r_edges": values, "n_bin_alpha": str(n_phi)})
    ET.indent(bins)
    write_bytes(path, ET.tostring(bins, encoding="utf-8", xml_declaration=True), error=MeshError)


def _bin_of_particle(path: Path, particle: str | int | None) -> ET.Element:
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError) as error:
        raise MeshError(f"{path}: not a readable binning XML: {error}") from error
    bins = list(root.iter("Bin"))
    if not bins:
        raise MeshError(f"{path}: no <Bin> element, so this is not a CaloChallenge binning XML")
    names = ", ".join(f"{b.get('name')} (pid {b.get('pid')})" for b in bins)
    if particle is None:
        if len(bins) > 1:
            raise MeshError(f"{path} has bins for several particles, {names}; name one of them")
        return bins[0]
    chosen = [b for b in bins if str(particle) in (b.get("name"), b.get("pid"))]
    if not chosen:
        raise MeshError(f"{path} has no bins for {particle!r}; it has {names}")
    return chosen[0]


def _layer_fields(path: Path, element: ET.Element) -> tuple[int, tuple[float, ...], int]:
    given = {key: element.get(key) for key in ("id", "r_edges", "n_bin_alpha")}
    missing = [key for key, value in given.items() if value is None]
    if missing:
        raise MeshError(f"{path}: <Layer {element.attrib}> lacks {', '.join(missing)}")
    try:
        edges = tuple(float(text) for text in str(given["r_edges"]).split(",") if text.strip())
        return int(str(given["id"])), edges, int(str(given["n_bin_alpha"]))
    except ValueError as error:
        raise MeshError(f"{path}: layer {given['id']!r} has a malformed number: {error}") from error


def _simplest(layers: list[RaggedLayer], layer_depth: float | None) -> Mesh:
    first = layers[0]
    equal = all(la.n_phi == first.n_phi and la.r_edges == first.r_edges for la in layers)
    counted_from_0 = [la.number for la in layers] == list(range(len(layers)))
    if equal and counted_from_0:
        if layer_depth is not None:
            z_edges = tuple(i * layer_depth for i in range(len(layers) + 1))
            return CylinderMesh(z_edges, first.n_phi, first.r_edges)
        for name in ("2", "3"):
            known = calochallenge_mesh(name)
            assert isinstance(known, CylinderMesh)
            near = len(known.r_edges) == len(first.r_edges) and all(
                abs(a - b) < 1e-6 for a, b in zip(known.r_edges, first.r_edges, strict=True)
            )
            if near and known.shape == (len(layers), first.n_phi, len(first.r_edges) - 1):
                return known
    return RaggedCylinderMesh(tuple(layers))
