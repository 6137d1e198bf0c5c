"""Engines: every job is done once, little is read ahead, a lost worker is told or made good. Ray where installed."""

import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from splinter.ports.splinter import data
from splinter.ports.splinter.pretraining import engines, mining
from splinter.ports.splinter.pretraining.corpus import Mining
from splinter.sample import PATH

# functions that other processes import: test files are no modules to them
ERRANDS = """
import os
import time
from pathlib import Path

from splinter.ports.splinter.pretraining import mining


def square(number):
    return number * number


def first_waits_for_9(job):
    number, mark = job
    if number == 9:
        mark.touch()
    deadline = time.monotonic() + 60
    while number == 0 and not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return number


def fail_at_3(number):
    if number == 3:
        raise ValueError("job 3 is bad")
    return number


def die_at_3(number):
    if number == 3:
        os.kill(os.getpid(), 9)
    return number


def last(folder):
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def settings(_):
    return os.getpid(), os.environ.get("OMP_NUM_THREADS"), os.environ.get("TOKENIZERS_PARALLELISM")


def die_once(job):
    number, mark = job
    _die_first(mark, number == 3)
    return number


def make_but_die_once(job):
    _die_first(job.folder.parent / "killed", job.number == 3)
    return mining.make(job)


def _die_first(mark, asked):
    if asked and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), 9)
"""
TEXT = "\n\n".join(
    f"Ansel Grey of Port Veldmoor counted {number} boats in the morning.\n"
    f"The {thing} of Ansel Grey is old; the {thing} was sold."
    for number, thing in enumerate(
        ["clock", "lighthouse", "school", "bell", "bridge", "canal", "factory", "museum"] * 3
    )
)


@pytest.fixture(scope="module")
def errands(tmp_path_factory):
    """The module of functions, which workers find, too."""
    folder = tmp_path_factory.mktemp("errands")
    (folder / "errands_of_test_engines.py").write_text(ERRANDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("errands_of_test_engines")
    del sys.modules["errands_of_test_engines"]


@pytest.fixture
def mined(tmp_path):
    """Mine a small text: sha256 of every shard as the manifest has it, by name."""
    (tmp_path / "text.txt").write_text(TEXT)
    tokenizer = data.Tokenizer(PATH / "vocab.txt", "hf", literal=True)

    def mine(name, **options):
        out = tmp_path / name
        said = mining.mine([str(tmp_path / "text.txt")], out, tokenizer, Mining(length=48), size=200, **options)
        found = {shard["name"]: shard["sha256"] for shard in json.loads((out / "manifest.json").read_text())["shards"]}
        for shard, digest in found.items():
            assert hashlib.sha256((out / shard).read_bytes()).hexdigest() == digest
        assert said["documents"] == 24 and len(found) > 5
        return found

    return mine


def counting(number, taken):
    """Jobs, with a note of each that is taken."""
    for one in range(number):
        taken.append(one)
        yield one


# -- this machine -----------------------------------------------------------------------------------------


def test_one_worker_is_this_process(errands):
    """
    Jobs in their order, each read when the one before is done; no process and no pickling.
    """
    taken = []
    for number, result in enumerate(engines.local(lambda one: one * 2, counting(5, taken), 1)):
        assert result == number * 2 and len(taken) == number + 1


def test_every_job_is_done_once(errands):
    """
    By two workers, in whatever order; more workers than jobs, and no job at all.
    """
    assert sorted(engines.local(errands.square, range(20), 2)) == [one * one for one in range(20)]
    assert sorted(engines.local(errands.square, range(2), 3)) == [0, 1]
    assert list(engines.local(errands.square, [], 2)) == []


def test_results_come_as_they_are_ready(errands, tmp_path):
    """
    A slow job holds up nobody: the first one waits for the tenth, and the engine does not wait for the first.
    """
    jobs = [(number, tmp_path / "mark") for number in range(12)]
    found = list(engines.local(errands.first_waits_for_9, jobs, 2))
    assert sorted(found) == list(range(12))
    assert found.index(0) >= 6


def test_little_is_read_ahead(errands):
    """
    Two jobs per worker beyond the results, however many there are.
    """
    taken, ahead = [], []
    for done, _ in enumerate(engines.local(errands.square, counting(40, taken), 2)):
        ahead.append(len(taken) - done)
    assert max(ahead) == engines.AHEAD * 2
    assert len(taken) == 40


def test_workers_share_the_cores(errands):
    """
    They are other processes, with one thread each.
    """
    found = list(engines.local(errands.settings, range(8), 2))
    assert {(threads, tokenizers) for _, threads, tokenizers in found} == {("1", "false")}
    assert os.getpid() not in {process for process, _, _ in found}


def test_one_worker_takes_one_core(errands, monkeypatch):
    """
    While it has a job; afterwards all is as it was.
    """
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [rest for _, *rest in engines.local(errands.settings, [0], 1)] == [["1", "false"]]
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true" and "OMP_NUM_THREADS" not in os.environ


def test_workers_end_with_their_parent(errands, tmp_path):
    """
    One that is killed cannot tell them.
    """
    program = (
        "from splinter.ports.splinter.pretraining import engines; import errands_of_test_engines as errands, sys; "
        "from pathlib import Path"
    )
    program += "\nif __name__ == '__main__': list(engines.local(errands.last, [Path(sys.argv[1])] * 2, 2))"
    (tmp_path / "parent.py").write_text(program)
    (tmp_path / "marks").mkdir()
    path = os.pathsep.join([str(Path(errands.__file__).parent), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py", tmp_path / "marks"], env={**os.environ, "PYTHONPATH": path}
    )

    def ended(process):
        try:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def until(done):
        for _ in range(600):
            if done():
                return True
            time.sleep(0.1)
        return False

    try:
        assert until(lambda: len(list((tmp_path / "marks").iterdir())) == 2)
        workers = [psutil.Process(int(mark.name)) for mark in (tmp_path / "marks").iterdir()]
    finally:
        parent.kill()
        parent.wait()
    assert until(lambda: all(map(ended, workers)))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_job_raises_comes_through(errands, workers):
    """
    Its type and its words; the other workers end.
    """
    taken = []
    with pytest.raises(ValueError, match="job 3 is bad"):
        list(engines.local(errands.fail_at_3, counting(1000, taken), workers))
    assert len(taken) < 1000


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_reader_of_jobs_raises_comes_through(errands, workers):
    """
    A fault in the text is not one of the engine.
    """

    def broken():
        yield 1
        raise KeyError("line 2")

    with pytest.raises(KeyError, match="line 2"):
        list(engines.local(errands.square, broken(), workers))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda how: how.name)
@pytest.mark.parametrize("moment", ["starting", "working"])
def test_an_interruption_ends_the_workers_in_silence(errands, tmp_path, how, moment):
    """
    Ctrl-C reaches all processes of a terminal, SIGTERM the first one alone: no worker says a word, or stays.
    """
    program = """
import sys
from pathlib import Path

from splinter import stopping
from splinter.ports.splinter.pretraining import engines
import errands_of_test_engines as errands

if __name__ == "__main__":
    try:
        with stopping.raised():
            print("here", flush=True)
            list(engines.local(errands.last, [Path(sys.argv[1])] * 2, 2))
    except KeyboardInterrupt as error:
        print(*error.args)
"""
    (tmp_path / "parent.py").write_text(program)
    (tmp_path / "marks").mkdir()
    path = os.pathsep.join([str(Path(errands.__file__).parent), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py", tmp_path / "marks"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert parent.stdout.readline() == b"here\n"
    group = psutil.Process(parent.pid)
    while moment == "starting" and len(group.children()) < 2:
        time.sleep(0.001)
    while moment == "working" and len(list((tmp_path / "marks").iterdir())) < 2:
        time.sleep(0.01)
    workers = group.children()
    (os.killpg if how == signal.SIGINT else os.kill)(parent.pid, how)
    said = parent.communicate(timeout=60)
    assert said == ({signal.SIGINT: b"interrupted\n", signal.SIGTERM: b"terminated\n"}[how], b"")
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def test_a_killed_worker_is_told(errands):
    """
    With the way out, instead of waiting for ever.
    """
    with pytest.raises(engines.EngineError, match=r"a worker was killed .*; go on with --resume"):
        list(engines.local(errands.die_at_3, range(20), 2))


def test_a_killed_worker_leaves_what_can_be_resumed(errands, mined, monkeypatch):
    """
    Mining goes on and ends in the same shards as without a loss.
    """
    with monkeypatch.context() as patch:
        patch.setattr(mining, "make", errands.make_but_die_once)
        with pytest.raises(engines.EngineError):
            mined("out", workers=2)
    assert mined("out", workers=2, resume=True) == mined("one")


# -- ray --------------------------------------------------------------------------------------------------


def test_without_ray_it_is_said_how_to_get_it(monkeypatch, errands):
    """
    One line of ours, no ImportError.
    """
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        monkeypatch.setenv(name, "0")  # the engine sets them, and monkeypatch takes them back
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        engines.EngineError, match=r"--engine ray needs ray, which is not installed; in a clone: pip install -e"
    ):
        list(engines.ray(errands.square, range(3), 2))


def test_ray_starts_a_cluster_and_ends_it(monkeypatch, mined):
    """
    Where there is none; an address at which there is none is an error of ours.
    """
    ray = pytest.importorskip("ray", reason="needs ray: pip install '.[ray]'")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    assert mined("ray", engine="ray", workers=1) == mined("local")
    assert not ray.is_initialized()
    with pytest.raises(engines.EngineError, match="no Ray cluster at auto: Could not find any running Ray instance"):
        mined("other", engine="ray", address="auto")


@pytest.fixture(scope="module")
def cluster(errands):
    """Ray with two workers on this machine."""
    ray = pytest.importorskip("ray", reason="needs ray: pip install '.[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(errands.__file__).parent))  # its workers know no sys.path of ours
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield ray
        ray.shutdown()


def test_ray_does_every_job_once(cluster, errands):
    """
    The results of the local engine, in whatever order, and little is read ahead; the user's cluster stays.
    """
    taken, ahead, found = [], [], []
    for done, result in enumerate(engines.ray(errands.square, counting(20, taken), 2)):
        ahead.append(len(taken) - done)
        found.append(result)
    assert sorted(found) == sorted(engines.local(errands.square, range(20), 2))
    assert max(ahead) == 2  # one per worker: a job in waiting would run on a larger cluster
    assert cluster.is_initialized()


def test_what_a_job_raises_comes_through_ray(cluster, errands):
    """
    As itself, not in the wrapping of Ray.
    """
    with pytest.raises(ValueError, match=r"^job 3 is bad$") as error:
        list(engines.ray(errands.fail_at_3, range(20), 2))
    assert type(error.value) is ValueError


def test_ray_loses_no_job_with_its_worker(cluster, errands, tmp_path):
    """
    It is done by another one, and none is done twice.
    """
    mark = tmp_path / "killed"
    assert sorted(engines.ray(errands.die_once, [(number, mark) for number in range(10)], 2)) == list(range(10))
    assert mark.exists()


def test_a_job_that_kills_every_worker_is_told(cluster, errands):
    """
    After some attempts.
    """
    with pytest.raises(engines.EngineError, match=r"a job was lost \(WorkerCrashedError\); go on with --resume"):
        list(engines.ray(errands.die_at_3, range(6), 2))


def test_ray_makes_the_same_shards(cluster, mined):
    """
    Bit for bit those of the local engine.
    """
    assert mined("ray", engine="ray", workers=2) == mined("local")


def test_a_worker_killed_in_ray_changes_no_shard(cluster, errands, mined, monkeypatch, tmp_path):
    """
    One dies in the middle; nothing is lost, doubled or left over.
    """
    with monkeypatch.context() as patch:
        patch.setattr(mining, "make", errands.make_but_die_once)
        found = mined("ray", engine="ray", workers=2)
    assert (tmp_path / "killed").exists()
    assert found == mined("local")
    assert {path.name for path in (tmp_path / "ray").iterdir()} == {
        path.name for path in (tmp_path / "local").iterdir()
    }
