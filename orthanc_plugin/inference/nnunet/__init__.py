"""nnU-Net v1, v2 and TotalSegmentator on ONNX Runtime, with the original frameworks' results."""
