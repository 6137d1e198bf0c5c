"""stored.py: what the saved arrays of two runs prove, and what they only seem to."""

import os
import pickle

import numpy as np
import pytest

from splinter.align import stored
from splinter.align.compare import Tolerance
from splinter.align.stored import StoredError
from splinter.cli import main as cli

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
    assert "would have the same name 'forward'" in capsys.readouterr().err
    assert cli.main(["judge", str(tmp_path / "none.npy"), str(tmp_path / "none.npy")]) == 2
    assert "no such file" in capsys.readouterr().err


# -- what two programs save differently, and mean alike ---------------------------------------------------


def words(found):
    """Verdict in one word or two, and all of what is said."""
    text = stored.verdict(found)
    return text.partition(": ")[2].partition(",")[0], text


UINT16 = ((STATES.view("uint32") + 0x8000) >> 16).astype("uint16")  # the nearest bfloat16
BFLOAT16 = (UINT16.astype("uint32") << 16).view("float32")
IDS = np.arange(1, 31).astype("uint16") * 1000


@pytest.mark.parametrize(
    ("step", "theirs", "ours", "said"),
    [
        ("loss", np.array(0.71424228, "f4"), np.array([0.71424186], "f4"), "shapes () and (1,) differ in axes"),
        ("forward", STATES, STATES[..., None] * np.float32(1 + 1e-6), "differ in axes of length 1 alone"),
        ("loss", 0.71424228, np.array([0.71424186], "f4"), "dtypes differ, theirs float64, ours float32"),
        ("metric", 100, np.array([100.0]), "dtypes differ, theirs int64, ours float64: compared as float64"),
        ("forward", STATES, UINT16, "ours is uint16, which is how Paddle saves bfloat16, and compared as that"),
        ("forward", BFLOAT16, UINT16, "both are rounded to the 8 bits of bfloat16"),
        ("forward", UINT16, UINT16 ^ np.uint16(1), "both are uint16, which is how Paddle saves bfloat16"),
        ("forward", STATES.astype("f2"), np.nextafter(STATES.astype("f2"), np.float16(9)), "11 bits of float16"),
        ("forward", STATES, STATES.astype("f2"), "ours is rounded to the 11 bits of float16"),
        ("forward", STATES.astype("longdouble"), STATES * (1 + 1e-6), "ours float32: compared as float64"),
        ("forward", STATES.astype("longdouble"), STATES * np.longdouble(1 + 1e-6), "float128: compared as float64"),
        ("forward", STATES * np.complex64(1j), STATES * np.complex64(1j + 1e-6), "agrees, 48 numbers"),
        ("forward", STATES, (STATES * np.float32(1 + 1e-6)).astype(">f4"), "agrees, 24 numbers"),
        ("lr", [np.float64(1e-3)] * 3, np.full(3, 1e-3), "agrees, 3 numbers"),
        ("loss", [0.6931, 0.5, 0.25], np.array([0.6931, 0.5, 0.25]), "agrees, 3 numbers"),
    ],
)  # fmt: skip
def test_what_is_saved_differently_and_meant_alike(saved, step, theirs, ours, said):
    """
    It agrees, and what was different is said; one wrong number in it still differs.
    """
    if np.longdouble is np.float64:
        said = said.replace("float128", "float64")
    word, text = words(stored.judge(saved("a.npy", x=theirs), saved("b.npy", x=ours), ROW, step))
    assert (word, said in text) == ("agrees", True), text
    wrong = np.array(ours)
    wrong.flat[-1] = 0x4500 if wrong.dtype == np.uint16 else wrong.flat[-1] * 1.1  # 0x4500 is 2048 in bfloat16
    word, text = words(stored.judge(saved("a.npy", x=theirs), saved("b.npy", x=wrong), ROW, step))
    assert word == "differs", text
    assert "same one" not in text


@pytest.mark.parametrize(
    ("step", "theirs", "ours"),
    [
        ("dev_data", np.arange(3), np.arange(3.0)),
        ("dev_data", np.arange(3.0), np.arange(3.0, dtype="f4")),
        ("metric", 100, 100.0005),
        ("forward", IDS, IDS + np.uint16(1)),
        ("dev_data", UINT16, UINT16 ^ np.uint16(1)),
        ("forward", np.arange(4.0).reshape(1, 4), np.arange(4.0).reshape(4, 1)),
        ("forward", np.ones(4, "f4"), np.ones(4, "f4")),
        ("forward", np.array([1, np.inf]), np.array([1, np.inf])),
    ],
    ids=["data, int", "data, width", "a count", "identifiers", "data, uint16", "axes", "constant", "infinite"],
)
def test_what_is_not_meant_alike(saved, step, theirs, ours):
    """
    In data the type counts; a count is not rounded, an identifier is no bfloat16, a constant proves nothing.
    """
    assert not stored.judge(saved("a.npy", x=theirs), saved("b.npy", x=ours), ROW, step).passed


def test_a_tolerance_of_nothing_asks_for_equal_bits(saved):
    """
    Asked for 0, the rounding of short numbers gets no room either.
    """
    exact, one = Tolerance(0.0, 0.0, why="asked for"), saved("a.npy", x=BFLOAT16)
    assert stored.judge(one, saved("b.npy", x=UINT16), exact).passed
    assert not stored.judge(one, saved("b.npy", x=UINT16 ^ np.uint16(1)), exact).passed


@pytest.mark.parametrize(
    ("step", "arrays"),
    [
        ("dev_data", {"input_ids": np.arange(8), "words": np.array(["a", "b"])}),
        ("metric", {"acc": np.array([0.7312345])}),
        ("lr", {"lr": np.linspace(1e-3, 0, 11)}),
        ("forward", {"predicted": np.arange(30)}),
        ("forward", {"mask": np.tri(8), "logits": BFLOAT16}),
    ],
)
def test_two_programs_may_save_equal_bytes(saved, step, arrays):
    """
    Integers, words, rates, scores, and floats of few bits: they agree, and that they are equal is said.
    """
    word, text = words(stored.judge(saved("a.npy", **arrays), saved("b.npy", **arrays), ROW, step))
    assert (word, "equal byte for byte" in text) == ("agrees", True)


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_a_link_is_the_same_file(saved, tmp_path, link):
    """
    Whatever the file holds, judged with itself it proves nothing.
    """
    path = saved("dev_data_a.npy", ids=np.arange(4))
    link(path, tmp_path / "dev_data_b.npy")
    word, text = words(stored.judge(path, tmp_path / "dev_data_b.npy", ROW))
    assert (word, "one and the same file" in text) == ("proves nothing", True)


def test_a_difference_is_called_one(saved):
    """
    Numbers beyond the tolerance differ, whatever else is said of them; equal copies prove nothing.
    """
    one = saved("a.npy", x=STATES)
    assert words(stored.judge(one, saved("b.npy", x=STATES * 0), ROW))[0] == "differs"
    assert words(stored.judge(one, saved("b.npy", x=STATES + 1, y=STATES), ROW))[0] == "differs"
    assert words(stored.judge(one, saved("b.npy", x=STATES), ROW))[0] == "proves nothing"


# -- files that mean harm ---------------------------------------------------------------------------------


def doubled(times):
    """A tuple of twice the tuple before: as pickle's opcodes, which put no bound to it."""
    return b"K\x01" + b"2\x86" * times


HARMFUL = {
    "value": (b"}X\x01\0\0\0x" + doubled(60) + b"s.", "'x' holds lists more than 32 deep"),
    "shallow": (b"}X\x01\0\0\0x" + doubled(30) + b"s.", "unpacks to more than 64 times its size"),
    "name": (b"}" + doubled(60) + b"K\x01s.", "a name is neither a word nor a number"),
    "names": (b"}(" + doubled(60) + b"K\x01u.", "a name is neither a word nor a number"),
    "dict": (b"(" + doubled(60) + b"K\x01d.", "a name is neither a word nor a number"),
    "pairs": (b"ccollections\nOrderedDict\n](](" + doubled(60) + b"K\x01ee\x85R.", "a name is neither"),
    "set": (b"\x8f(" + doubled(60) + b"\x90.", "it does what no file of arrays needs"),
    "type": (b"cnumpy\ndtype\n" + doubled(60) + b"\x85R.", "a type of numbers has no name"),
    "bytes": (b"c_codecs\nencode\nX\0\x50\0\0" + b"a" * 0x5000 + b"X\x01\0\0\0b\x86q\x000"
              + b"c_codecs\nencode\nh\x00R" * 999 + b".", "unpacks to more than 64 times its size"),
    "state": (b"cnumpy\nscalar\n}X\x01\0\0\0aK\x01sb.", "it does what no file of arrays needs"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "why"), HARMFUL.values(), ids=HARMFUL)
def test_a_small_file_stays_small(tmp_path, code, why):
    """
    What doubles with each level is refused by name, before it is built or hashed.
    """
    with open(tmp_path / "bomb.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(b"\x80\x04" + code)
    with pytest.raises(StoredError, match=rf"bomb\.npy is refused: .*{why}"):
        stored.read(tmp_path / "bomb.npy")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_is_read(tmp_path, protocol):
    """
    Arrays, numbers and words, alone and in lists, come back as numpy would make them.
    """
    values = [np.arange(6.0).reshape(2, 3).T, np.float32(1.5), [np.float64(1), 2.0], [[1, 2], [3, 4]], "word", True]
    values += [[np.arange(2)] * 2, ["a", "bb"], np.array([b"\xff\xfe"]), np.array(2.5, dtype=object)]
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump({str(i): value for i, value in enumerate(values)}, file, protocol)
    found = stored.read(tmp_path / "a.npy")
    for value, array in zip(values[:-1], found.values(), strict=False):
        assert array.dtype == np.asarray(value).dtype and np.array_equal(array, value)
    assert found["9"] == 2.5


@pytest.mark.parametrize("array", [np.zeros(2, "V4"), np.zeros(2, "f4,i2"), np.zeros(2, "M8[s]")], ids=str)
def test_what_is_no_number_is_refused_by_name(tmp_path, array):
    """
    Records, dates and raw bytes have no difference.
    """
    np.savez(tmp_path / "a.npz", **{"x\x9b": array})
    with pytest.raises(StoredError, match=r"a\.npz is refused: 'x\\x9b' is of type .*; save numbers or words"):
        stored.read(tmp_path / "a.npz")


@pytest.mark.parametrize("order", "<>")
def test_characters_that_there_are_not(tmp_path, order):
    """
    A damaged file of words is refused; the last character that there is is read.
    """
    for code, fine in ((0x10FFFF, True), (0x110000, False)):
        np.savez(tmp_path / "a.npz", x=np.array([65, code], f"{order}u4").view(f"{order}U2"))
        if fine:
            assert stored.read(tmp_path / "a.npz")["x"].tolist() == ["A\U0010ffff"]
            continue
        with pytest.raises(StoredError, match=r"a\.npz is refused: 'x' holds invalid characters; the file is damaged"):
            stored.read(tmp_path / "a.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_pipe_is_not_waited_for(tmp_path):
    """
    What is no regular file is said, not read.
    """
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(StoredError, match=r"a\.npy is no regular file"):
        stored.read(tmp_path / "a.npy")


def test_names_do_not_act_on_the_terminal(saved, capsys):
    """
    Controls in the names of tensors are shown, in the verdict and in an error, which stays short.
    """
    evil = "w\x1b[2J\x9b31m\u202e"
    one, other = saved("a.npy", **{evil: STATES}), saved("b.npy", **{evil: STATES + 1, "x": STATES})
    assert cli.main(["judge", str(one), str(other)]) == 1
    out = capsys.readouterr().out
    assert r"w\x1b[2J\x9b31m\u202e (2, 3, 4); max abs 1" in out
    broken = saved("c.npy", **{evil + "y" * 1000: None})
    assert cli.main(["judge", str(broken), str(one)]) == 2
    error = capsys.readouterr().err
    assert len(error) < 350 and error.endswith("save it as .npz\n")
    assert not {"\x1b", "\x9b", "\u202e"} & set(out + error)
