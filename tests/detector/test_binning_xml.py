"""The binning XML: read, written, and told where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from caloforge.detector import BoxMesh, CylinderMesh, RaggedCylinderMesh, calochallenge_mesh
from caloforge.detector.binning_xml import read_binning_xml, write_binning_xml
from caloforge.errors import MeshError

SET_1_STYLE = """<Bins>
  <Bin pid="22" name="photon" etaMin="20" etaMax="25">
    <Layer id="0" r_edges="0,5,10" n_bin_alpha="1"/>
    <Layer id="1" r_edges="0, 2,4 ,6" n_bin_alpha="10"/>
    <Layer id="2" r_edges="0" n_bin_alpha="0"/>
    <Layer id="12" r_edges="0,100" n_bin_alpha="1"/>
  </Bin>
  <Bin pid="211" name="pion" etaMin="20" etaMax="25">
    <Layer id="3" r_edges="0,1.5" n_bin_alpha="4"/>
  </Bin>
</Bins>"""


@pytest.mark.parametrize("name", ["1-photons", "1-pions", "2", "3"])
def test_the_meshes_of_the_challenge_come_back(name: str, tmp_path: Path) -> None:
    write_binning_xml(calochallenge_mesh(name), tmp_path / "b.xml")
    assert read_binning_xml(tmp_path / "b.xml") == calochallenge_mesh(name)


def test_particles_and_inactive_layers(tmp_path: Path) -> None:
    path = tmp_path / "b.xml"
    path.write_text(SET_1_STYLE)
    photons = read_binning_xml(path, "photon")
    assert isinstance(photons, RaggedCylinderMesh)
    assert photons.layer_numbers == (0, 1, 12)
    assert photons.layer_sizes.tolist() == [2, 30, 1]
    assert read_binning_xml(path, 211).n_voxels == 4
    with pytest.raises(MeshError, match="several particles, photon"):
        read_binning_xml(path)
    with pytest.raises(MeshError, match="no bins for 'kaon'"):
        read_binning_xml(path, "kaon")


def test_a_depth_makes_it_fit_for_scoring(tmp_path: Path) -> None:
    mesh = CylinderMesh((0.0, 2.0, 4.0), 3, (0.0, 1.0, 5.0))
    write_binning_xml(mesh, tmp_path / "b.xml")
    assert read_binning_xml(tmp_path / "b.xml", layer_depth=2.0) == mesh
    without = read_binning_xml(tmp_path / "b.xml")
    with pytest.raises(MeshError, match="no z_edges"):
        without.index([[0.5, 0, 1]])
    assert without.layer_sizes.tolist() == mesh.layer_sizes.tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<Bins><Bin>", "not a readable binning XML"),
        ("<other/>", "no <Bin>"),
        ("<Bins><Bin/></Bins>", "no layer has bins"),
        ('<Bins><Bin><Layer id="1" r_edges="0,1"/></Bin></Bins>', "lacks n_bin_alpha"),
        ('<Bins><Bin><Layer id="1" r_edges="0,x" n_bin_alpha="1"/></Bin></Bins>', "malformed number"),
        ('<Bins><Bin><Layer id="1" r_edges="0,2,1" n_bin_alpha="1"/></Bin></Bins>', "r_edges of layer 1"),
        (
            '<Bins><Bin><Layer id="1" r_edges="0,2" n_bin_alpha="1"/>'
            '<Layer id="0" r_edges="0,2" n_bin_alpha="1"/></Bin></Bins>',
            "layer 0 comes after layer 1",
        ),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "b.xml"
    path.write_text(text)
    with pytest.raises(MeshError, match=words) as error:
        read_binning_xml(path)
    assert str(path) in str(error.value)


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="not a readable"):
        read_binning_xml(tmp_path / "missing.xml")
    with pytest.raises(MeshError, match="cylinders only"):
        write_binning_xml(BoxMesh.regular((1, 1, 1), (1, 1, 1)), tmp_path / "b.xml")
    with pytest.raises(MeshError, match="cannot write"):
        write_binning_xml(calochallenge_mesh("2"), tmp_path)
