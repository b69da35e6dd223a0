"""Export of fitted models as programs for Paddle Inference and as ONNX files."""
