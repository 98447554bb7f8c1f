"""Which series become jobs, what has become of them, and the workers that carry them out."""
