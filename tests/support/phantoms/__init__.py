"""Bodies that only tests and training scripts need."""
