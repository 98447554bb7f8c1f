"""Masks as RT Structure Sets."""
