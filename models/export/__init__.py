"""Writing fitted models as programs: Paddle Inference and ONNX."""
