"""Which series get which models, and why the others get none."""
