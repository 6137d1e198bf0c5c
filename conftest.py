"""Settings for every test: Paddle tuned before its first import, seeds fixed once, slow tests on request."""

import os
import random
import re

import numpy as np
import pytest

from splinter import runtime


def pytest_configure(config):
    worker = getattr(config, "workerinput", None)
    if worker is None and config.getoption("numprocesses", None):
        return  # the controller of pytest-xdist computes nothing, and its environment is the workers'
    # workers that each start a thread per core fight over the cores: ten times slower
    threads = max(1, runtime.cores() // (worker["workercount"] if worker else 1))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # whether or not whoever runs the tests has built them; `tox -e kernels` sets 1
    os.environ.setdefault("SPLINTER_KERNELS", "0")
    runtime.tune()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Steps that read the same files run in one worker, which keeps what it has read: `dev_data` and `metric` take most
    of a port's time, and either would read whole files anew. All other tests are dealt out one by one."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFiles(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            found = re.search(r"test_steps\.py::test_(?:dev_data|metric)\[(.+?)-exact", nodeid)
            return found[1] if found else nodeid

    return ByFiles(config, log)


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
    """No test inherits another one's random state; the frameworks' own are seeded where numbers are drawn."""
    random.seed(0)
    np.random.seed(0)
