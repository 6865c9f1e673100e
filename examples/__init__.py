"""Example plugins. tests/integration/test_extending.py runs them."""
