"""Other people's file formats to write; how they are read is in `caloforge.data.formats`."""

from caloforge.data.exports.base import EXPORTS, Export, exported_file

__all__ = ["EXPORTS", "Export", "exported_file"]
