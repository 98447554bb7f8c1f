"""Results against other results: those of experts, those that people corrected, and those of earlier studies."""
