"""Measurements: scripts that time the suite against other programs on the same work."""
