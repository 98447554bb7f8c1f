"""Model cards: list, find, install, verify and build models."""
