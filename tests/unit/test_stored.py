"""stored.py: what the saved arrays of two runs prove, and what they only seem to."""

import os

import numpy as np
import pytest

from splinter import cli
from splinter.align import stored
from splinter.align.compare import Tolerance
from splinter.align.stored import StoredError

ROW = Tolerance(0.0, 1e-5, why="invented")
RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(2, 3, 4)).astype("float32")


@pytest.fixture
def saved(tmp_path):
    """Write arrays as reprod_log does, give the path."""

    def write(name, **arrays):
        np.save(tmp_path / name, arrays)
        return tmp_path / name

    return write


def test_arrays_that_agree(saved):
    """
    Rounding apart the same: it agrees, and says on how many numbers.
    """
    found = stored.judge(
        saved("forward_torch.npy", states=STATES, ids=np.arange(3)),
        saved("forward_paddle.npy", states=STATES * np.float32(1 + 1e-6), ids=np.arange(3)),
        ROW,
    )
    assert (found.passed, found.step, found.values) == (True, "forward", 27)
    assert stored.verdict(found).startswith("forward: agrees, 27 numbers in 2 arrays")


@pytest.mark.parametrize(
    ("ours", "why"),
    [
        ({"states": STATES}, "copies of each other, byte for byte"),
        ({"states": STATES, "more": np.ones(1)}, "on one side only: more"),
        ({"other": STATES}, "no name in common (there ['states'], here ['other'])"),
        ({"states": STATES.transpose(0, 2, 1)}, "the axes are in another order, theirs (2, 3, 4), ours (2, 4, 3)"),
        ({"states": STATES.reshape(1, 24)}, "broadcasts, or hides an axis"),
        ({"states": np.full_like(STATES, np.nan)}, "ours holds 24 NaN"),
        ({"states": STATES * 0}, "ours holds nothing but zeros"),
        ({"states": STATES + np.float32(1)}, "states (2, 3, 4); max abs 1"),
        ({"states": STATES.astype("float64")}, "dtypes differ"),
    ],
    ids=["copy", "more", "names", "axes", "shape", "nan", "zeros", "differs", "dtype"],
)
def test_what_does_not_prove_anything(saved, ours, why):
    """
    Each is named, none passes.
    """
    found = stored.judge(saved("a.npy", states=STATES), saved("b.npy", **ours), ROW)
    assert not found.passed
    assert why in stored.verdict(found)


def test_one_file_on_both_sides(saved):
    """
    The script of 2021 that read its own file twice.
    """
    path = saved("dev_data.npy", ids=np.arange(4))
    found = stored.judge(path, path, ROW)
    assert (found.passed, found.step) == (False, "dev_data")
    assert "both sides are one and the same file" in stored.verdict(found)


def test_bit_equal_floats_are_doubted(saved):
    """
    Equal floats under two names: possible in a learning rate, suspicious in logits.
    """
    theirs, ours = saved("loss_a.npy", x=STATES), saved("loss_b.npy", x=STATES, ids=np.arange(2))
    assert "every floating-point array is bit-equal" in stored.verdict(stored.judge(theirs, ours, ROW))
    theirs, ours = saved("lr_a.npy", x=STATES), saved("lr_b.npy", x=STATES.copy(order="F"))
    assert stored.judge(theirs, ours, ROW).passed


def test_a_mean_hides_one_number(saved):
    """
    One wrong number in a million has a mean difference of 1e-7.
    """
    many = RNG.normal(size=10**6).astype("float32")
    wrong = many.copy()
    wrong[77] += np.float32(0.1)
    found = stored.judge(saved("a.npy", x=many), saved("b.npy", x=wrong), ROW)
    assert "the mean difference 1.0e-07 hides 1.0e-01" in stored.verdict(found)


def test_code_in_a_file_is_not_run(tmp_path):
    """
    A pickle may ask for anything; this one would make a folder.
    """

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "done"),)

    np.save(tmp_path / "evil.npy", {"x": Evil()})
    with pytest.raises(StoredError, match=r"evil\.npy is refused: .*asks to run (posix|nt)\.mkdir"):
        stored.read(tmp_path / "evil.npy")
    assert not (tmp_path / "done").exists()


def test_numpys_own_objects_are_not_built(tmp_path):
    """
    numpy's `__setstate__` trusts a file: a forged dtype would make numbers into pointers.
    """

    class Forged:
        def __reduce__(self):
            dtype = np.dtype("O")
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), dtype, False, b"\x01" * 8)

    np.save(tmp_path / "forged.npy", {"x": Forged()})
    with pytest.raises(StoredError, match=r"forged\.npy is refused"):
        stored.read(tmp_path / "forged.npy")


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4", "int64", "bool", "complex64", "U5", "S3"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_they_were(tmp_path, dtype, order):
    """
    Any plain type, either order, scalars and empty arrays too.
    """
    array = np.asarray(np.arange(6).reshape(2, 3) % 2, order=order).astype(dtype)
    np.save(tmp_path / "a.npy", {"x": array, "scalar": array[0, 0], "none": array[:0], "number": 1.5})
    found = stored.read(tmp_path / "a.npy")
    assert np.array_equal(found["x"], array) and found["x"].dtype == array.dtype
    assert found["scalar"] == array[0, 0] and found["none"].shape == (0, 3) and found["number"] == 1.5


def test_a_loss_in_a_file_of_its_own(saved):
    """
    One number, an ULP apart, is what the step is about; equal scores are what the metric asks for.
    """
    loss = np.array([0.6931], "float32")
    assert stored.judge(saved("loss_a.npy", l=loss), saved("loss_b.npy", l=np.nextafter(loss, 2)), ROW).passed
    f1 = np.array([55.5, 66.6])
    assert stored.judge(
        saved("metric_a.npy", f=f1, n=1), saved("metric_b.npy", f=f1.copy(), n=1, m=2), ROW
    ).problems == ["on one side only: m"]


NAMES = {"forward_pytorch": "forward", "fullrun_logits": "forward", "train_data": "train_data", "bp_align": "backward"}


@pytest.mark.parametrize(("name", "step"), NAMES.items())
def test_a_name_tells_the_step_by_its_words(tmp_path, name, step):
    """
    Whole words count: `fullrun` holds no `lr`.
    """
    assert stored.step_of(tmp_path / f"{name}.npy") == step


def test_a_damaged_archive_is_one_line(tmp_path):
    """
    Cut off, or corrupt inside.
    """
    np.savez_compressed(tmp_path / "a.npz", x=STATES)
    whole = (tmp_path / "a.npz").read_bytes()
    for broken in (whole[:100], whole[:60] + bytes(40) + whole[100:], whole[:-30]):
        (tmp_path / "b.npz").write_bytes(broken)
        with pytest.raises(StoredError, match=r"b\.npz cannot be read"):
            stored.read(tmp_path / "b.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x07\x00v\x00{}"])
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.safetensors"])
def test_a_broken_file_is_one_line(tmp_path, name, content):
    """
    Whatever is wrong with it, the message names the file.
    """
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoredError, match=rf"{name}") as caught:
        stored.read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_other_files_are_read_too(tmp_path):
    """
    .npz, a bare .npy, safetensors.
    """
    from safetensors.numpy import save_file

    np.savez(tmp_path / "a.npz", x=STATES)
    np.save(tmp_path / "b.npy", STATES)
    save_file({"x": STATES}, tmp_path / "c.safetensors")
    for name, key in (("a.npz", "x"), ("b.npy", "array"), ("c.safetensors", "x")):
        assert np.array_equal(stored.read(tmp_path / name)[key], STATES)


def test_folders_are_paired_by_name(tmp_path, capsys):
    """
    The framework's name in a file's name does not count; the command prints each pair and writes a record.
    """
    for side, factor in (("torch", 1.0), ("paddle", 1 + 1e-6)):
        (tmp_path / side).mkdir()
        for step in ("forward", "loss"):
            np.save(tmp_path / side / f"{step}_{side}.npy", {"x": STATES * np.float32(factor)})
    record = tmp_path / "out.json"
    assert cli.main(["judge", str(tmp_path / "torch"), str(tmp_path / "paddle"), "--align-json", str(record)]) == 0
    out = capsys.readouterr().out
    assert out.count("agrees") == 2
    from splinter.align import report

    assert {r["step"] for r in report.read(record)["results"]} == {"forward", "loss"}
    np.save(tmp_path / "torch" / "metric_torch.npy", {"x": STATES})
    assert cli.main(["judge", str(tmp_path / "torch"), str(tmp_path / "paddle")]) == 2
    assert "do not hold the same files: metric on one side only" in capsys.readouterr().err
    (tmp_path / "torch" / "forward.npy").write_bytes(b"")
    assert cli.main(["judge", str(tmp_path / "torch"), str(tmp_path / "paddle")]) == 2
    assert "would both be 'forward'" in capsys.readouterr().err
    assert cli.main(["judge", str(tmp_path / "none.npy"), str(tmp_path / "none.npy")]) == 2
    assert "no such file" in capsys.readouterr().err
