"""Measurements against other systems; each needs the extra `benchmarks`."""
