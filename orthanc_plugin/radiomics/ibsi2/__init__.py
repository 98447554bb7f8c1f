"""The convolutional filters of IBSI 2, on arrays (z, y, x)."""
