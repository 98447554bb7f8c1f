"""Convert published checkpoints to ONNX and a card; only this room may import torch (extra `convert`)."""
