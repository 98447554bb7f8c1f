"""Body part regression: from a volume to the place in the body where it lies."""
