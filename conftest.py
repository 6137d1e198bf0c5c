"""Settings for every test: Paddle tuned before its first import, seeds fixed once, slow tests on request."""

import random

import numpy as np
import pytest

from splinter import runtime

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
