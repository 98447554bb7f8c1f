"""Model cards: list, find, verify, build."""
