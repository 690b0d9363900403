"""How a graph is written: ONNX, TorchScript, or torch's own exported program."""
