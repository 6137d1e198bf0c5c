"""Two processes that share each batch end where one process with the whole batch ends, in either framework."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import team_member
from tolerances import TEAM

MEMBER = Path(team_member.__file__)
LAUNCHERS = {
    "torch": ("torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
    "paddle": ("paddle.distributed.launch", "--nproc_per_node", "2"),
}


def run(framework, folder):
    """What the first process of a team has at the end of both runs."""
    launcher = ["-m", *LAUNCHERS[framework]]
    if framework == "paddle":
        launcher += ["--log_dir", str(folder / "log")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PADDLE_", "PYTEST_"))}
    process = subprocess.Popen(
        [sys.executable, *launcher, str(MEMBER), framework, str(folder)],
        env={**kept, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the launcher's children too
        raise
    assert process.returncode == 0, said
    return [dict(np.load(folder / f"{name}.npz")) for name in ("shared", "unshared")]


def differences(team, alone):
    """Largest difference of each array, relative to the largest number of its kind (weights, moment1, moment2, curve).

    Some gradients are zero by algebra: their own moments are nothing but rounding.
    """
    assert set(team) == set(alone)
    names = sorted(set(team) - {"size"})
    kinds = {name: name.partition("/")[0] if "/" in name else "weights" for name in names}
    largest = {kind: max(np.abs(alone[n]).max() for n in names if kinds[n] == kind) for kind in kinds.values()}
    return {name: np.abs(team[name] - alone[name]).max() / largest[kinds[name]] for name in names}


@pytest.mark.parametrize("framework", LAUNCHERS)
def test_pretraining_of_a_team_of_two_is_that_of_one_process(framework, tmp_path):
    """
    Five updates in float64 leave the same weights, moments, losses and norms; not so when nothing is exchanged.
    """
    team_member.run(framework, tmp_path / "alone.npz")
    alone = dict(np.load(tmp_path / "alone.npz"))
    shared, unshared = run(framework, tmp_path)
    assert (shared["size"], alone["size"]) == (2, 1)
    found = differences(shared, alone)
    worst = max(found, key=found.__getitem__)
    assert found[worst] <= TEAM.rtol, f"{worst}: {found[worst]:.1e}; {TEAM.why}"
    assert max(differences(unshared, alone).values()) > 1e6 * TEAM.rtol
