"""ONNX Runtime sessions and the engines that turn a volume into a segmentation."""
