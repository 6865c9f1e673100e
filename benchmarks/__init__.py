"""Benchmarks: scripts that time the suite and other programs on the same work."""
