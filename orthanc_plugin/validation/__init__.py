"""Validation: AI against known truth, and phantoms whose truth is known."""
