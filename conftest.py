"""Settings for every test: Paddle tuned before its first import, seeds fixed once, slow tests on request."""

import os
import random

import numpy as np
import pytest

from splinter import runtime

# workers that each start a thread per core fight over the cores: four times slower
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, runtime.cores() // workers)))
runtime.tune()


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too (whole trainings, whole files)")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes: run with --slow"))


@pytest.fixture(autouse=True)
def _seeds():
    """No test inherits another one's random state."""
    random.seed(0)
    np.random.seed(0)
