"""Inputs and expected results made by hand."""
