"""Two processes that share each batch end where one process with the whole batch ends, in either framework."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tolerances import TEAM

MEMBER = Path(__file__).with_name("team_member.py")
LAUNCHERS = {
    "torch": ("torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
    "paddle": ("paddle.distributed.launch", "--nproc_per_node", "2"),
}


def run(framework, target, *how, team=True):
    """What the first process of a team, or a process alone, has at the end."""
    launcher = ["-m", *LAUNCHERS[framework]] if team else []
    if team and framework == "paddle":
        launcher += ["--log_dir", str(target.parent / "log")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PADDLE_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, *launcher, str(MEMBER), framework, str(target), *how],
        env={**kept, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(target) as file:
        return dict(file)


def differences(team, alone):
    """Largest difference of each array, relative to the largest number of its kind (weights, moment1, moment2, curve).

    Some gradients are zero by algebra: their own moments are nothing but rounding.
    """
    assert set(team) == set(alone)
    names = sorted(set(team) - {"size"})
    kinds = {name: name.partition("/")[0] if "/" in name else "weights" for name in names}
    largest = {kind: max(np.abs(alone[n]).max() for n in names if kinds[n] == kind) for kind in kinds.values()}
    return {name: np.abs(team[name] - alone[name]).max() / largest[kinds[name]] for name in names}


@pytest.fixture(params=LAUNCHERS)
def framework(request):
    return request.param


@pytest.fixture
def alone(framework, tmp_path):
    """The end of one process."""
    return run(framework, tmp_path / "alone.npz", team=False)


def test_a_team_of_two_is_one_process(framework, alone, tmp_path):
    """
    Four updates in float64 leave the same weights, moments, losses and norms.
    """
    team = run(framework, tmp_path / "team.npz")
    assert (team["size"], alone["size"]) == (2, 1)
    found = differences(team, alone)
    worst = max(found, key=found.__getitem__)
    assert found[worst] <= TEAM.rtol, f"{worst}: {found[worst]:.1e}; {TEAM.why}"


def test_gradients_that_stay_at_home_are_noticed(framework, alone, tmp_path):
    """
    The same comparison fails when the processes exchange nothing.
    """
    found = differences(run(framework, tmp_path / "team.npz", "alone"), alone)
    assert max(found.values()) > 1e6 * TEAM.rtol
