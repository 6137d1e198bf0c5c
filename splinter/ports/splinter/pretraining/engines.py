"""Many independent jobs on many processors: the cores of this machine, or a Ray cluster.

A job is a pure function of its arguments that leaves its result in a file, whole or not at all: it may be
done twice, and the engines may hand it out again when a worker is lost. Framework-free.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
ENGINES = ("local", "ray")
ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
AHEAD = 2
"""Jobs per worker that are read before their turn comes; memory is bounded by it."""


class EngineError(RuntimeError):
    """Workers that cannot be had, or were lost for good."""


def local(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """Results in the order in which they come; one worker means this very process, and one core all the same.

    Workers end at once where nobody waits for their results any more, because of an interruption, say.

    Raises:
        EngineError: a worker was killed. What jobs raise comes through.
    """
    if workers == 1:
        with _one_core():
            yield from map(function, jobs)
        return
    # spawn: a fork of a process with threads (tokenizers, a framework) may hang
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with _quiet():
        made = ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread)
    with made as pool:
        running: set[Future] = set()
        try:
            for job in jobs:
                with _deaf():
                    running.add(pool.submit(_done, function, job))
                if len(running) >= AHEAD * workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (one.result() for one in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        except BrokenProcessPool:
            raise EngineError(
                "a worker was killed (out of memory?); go on with --resume, with fewer --workers"
            ) from None
        except (KeyboardInterrupt, GeneratorExit):
            _end(set(multiprocessing.active_children()) - others)
            raise
        finally:
            for one in running:
                one.cancel()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The process that tidies up after this one starts meanwhile, and does not report that it had to."""
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    try:
        yield
    finally:
        sys.warnoptions.pop()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes that start meanwhile hear no Ctrl-C, which is meant for this one, and no SIGTERM before `_one_thread`;
    this one hears them afterwards: a worker that finds no more than half of its task would tell so at length."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: Iterable[multiprocessing.process.BaseProcess]) -> None:
    """End workers, in the middle of a job as well, which removes what it has half written."""
    for worker in workers:
        while worker.is_alive():  # the first signal may end a job only, see `_done`
            worker.terminate()
            worker.join(0.1)


def _done(function: Callable[[Job], Result], job: Job) -> Result:
    """What a worker does: the job, or an end without a word when it is terminated."""
    try:
        return function(job)
    except _Terminated:
        os._exit(128 + signal.SIGTERM)


class _Terminated(SystemExit):
    """Ends a worker that waits for a job; multiprocessing is silent on it."""


def _terminate(signum: int, frame: Any) -> None:
    raise _Terminated(128 + signum)


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """In this process, too, a tokenizer takes no core that was not given to it."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _one_thread() -> None:
    """Workers share the cores already. An interruption is the business of the process that gave them their jobs."""
    os.environ.update(ONE_THREAD)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # ends this process, if one has come
    signal.signal(signal.SIGTERM, _terminate)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker waits for jobs for ever, also where nobody is left to give it one."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def ray(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int | None = None, address: str | None = None
) -> Iterator[Result]:
    """The same on a Ray cluster; a job whose worker is lost goes to another one.

    Args:
        workers: jobs at a time, and the size of the cluster that is started when there is none; None: all processors.
        address: of a running cluster, such as `auto`; None starts one on this machine.

    Raises:
        EngineError: ray is not installed, there is no such cluster, or a job was lost again and again.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call home
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # jobs use no GPU: ray 2.60 warns about that
    try:
        import ray as cluster  # an extra of its own
    except ImportError:
        raise EngineError(
            "--engine ray needs ray, which is not installed; in a clone: pip install -e '.[ray]'"
        ) from None
    started = not cluster.is_initialized()
    if started:
        more: dict[str, Any] = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
        try:
            cluster.init(log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": ONE_THREAD}, **more)
        except (ConnectionError, RuntimeError, ValueError) as error:
            what = f"no Ray cluster at {address}" if address else "Ray cannot start a cluster here"
            raise EngineError(f"{what}: {' '.join(str(error).split())[:200]}") from None
    workers = workers or max(1, int(cluster.cluster_resources().get("CPU", 1)))
    task = cluster.remote(max_retries=5)(function)
    running: list[Any] = []
    try:
        for job in jobs:
            running.append(task.remote(job))
            if len(running) >= workers:
                done, running = cluster.wait(running)
                yield from _fetched(cluster, done)
        while running:
            done, running = cluster.wait(running)
            yield from _fetched(cluster, done)
    finally:
        for one in running:
            with contextlib.suppress(Exception):
                cluster.cancel(one)
        if started:
            cluster.shutdown()


def _fetched(cluster: Any, done: list[Any]) -> list[Any]:
    try:
        return cluster.get(done)
    except cluster.exceptions.RayTaskError as error:
        if type(error.cause) is RuntimeError:  # of Ray itself: the machine of the worker has no splinter, say
            raise EngineError(f"a Ray worker failed: {str(error.cause).splitlines()[0][:200]}") from None
        raise error.cause from None  # what the job raised
    except cluster.exceptions.RayError as error:
        raise EngineError(f"a job was lost ({type(error).__name__}); go on with --resume") from None
