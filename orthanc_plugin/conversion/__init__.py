"""Published checkpoints -> ONNX and a card; the only room that may import torch (extra `convert`)."""
