"""Two processes that share each batch end where one process with the whole batch ends, in either framework."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import team_member
from tolerances import TEAM

from splinter.align.compare import Alignment
from splinter.align.files import SafetensorsFile
from splinter.ports.common import checkpoint
from splinter.ports.splinter.pretraining import commands
from splinter.ports.splinter.pretraining.proof import cases as pretraining_cases
from splinter.ports.splinter.proof import cases

MEMBER = Path(team_member.__file__)
LAUNCHERS = {
    "torch": ("torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
    "paddle": ("paddle.distributed.launch", "--nproc_per_node", "2"),
}


def launch(command, folder):
    """Run a command to its end, in a folder; what it says is shown where it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PADDLE_", "PYTEST_"))}
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    with socket.socket() as free:  # torchrun's own port may be taken
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**kept, "OMP_NUM_THREADS": "1", "PATH": scripts, "PET_MASTER_PORT": port},
        shell=isinstance(command, str),
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


@pytest.fixture(scope="module", params=LAUNCHERS)
def runs(request, tmp_path_factory):
    """(framework, name of a run -> weights, moments and curves that its first process ends with), once per framework;
    alone/float64 and alone/float32 are those of one process."""
    framework, folder = request.param, tmp_path_factory.mktemp(request.param)
    (folder / "alone").mkdir()
    for dtype in ("float64", "float32"):
        team_member.run(framework, folder / "alone" / f"{dtype}.npz", dtype)
    launch([sys.executable, "-m", *LAUNCHERS[framework], str(MEMBER), framework, str(folder)], folder)
    return framework, {
        str(path.relative_to(folder).with_suffix("")): dict(np.load(path)) for path in folder.rglob("*.npz")
    }


def aligned(framework, alone, team, dtype):
    """Weights, moments and curves; each relative to the largest number of its kind.

    Some gradients are zero by algebra: their own moments are nothing but rounding.
    """
    alignment = Alignment("splinter-pretraining", "paper", "training", f"two processes, {framework}", dtype)
    alignment.reference = "one process"
    kinds = {name: name.partition("/")[0] if "/" in name else "weights" for name in alone if name != "size"}
    largest = {kind: max(np.abs(alone[n]).max() for n in kinds if kinds[n] == kind) for kind in kinds.values()}
    for name in alignment.common("", alone, team):
        if name != "size":
            alignment.add(name, alone[name], team[name], scale=float(largest[kinds[name]]))
    return alignment


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_pretraining_of_a_team_of_two_is_that_of_one_process(runs, dtype, align):
    """
    Five updates leave the same weights, moments, losses and norms.
    """
    framework, found = runs
    alone, team = found[f"alone/{dtype}"], found[dtype]
    assert (alone["size"], team["size"]) == (1, 2)
    align(aligned(framework, alone, team, dtype), TEAM[dtype])


@pytest.mark.parametrize("fault", [fault.__name__ for fault in team_member.FAULTS])
def test_a_team_that_adds_up_wrongly_is_caught(runs, fault):
    """
    Not by a hair: by a million times what is allowed.
    """
    framework, found = runs
    judged = aligned(framework, found["alone/float64"], found[fault], "float64").judge(TEAM["float64"])
    rounded = [one for one in judged.comparisons if one.allowed]  # counts of updates are to be equal
    assert max(one.max_abs / one.allowed for one in rounded) > 1e6


@pytest.mark.parametrize("framework", LAUNCHERS)
def test_pretraining_starts_as_the_help_says(framework, tmp_path):
    """
    The commands of `splinter pretrain --help`, with two processes, save the weights that one process saves.
    """
    start = {"torch": "torchrun ", "paddle": "python -m paddle.distributed.launch "}[framework]
    lines = commands.TEXTS["pretrain"].text.splitlines()
    shown = next(line.strip() for line in lines if line.strip().startswith(start))
    arguments = (
        f"--framework {framework} --model {shlex.quote(str(cases.tiny()))} --corpus "
        f"{shlex.quote(str(pretraining_cases.corpus('sample/train').folder))} --optimizer hf --dropout 0 --max-steps 3 "
        "--batch-size 8 --device cpu --quiet --output "
    )
    team = shown.replace("--nproc_per_node 8", "--nproc_per_node 2").replace("--framework torch ...", "...")
    assert team.endswith(" ...") and "_node 2" in team
    launch(team.removesuffix("...") + arguments + "team", tmp_path)
    launch(f"splinter pretrain {arguments} alone", tmp_path)
    alone, team = (SafetensorsFile(tmp_path / name / checkpoint.WEIGHTS) for name in ("alone", "team"))
    assert set(alone) == set(team)
    allowed = TEAM["float32"].rtol * max(np.abs(alone[name]).max() for name in alone)
    assert max(np.abs(team[name] - alone[name]).max() for name in alone) <= allowed
