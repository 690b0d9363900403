"""Trained models as files that other programs run: ONNX, TorchScript, exported programs of torch."""

from caloforge.export.export import export
from caloforge.export.exported import Exported

__all__ = ["Exported", "export"]
