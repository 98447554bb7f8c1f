"""Quality checks of masks."""
