"""Export: ONNX, quantisation, engines, metadata."""
