"""Encode results as documents that every archive shows: a summary of one page, and a list of the key images."""
