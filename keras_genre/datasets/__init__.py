"""Data sets: which clips there are, and which of them train, validate and test."""
