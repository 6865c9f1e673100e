"""The work of `obvious.py` with other libraries, written according to their documentation."""
