"""What the fork server imports, so that no worker imports it again, or looks for garbage among it."""

# ruff: noqa: E402, F401

import gc

from aepretrain.fork_server import COLLECT_AFTER

gc.set_threshold(COLLECT_AFTER)

import sklearn.linear_model
import sklearn.model_selection

from aepretrain.runner import pool

gc.freeze()
