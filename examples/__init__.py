"""What a package of one's own can add; tests/integration/test_extending.py runs all of it."""
