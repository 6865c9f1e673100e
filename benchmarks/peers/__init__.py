"""The work of `obvious.py` as users of other projects would write it, after those projects' documentation."""
