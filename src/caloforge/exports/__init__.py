"""Trained models as files that other programs run: ONNX, TorchScript, exported programs of torch."""

from caloforge.exports.contracts.contract import Contract
from caloforge.exports.export import export
from caloforge.exports.exported import Exported

__all__ = ["Contract", "Exported", "export"]
