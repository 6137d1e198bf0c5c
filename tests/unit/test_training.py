"""common/training: steps, rates, order of batches, and a run that can be killed at any update."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.proof import loop
from splinter.ports.common.training import TrainingError
from splinter.ports.common.training import state as states
from splinter.ports.common.training.best import Best
from splinter.ports.common.training.feed import Table, order, parts, trim
from splinter.ports.common.training.fit import Keep, Watch, fit
from splinter.ports.common.training.log import append
from splinter.ports.common.training.schedule import Plan, Recipe, plan, rate, rates
from splinter.ports.common.training.state import forget, latest, save

SHORT = Recipe(epochs=4, min_steps=0, batch_size=3, learning_rate=0.5)  # 10 rows: 4 batches, 16 updates


class Killed(BaseException):
    """What a signal does to a run."""


class Toy:
    """A trainer of two numbers: noise from the seed, momentum, and a loss that tells which rows it saw."""

    def __init__(self, die_at=None, loss_of=float, norm_of=abs):
        self.arrays = {"weight": np.zeros(2)} | {f"moment{n}/weight": np.zeros(2) for n in (1, 2)}
        self.updates, self.die_at, self.loss_of, self.norm_of = 0, die_at, loss_of, norm_of

    def seed(self, *numbers):
        self.rng = np.random.default_rng(numbers)

    def step(self, batch, rate):
        loss = self.loss_of(batch["x"].sum())
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}")
        if self.updates == self.die_at:
            raise Killed
        self.arrays["moment1/weight"] *= 0.9
        self.arrays["moment1/weight"] += batch["x"].sum() + self.rng.normal(size=2)
        self.arrays["weight"] -= rate * self.arrays["moment1/weight"]
        self.updates += 1
        return loss, self.norm_of(loss)

    def state(self):
        return self.arrays if self.updates else {"weight": self.arrays["weight"]}  # no moments before the first update

    def load(self, state, updates):
        self.arrays, self.updates = {name: state[name].copy() for name in state}, updates

    def bits(self):
        return {name: array.tobytes() for name, array in self.arrays.items()}


def columns(rows=10):
    """One input whose value is the row's number."""
    return {"x": np.arange(float(rows))}


def plain(log):
    """A log without its times."""
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in log]


def fitted(
    trainer, data, recipe, folder=None, resume=False, save_every=50, about=(), watch=None, watch_every=0, **table
):
    """`fit` over a table, or over a feed of its own."""
    feed = Table(data, recipe, **table) if isinstance(data, dict) else data
    keep = None if folder is None else Keep(folder, save_every, resume, about=dict(about))
    return fit(trainer, feed, recipe, keep, Watch(watch, watch_every))


def killed(folder, at, recipe=SHORT, save_every=3):
    """A run in `folder` that dies at update number `at`, from 0."""
    with pytest.raises(Killed):
        fitted(Toy(die_at=at), columns(), recipe, folder, save_every=save_every)


# -- the step rule ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "per_epoch", "total", "updates"),
    [
        (17, 2, 200, 202),
        (34, 3, 200, 201),
        (65, 6, 200, 204),
        (133, 12, 200, 204),
        (129, 11, 200, 209),
        (258, 22, 220, 220),
        (266, 23, 230, 230),
        (520, 44, 440, 440),
        (516, 43, 430, 430),
        (1040, 87, 870, 870),
        (1, 1, 200, 201),
    ],
)
def test_steps_of_the_few_shot_recipe(features, per_epoch, total, updates):
    """
    Ten epochs, at least 200 steps, whole epochs beyond them; numbers measured from the authors' rule on SQuAD.
    """
    found = plan(features, Recipe())
    assert (found.per_epoch, found.total, found.updates) == (per_epoch, total, updates)
    assert found.warmup == total // 10


def test_max_steps_cuts_the_run_and_not_the_schedule():
    """
    A run cut short has the learning rates of the whole one.
    """
    short, whole = plan(258, replace(Recipe(), max_steps=7)), plan(258, Recipe())
    assert short == replace(whole, updates=7)
    assert plan(258, replace(Recipe(), max_steps=10_000)) == whole


def test_nothing_to_train_on_is_an_error():
    """
    No features, no run.
    """
    with pytest.raises(TrainingError, match="the data gave no features"):
        plan(0, Recipe())


# -- the learning rate ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update", "expected"),
    [(0, 0.0), (1, 0.05), (19, 0.95), (20, 1.0), (21, 179 / 180), (110, 0.5), (199, 1 / 180), (200, 0.0), (250, 0.0)],
)
def test_the_rate_climbs_and_falls_in_straight_lines(update, expected):
    """
    From 0 to the peak in 20 updates, to 0 at 200, and 0 beyond: it never turns negative.
    """
    assert rate(plan(17, Recipe()), 1.0, update) == pytest.approx(expected, abs=1e-15)


def test_without_warm_up_the_first_rate_is_the_peak():
    """
    A warm-up of no updates divides by nothing.
    """
    assert rate(plan(17, replace(Recipe(), warmup=0.0)), 3e-5, 0) == 3e-5


def test_a_schedule_that_is_all_warm_up_ends_at_zero():
    """
    Nor does a fall of no updates.
    """
    found = plan(17, replace(Recipe(), warmup=1.0))
    assert (rate(found, 1.0, 199), rate(found, 1.0, 200)) == (199 / 200, 0.0)


# -- the order of the batches -----------------------------------------------------------------------------


def test_every_row_comes_once_per_epoch():
    """
    Ten rows in batches of three: 3, 3, 3 and 1, in each of four epochs.
    """
    batches = list(order(10, plan(10, SHORT), SHORT))
    assert [len(batch) for batch in batches] == [3, 3, 3, 1] * 4
    for epoch in range(4):
        assert sorted(np.concatenate(batches[4 * epoch : 4 * epoch + 4])) == list(range(10))


def test_each_epoch_and_each_seed_has_its_own_order():
    """
    The permutation is a function of seed and epoch: another one for each, the same one again.
    """
    long = replace(SHORT, batch_size=100)
    first, second, *_ = (tuple(rows) for rows in order(100, plan(100, long), long))
    (other, *_) = (tuple(rows) for rows in order(100, plan(100, long), replace(long, seed=43)))
    assert len({first, second, other, tuple(range(100))}) == 4
    assert first == tuple(next(order(100, plan(100, long), long)))


@pytest.mark.parametrize(
    "change",
    [{}, {"min_steps": 40}, {"max_steps": 5}, {"min_steps": 40, "max_steps": 38}, {"max_steps": 10**6}],
)
def test_the_references_loop_takes_the_batches_of_ours(change):
    """
    It is written a second time, and takes as many updates whatever stops them.
    """
    columns = {"x": np.arange(17), "y": np.arange(34).reshape(17, 2)}
    recipe = replace(Recipe(epochs=3, batch_size=4, min_steps=0), **change)
    theirs, ours = list(loop.epochs(columns, recipe)), [batch for batch, _ in Table(columns, recipe).batches(0)]
    assert len(theirs) == len(ours) == plan(17, recipe).updates
    for their, our in zip(theirs, ours, strict=True):
        assert their.keys() == our.keys() and all(np.array_equal(their[name], our[name]) for name in their)


@pytest.mark.parametrize("start", [0, 1, 3, 4, 7, 15, 16])
def test_the_order_can_be_entered_anywhere(start):
    """
    Batches from update `start` on are the tail of the whole list, inside an epoch and between two.
    """
    whole = [rows.tolist() for rows in order(10, plan(10, SHORT), SHORT)]
    assert [rows.tolist() for rows in order(10, plan(10, SHORT), SHORT, start)] == whole[start:]


@pytest.mark.parametrize(("longest", "tokens"), [(1, 8), (8, 8), (9, 16), (17, 20), (20, 20)])
def test_trim_cuts_padding_in_steps_of_eight(longest, tokens):
    """
    The longest row stays whole, the width is a multiple of 8 or the full one, other columns are left alone.
    """
    mask = np.zeros((2, 20), "int64")
    mask[0, :longest] = 1
    batch = trim({"attention_mask": mask, "input_ids": mask + 7, "start_positions": np.arange(2)})
    assert batch["attention_mask"].shape == batch["input_ids"].shape == (2, tokens)
    assert batch["attention_mask"].sum() == longest
    assert batch["start_positions"].tolist() == [0, 1]


# -- the run ----------------------------------------------------------------------------------------------


def test_the_log_has_an_entry_per_update(tmp_path):
    """
    Step from 1, rate, loss, norm and seconds; the file holds what the function returns.
    """
    log = fitted(Toy(), columns(), SHORT, tmp_path)
    schedule = plan(10, SHORT)
    assert [entry["step"] for entry in log] == list(range(1, 17))
    assert [entry["lr"] for entry in log] == [rate(schedule, 0.5, update) for update in range(16)]
    assert [entry["loss"] for entry in log] == [rows.sum() for rows in order(10, schedule, SHORT)]
    assert set(log[0]) == {"step", "lr", "loss", "norm", "seconds"}
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == log


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    """
    The engine's training step leaves no files, and gets the same run.
    """
    monkeypatch.chdir(tmp_path)
    assert plain(fitted(Toy(), columns(), SHORT)) == plain(fitted(Toy(), columns(), SHORT, tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_batches_are_prepared_before_they_go_in():
    """
    The last touch sees the batch's own rows.
    """
    log = fitted(Toy(), columns(), SHORT, prepare=lambda batch: {"x": 10 * batch["x"]})
    assert [entry["loss"] for entry in log] == [10 * rows.sum() for rows in order(10, plan(10, SHORT), SHORT)]


@pytest.mark.parametrize("at", [0, 2, 3, 4, 6, 15])
def test_a_killed_run_ends_where_the_whole_one_ends(tmp_path, at):
    """
    Before the first checkpoint, right after one, or long after: weights, moments and log are equal bit for bit.
    """
    whole, resumed = Toy(), Toy()
    expected = fitted(whole, columns(), SHORT, tmp_path / "whole", save_every=3)
    killed(tmp_path / "run", at)
    log = fitted(resumed, columns(), SHORT, tmp_path / "run", resume=True, save_every=3)
    assert resumed.bits() == whole.bits()
    assert plain(log) == plain(expected)
    assert [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()] == log


def test_a_run_may_be_killed_twice(tmp_path):
    """
    A resumed run saves its own checkpoints, and only the newest stays.
    """
    whole, last = Toy(), Toy()
    fitted(whole, columns(), SHORT)
    killed(tmp_path, 4)
    with pytest.raises(Killed):
        fitted(Toy(die_at=10), columns(), SHORT, tmp_path, resume=True, save_every=3)
    assert [path.name for path in tmp_path.glob("*step-*")] == ["step-000009"]
    fitted(last, columns(), SHORT, tmp_path, resume=True, save_every=3)
    assert last.bits() == whole.bits()


def test_a_resumed_run_does_not_repeat_what_is_saved(tmp_path):
    """
    After a checkpoint at 3 and a death at 5, thirteen updates are left.
    """
    steps = []
    killed(tmp_path, 5)
    trainer = Toy(loss_of=lambda x: steps.append(x) or float(x))
    fitted(trainer, columns(), SHORT, tmp_path, resume=True)
    assert len(steps) == 13


@pytest.mark.parametrize("change", [{"learning_rate": 0.25}, {"seed": 43}, {"batch_size": 5}, {"epochs": 5}])
def test_another_recipe_does_not_resume(tmp_path, change):
    """
    Half a run by one recipe and half by another is neither; old and new values are shown.
    """
    killed(tmp_path, 5)
    name, value = next(iter(change.items()))
    with pytest.raises(CheckpointError, match=rf"trainer\.json: {name} was {getattr(SHORT, name)}, now {value};"):
        fitted(Toy(), columns(), replace(SHORT, **change), tmp_path, resume=True)


def test_other_data_does_not_resume(tmp_path):
    """
    Neither a data set of another size, nor one of the same size with one other value.
    """
    killed(tmp_path, 5)
    with pytest.raises(CheckpointError, match="features was 10, now 11"):
        fitted(Toy(), columns(11), SHORT, tmp_path, resume=True)
    other = columns()
    other["x"][7] += 1
    with pytest.raises(CheckpointError, match=r"json: data was \w+, now \w+;"):
        fitted(Toy(), other, SHORT, tmp_path, resume=True)


def test_what_else_decides_a_run_does_not_change(tmp_path):
    """
    The checkpoint that the run started from, say.
    """
    with pytest.raises(Killed):
        fitted(Toy(die_at=5), columns(), SHORT, tmp_path, save_every=3, about={"checkpoint": "tiny"})
    with pytest.raises(CheckpointError, match="checkpoint was tiny, now base"):
        fitted(Toy(), columns(), SHORT, tmp_path, resume=True, about={"checkpoint": "base"})
    fitted(Toy(), columns(), SHORT, tmp_path, resume=True, about={"checkpoint": "tiny"})


ENTRY = {"step": 2, "lr": 0.1, "loss": 1.0, "norm": 1.0, "seconds": 0.1}


@pytest.mark.parametrize(
    "entry",
    [
        b"{", b"1", b"\xff", b"{}", None, b"[" * 100_000, b'{"step": 2, "loss": 1.0, "seconds": 0.1}',
        *(json.dumps(ENTRY | change).encode() for change in (
            {"lr": "0.1"}, {"norm": None}, {"norm": [1]}, {"loss": True}, {"seconds": 10**400}, {"step": "2"},
            {"loss": float("nan")}, {"dev": 1}, {"dev": {"score": "high"}}, {"dev": {"score": {"of": [{}]}}},
        )),
    ],
    ids=range(17),
)  # fmt: skip
def test_a_damaged_log_does_not_resume(tmp_path, entry):
    """
    A line before the checkpoint that is not the entry of its update is named, not skipped.
    """
    killed(tmp_path, 5)
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines()
    (tmp_path / "log.jsonl").write_bytes(b"\n".join([lines[0], lines[0] if entry is None else entry, *lines[2:]]))
    with pytest.raises(CheckpointError, match=r"log\.jsonl, line 2 is damaged .*; start in another folder"):
        fitted(Toy(), columns(), SHORT, tmp_path, resume=True)


@pytest.mark.parametrize(
    "damage",
    [
        "other names",
        "other shape",
        "one moment",
        "other moments",
        "other dtype",
        "whole numbers",
        "other dtype of a moment",
        "pipe",
        "cut",
        "gone",
        "no trainer.json",
        "cut trainer.json",
    ],
)
def test_a_damaged_state_does_not_resume(tmp_path, damage):
    """
    It is told which one, and that the run can begin anew.
    """
    killed(tmp_path, 5)
    state = tmp_path / "step-000003" / "state.safetensors"
    if damage in ("gone", "pipe"):
        state.unlink()
        if damage == "pipe":
            os.mkfifo(state)
    elif damage == "cut":
        state.write_bytes(state.read_bytes()[:-1])
    elif damage.endswith("json"):
        (state.parent / "trainer.json").unlink()
        if damage.startswith("cut"):
            (state.parent / "trainer.json").write_text("{")
    else:
        arrays = {
            "other names": {"w": np.zeros(2)},
            "other shape": {"weight": np.zeros(3)},
            "one moment": {"weight": np.zeros(2), "moment1/weight": np.zeros(2)},
            "other dtype": {"weight": np.zeros(2, "float32")},
            "whole numbers": {"weight": np.zeros(2, int)},
            "other dtype of a moment": {
                "weight": np.zeros(2),
                "moment1/weight": np.zeros(2),
                "moment2/weight": np.zeros(2, "float32"),
            },
            "other moments": {"weight": np.zeros(2), "moment1/weight": np.zeros(3), "moment2/weight": np.zeros(3)},
        }
        save_file(arrays[damage], state)
    with pytest.raises(CheckpointError, match=r"step-000003.*; where step-000003 is damaged, remove it to train from"):
        fitted(Toy(), columns(), SHORT, tmp_path, resume=True)


def test_what_the_log_says_after_the_checkpoint_does_not_matter(tmp_path):
    """
    Those lines may not have reached the disk; the updates are made again.
    """
    whole = fitted(Toy(), columns(), SHORT)
    killed(tmp_path, 5)
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(b"\0\0\0\n{\n")
    assert plain(fitted(Toy(), columns(), SHORT, tmp_path, resume=True)) == plain(whole)


def test_a_log_on_a_full_disk_is_named(tmp_path, monkeypatch):
    """
    Not taken for standard output.
    """

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        append(tmp_path / "log.jsonl", {"step": 1}, sync=True)
    assert error.value.filename == str(tmp_path / "log.jsonl")


def test_a_checkpoint_on_a_full_disk_is_named(tmp_path, monkeypatch):
    """
    By the name that it would have, not by that of the partial folder, which is gone.
    """

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "partial")

    monkeypatch.setattr(states, "save_safetensors", full)
    with pytest.raises(OSError, match="No space left") as error:
        fitted(Toy(), columns(), SHORT, tmp_path, save_every=3)
    assert error.value.filename == str(tmp_path / "step-000003")
    assert not list(tmp_path.glob(".*"))


def test_half_a_checkpoint_of_a_killed_run_goes(tmp_path):
    """
    Each is as large as a whole one.
    """
    (tmp_path / ".step-000003.77.partial").mkdir()
    killed(tmp_path, 5)
    assert not list(tmp_path.glob(".*"))


def test_an_unfinished_run_is_not_overwritten(tmp_path):
    """
    Without --resume a folder with a checkpoint is refused, and log and checkpoint stay.
    """
    killed(tmp_path, 5)
    before = (tmp_path / "log.jsonl").read_text()
    with pytest.raises(CheckpointError, match="unfinished run; add --resume"):
        fitted(Toy(), columns(), SHORT, tmp_path)
    assert (tmp_path / "log.jsonl").read_text() == before
    assert latest(tmp_path).name == "step-000003"


@pytest.mark.parametrize("lines", [None, 0, 2])
def test_a_log_shorter_than_its_checkpoint_does_not_resume(tmp_path, lines):
    """
    The log tells where to go on: without its entries, updates would be applied a second time.
    """
    killed(tmp_path, 5)
    log = tmp_path / "log.jsonl"
    kept = log.read_text().splitlines(keepends=True)[:lines]
    log.unlink() if lines is None else log.write_text("".join(kept))
    with pytest.raises(CheckpointError, match=rf"log\.jsonl has {lines or 0} entries, step-000003 comes after 3"):
        fitted(Toy(), columns(), SHORT, tmp_path, resume=True)


def test_a_torn_last_line_of_the_log_is_dropped(tmp_path):
    """
    A disk that filled up in the middle of an entry does not spoil the run.
    """
    killed(tmp_path, 5)
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 6, "lo')
    log = fitted(Toy(), columns(), SHORT, tmp_path, resume=True)
    assert [entry["step"] for entry in log] == list(range(1, 17))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 16


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_no_number_names_update_and_examples(tmp_path, bad):
    """
    The message says which update of how many, and which examples were in the batch.
    """
    trainer = Toy()
    trainer.loss_of = lambda x: bad if trainer.updates == 5 else float(x)
    rows = list(order(10, plan(10, SHORT), SHORT))[5]
    with pytest.raises(TrainingError) as caught:
        fitted(trainer, columns(), SHORT, tmp_path, save_every=3, names=lambda rows: [f"q{row}" for row in rows])
    assert f"update 6 of 16: the loss is {bad}; the batch was q{rows[0]}, q{rows[1]}, q{rows[2]}." in str(caught.value)
    assert latest(tmp_path).name == "step-000003"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_no_number_reaches_no_checkpoint(tmp_path, bad):
    """
    Clipping by an infinite norm makes every weight NaN: the older checkpoint must not be replaced by that.
    """
    trainer = Toy()
    trainer.norm_of = lambda loss: bad if trainer.updates == 6 else 1.0
    with pytest.raises(TrainingError, match=f"update 6 of 16: the gradient norm is {bad}"):
        fitted(trainer, columns(), SHORT, tmp_path, save_every=3)
    assert latest(tmp_path).name == "step-000003"


@pytest.mark.parametrize("broken", ["save_safetensors", "write_json", "os.replace"])
def test_a_failing_save_leaves_the_old_checkpoint(tmp_path, monkeypatch, broken):
    """
    A full disk costs the new checkpoint, never the old one, and leaves no half of it.
    """

    def full(*arguments):
        raise OSError(errno.ENOSPC, "disk full")

    trainer, run = Toy(), {"recipe": {}, "features": 10}
    save(trainer, tmp_path, run, 3)
    before = (tmp_path / "step-000003" / "state.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(f"splinter.ports.common.training.state.{broken}", full)
        with pytest.raises(OSError, match="disk full"):
            save(trainer, tmp_path, run, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000003"]
    assert (tmp_path / "step-000003" / "state.safetensors").read_bytes() == before


def test_the_newest_checkpoint_is_the_one_with_the_most_updates(tmp_path):
    """
    By number, not by text; partial ones and other folders do not count.
    """
    for name in ("step-000009", "step-000100", "step-1000000", ".step-2000000.7.partial", "step-old"):
        (tmp_path / name).mkdir()
    assert latest(tmp_path).name == "step-1000000"


def test_a_finished_run_forgets_its_states(tmp_path):
    """
    Whole and partial training states go, the log stays.
    """
    killed(tmp_path, 5)
    (tmp_path / ".step-000006.1.partial").mkdir()
    forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


# -- looking at dev data ----------------------------------------------------------------------------------


def peaked(trainer, at):
    """A dev score that is highest after `at` updates."""
    return lambda: {"score": -abs(trainer.updates - at), "updates": trainer.updates}


@pytest.mark.parametrize("at", [4, 8, 16])
def test_the_best_weights_are_kept_and_restored(tmp_path, at):
    """
    A look after each epoch of 4 updates; what is restored is what the run of `at` updates ends with.
    """
    trainer = Toy()
    best = Best(trainer, peaked(trainer, at), "score", tmp_path)
    log = fitted(trainer, columns(), SHORT, tmp_path, watch=best)
    assert [entry["step"] for entry in log if "dev" in entry] == [4, 8, 12, 16]
    assert best.restore() == {"updates": at, "scores": {"score": 0, "updates": at}}
    shorter = Toy()
    fitted(shorter, columns(), replace(SHORT, max_steps=at))
    assert np.array_equal(trainer.arrays["weight"], shorter.arrays["weight"])
    assert [path.name for path in (tmp_path / "best").glob("*.safetensors")] == [f"{at}.safetensors"]


def test_looks_may_come_between_epochs_and_always_at_the_end():
    """
    Every 5 updates of 16, and after the last.
    """
    seen = []
    fitted(Toy(), columns(), SHORT, watch=lambda updates: seen.append(updates) or {}, watch_every=5)
    assert seen == [5, 10, 15, 16]


def test_the_first_of_equal_scores_is_kept_and_no_number_never():
    """
    NaN, 1, 1, 0.5: the second look stays.
    """
    trainer, scores = Toy(), iter([float("nan"), 1.0, 1.0, 0.5])
    best = Best(trainer, lambda: {"score": next(scores)}, "score", None)
    fitted(trainer, columns(), SHORT, watch=best)
    assert best.restore() == {"updates": 8, "scores": {"score": 1.0}}


@pytest.mark.parametrize("at", range(1, 16, 2))
def test_a_killed_run_finds_the_same_best(tmp_path, at):
    """
    Whenever it dies: the log with its dev scores, the weights and the choice are those of a whole run.
    """

    def watched(trainer, folder, resume=False):
        best = Best(trainer, peaked(trainer, 8), "score", folder)
        return fitted(trainer, columns(), SHORT, folder, resume, save_every=3, watch=best), best

    whole, best = watched(one := Toy(), tmp_path / "whole")
    with pytest.raises(Killed):
        watched(Toy(die_at=at), tmp_path / "killed")
    log, again = watched(other := Toy(), tmp_path / "killed", resume=True)
    assert plain(log) == plain(whole)
    assert (again.restore(), other.arrays["weight"].tolist()) == (best.restore(), one.arrays["weight"].tolist())


@pytest.mark.parametrize(
    ("kept", "weights"),
    [
        ([], {"weight": np.zeros(2)}),
        ({"updates": "../4", "scores": {"score": 1}}, {"weight": np.zeros(2)}),
        ({"updates": 4, "scores": {"score": "high"}}, {"weight": np.zeros(2)}),
        ({"updates": 4, "scores": [1]}, {"weight": np.zeros(2)}),
        ({"updates": 4, "scores": {}}, {"weight": np.zeros(2)}),
        ({"updates": 5, "scores": {"score": 1}}, {"weight": np.zeros(2)}),
        ({"updates": 4, "scores": {"score": 1}}, {"weight": np.zeros(3)}),
        ({"updates": 4, "scores": {"score": 1}}, {"weight": np.zeros(2, "float32")}),
        ({"updates": 4, "scores": {"score": 1}}, {"other": np.zeros(2)}),
    ],
)
def test_a_damaged_best_is_told_before_the_training(tmp_path, kept, weights):
    """
    Not after it, when the best weights are put into the model.
    """
    (tmp_path / "best").mkdir()
    (tmp_path / "step-000004").mkdir()
    (tmp_path / "best" / "trainer.json").write_text(json.dumps(kept))
    save_file(weights, tmp_path / "best" / "4.safetensors")
    with pytest.raises(CheckpointError, match=str(tmp_path / "best")):
        Best(Toy(), dict, "score", tmp_path).check()


def test_a_constant_schedule_climbs_and_stays():
    """
    Warm-up to the peak as ever; the last rate, and those beyond, are the peak.
    """
    recipe = replace(SHORT, schedule="constant", warmup=0.25)
    assert rates(10, recipe)[:6] == [0.0, 0.125, 0.25, 0.375, 0.5, 0.5]
    assert set(rates(10, recipe)[4:]) == {0.5}


def test_a_feed_brings_its_own_batches(tmp_path):
    """
    Data that is more than one table: the run asks for batches from where it stands, and for what identifies the data.
    """

    class Feed:
        plan = plan(10, SHORT)

        def __init__(self, about=1):
            self.told = {"data": about}

        def about(self):
            return self.told

        def batches(self, start):
            for update in range(start, self.plan.updates):
                yield {"x": np.array([float(update)])}, lambda update=update: [f"batch {update}"]

    with pytest.raises(Killed):
        fitted(Toy(die_at=7), Feed(), SHORT, tmp_path, save_every=3)
    with pytest.raises(CheckpointError, match="data was 1, now 2"):
        fitted(Toy(), Feed(2), SHORT, tmp_path, resume=True)
    log = fitted(Toy(), Feed(), SHORT, tmp_path, resume=True)
    assert [entry["loss"] for entry in log] == list(map(float, range(16)))
    with pytest.raises(TrainingError, match="the batch was batch 3"):
        fitted(Toy(loss_of=lambda x: float("nan") if x == 3 else x), Feed(), SHORT)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("save_every", [2, 100])
def test_weights_that_are_no_numbers_reach_nothing(tmp_path, save_every):
    """
    Infinite after an update whose loss and norm were fine: no checkpoint, no dev score, and the rate is blamed.
    """
    with pytest.raises(TrainingError, match=r"weight holds NaN or infinity: the learning rate is too high"):
        fitted(
            Toy(), columns(), replace(SHORT, learning_rate=1e308), tmp_path, save_every=save_every, watch=lambda n: {}
        )
    assert latest(tmp_path) is None


def test_a_finished_run_leaves_no_litter(tmp_path):
    """
    A partial file or folder that a kill left goes with the training states.
    """
    fitted(Toy(), columns(), SHORT, tmp_path, save_every=3)
    (tmp_path / ".model.safetensors.123.partial").write_bytes(b"half")
    (tmp_path / ".step-000003.123.partial").mkdir()
    forget(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl"]


def test_parts_of_a_batch():
    """
    So many rows at a time, the last fewer; 0: all at once. A member of a team may have no row of a batch.
    """
    batch = {"ids": np.arange(7), "labels": np.arange(14).reshape(7, 2)}
    found = list(parts(batch, 3))
    assert [len(part["ids"]) for part in found] == [3, 3, 1]
    assert np.array_equal(np.concatenate([part["labels"] for part in found]), batch["labels"])
    (whole,) = parts(batch, 0)
    assert all(np.array_equal(whole[name], column) for name, column in batch.items())
    empty = {name: column[:0] for name, column in batch.items()}
    assert list(parts(empty, 0)) == list(parts(empty, 3)) == []


@pytest.mark.parametrize(("name", "value"), [("schedule", "cosine"), ("optimizer", "Bert")])
def test_a_recipe_knows_its_words(name, value):
    """
    A slip would train something else in silence.
    """
    with pytest.raises(ValueError, match=f"{name} '{value}' is not known; use one of"):
        Recipe(**{name: value})


def test_the_schedule_from_the_start():
    """
    Warm-up to the peak, then the line that began at update 0; "linear" begins where the warm-up ends.
    """
    start = Plan(10, 10, 4, 10, "from-start")
    assert [rate(start, 1.0, k) for k in (0, 2, 4, 5, 10, 11)] == [0.0, 0.5, 0.6, 0.5, 0.0, 0.0]
    assert rate(Plan(10, 10, 4, 10, "linear"), 1.0, 4) == 1.0
