"""weights.py: names both ways, strict about every tensor. files.py: files that are whole or not there."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from splinter.align import Rule, WeightMap
from splinter.align.files import SafetensorsFile, WeightError, save_safetensors, write_together, write_whole

TOY = WeightMap(
    [
        Rule("embeddings.weight", "words.weight"),
        Rule("layer.*.dense.weight", "encoder.*.linear.weight", transpose=True),
        Rule("layer.*.dense.bias", "encoder.*.linear.bias"),
        Rule("classifier", "head.weight"),
    ],
    drop={"pooler.*.weight": "unused", "position_ids": "a constant"},
)
SHAPES = {
    "words.weight": (5, 2),
    "encoder.0.linear.weight": (2, 3),
    "encoder.0.linear.bias": (3,),
    "head.weight": (2, 2),
}


def theirs(**changes):
    """A checkpoint that fits; a name given as None is taken out."""
    arrays = {
        "embeddings.weight": np.arange(10, dtype="float32").reshape(5, 2),
        "layer.0.dense.weight": np.arange(6, dtype="float32").reshape(3, 2),
        "layer.0.dense.bias": np.arange(3, dtype="float32"),
        "classifier": np.arange(4, dtype="float32").reshape(2, 2),
    }
    arrays |= {name.replace("__", "."): array for name, array in changes.items()}
    return {name: array for name, array in arrays.items() if array is not None}


def converted(arrays, shapes=SHAPES, names=TOY):
    """Ours, as a dict."""
    return dict(names.convert(arrays, shapes, "toy.bin"))


# -- names ------------------------------------------------------------------------------------------------


def test_a_star_stands_for_a_layer_number():
    """
    Numbers of any length travel from one name to the other; two stars keep their order.
    """
    names = WeightMap([Rule("block.*.layer.*.w", "b.*.l.*.w")])
    assert [link.theirs for link in names.links(["b.2.l.11.w", "b.0.l.3.w"])] == [
        "block.2.layer.11.w",
        "block.0.layer.3.w",
    ]
    assert names.links_from(["block.2.layer.11.w"])["block.2.layer.11.w"].ours == "b.2.l.11.w"


@pytest.mark.parametrize(
    "name", ["encoder.x.linear.bias", "encoder..linear.bias", "encoder.0.linear.biases", "wordsXweight"]
)
def test_a_rule_matches_whole_names_only(name):
    """
    A star is a number, a dot is a dot, and nothing may follow.
    """
    with pytest.raises(WeightError, match="0 rules for our tensor"):
        TOY.links([name])


def test_a_tensor_of_ours_has_one_rule():
    """
    Two rules that could fill the same tensor are a contradiction.
    """
    names = WeightMap([Rule("a.0", "x.0"), Rule("b.*", "x.*")])
    with pytest.raises(WeightError, match=r"2 rules for our tensor 'x\.0', needs one"):
        names.links(["x.0"])


def test_links_from_takes_what_has_a_rule():
    """
    Their names without a rule are left out; the transposition comes with the name.
    """
    links = TOY.links_from(["layer.7.dense.weight", "pooler.0.weight", "classifier"])
    assert {n: (link.ours, link.transpose) for n, link in links.items()} == {
        "layer.7.dense.weight": ("encoder.7.linear.weight", True),
        "classifier": ("head.weight", False),
    }


def test_modules_that_own_linked_tensors_are_paired():
    """
    A bare parameter whose last name differs names no module; weight and bias name theirs once.
    """
    modules = TOY.modules(["words.weight", "encoder.3.linear.weight", "encoder.3.linear.bias", "head.weight"])
    assert modules == {"words": "embeddings", "encoder.3.linear": "layer.3.dense"}


# -- conversion -------------------------------------------------------------------------------------------


def test_conversion_renames_and_transposes():
    """
    Every tensor arrives under our name, the Linear's weight with its axes swapped.
    """
    arrays = theirs()
    ours = converted(arrays)
    assert list(ours) == list(SHAPES)
    assert np.array_equal(ours["encoder.0.linear.weight"], arrays["layer.0.dense.weight"].T)
    assert np.array_equal(ours["head.weight"], arrays["classifier"])


def test_the_way_back_restores_every_bit():
    """
    Conversion and reversal together change nothing.
    """
    back = dict(TOY.revert(converted(theirs())))
    assert back.keys() == theirs().keys()
    assert all(np.array_equal(back[name], array) for name, array in theirs().items())


def test_a_missing_tensor_is_an_error():
    """
    A weight that would stay random stops the conversion and is named.
    """
    with pytest.raises(WeightError, match=r"^toy\.bin does not fit: tensors 1 missing: classifier$"):
        converted(theirs(classifier=None))


def test_a_surplus_tensor_is_an_error():
    """
    A weight that we would ignore stops the conversion too.
    """
    with pytest.raises(WeightError, match=r"tensors 1 surplus: layer\.1\.dense\.bias$"):
        converted(theirs(layer__1__dense__bias=np.zeros(3, "float32")))


def test_all_problems_come_in_one_message():
    """
    Missing and surplus tensors are counted, and at most four of each are listed.
    """
    extra = {f"extra{i}": np.zeros(1) for i in range(6)}
    with pytest.raises(WeightError, match=r"1 missing: classifier; 6 surplus: extra0, extra1, extra2, extra3, \.\.\.$"):
        converted(theirs(classifier=None, **extra))


def test_a_tensor_is_used_once():
    """
    One tensor of theirs that feeds two of ours is an error: tied weights must be tied in our model.
    """
    names = WeightMap([Rule("w", "a"), Rule("w", "b")])
    with pytest.raises(WeightError, match="1 used twice: w"):
        converted({"w": np.zeros(1, "float32")}, {"a": (1,), "b": (1,)}, names)


def test_a_dropped_tensor_is_left_behind_with_its_reason():
    """
    What a drop rule names may be there or not, and never arrives.
    """
    ours = converted(theirs(pooler__4__weight=np.zeros(9), position_ids=np.arange(512)))
    assert list(ours) == list(SHAPES)
    assert TOY.reason_dropped("pooler.4.weight") == "unused"
    assert TOY.reason_dropped("pooler.x.weight") is None


@pytest.mark.parametrize(
    ("name", "shape"), [("embeddings.weight", (4, 2)), ("layer.0.dense.weight", (2, 3)), ("classifier", (4,))]
)
def test_shapes_are_checked_in_our_layout(name, shape):
    """
    Another vocabulary, a matrix already transposed, a flat matrix: each is named, none is reshaped.
    """
    with pytest.raises(WeightError, match=rf"toy\.bin: tensor '{name}' has shape .*the configuration asks for"):
        converted(theirs(**{name: np.zeros(shape, "float32")}))


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool", "complex64"])
def test_weights_are_floats(dtype):
    """
    Integer weights are a quantised model or a mistake.
    """
    with pytest.raises(WeightError, match=f"tensor 'classifier' has dtype {dtype}, expected one of float16"):
        converted(theirs(classifier=np.zeros((2, 2), dtype)))


# -- files ------------------------------------------------------------------------------------------------


def stored(path, arrays, metadata=None):
    """Write arrays as a safetensors file."""
    shapes = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
    save_safetensors(path, shapes, lambda: iter(arrays.items()), metadata)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64"])
def test_the_safetensors_library_reads_our_files(tmp_path, dtype):
    """
    Scalars, empty arrays, transposed and strided ones come back with every bit.
    """
    matrix = (np.arange(12).reshape(3, 4) - 5).astype(dtype)
    arrays = {
        "whole": matrix,
        "transposed": matrix.T,
        "strided": matrix[::2, 1:],
        "empty": matrix[:0],
        "scalar": matrix[0, 0],
    }
    found = load_file(stored(tmp_path / "toy.safetensors", arrays))
    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in found.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in arrays.items()
    }


def test_we_read_the_files_of_the_safetensors_library(tmp_path):
    """
    The mapping is lazy, knows its names and metadata, and raises KeyError for others.
    """
    arrays = {"a": np.arange(3.0), "b": np.ones((2, 2), "float32")}
    save_file(arrays, tmp_path / "toy.safetensors", {"format": "pt"})
    found = SafetensorsFile(tmp_path / "toy.safetensors")
    assert sorted(found) == ["a", "b"]
    assert len(found) == 2
    assert all(np.array_equal(found[n], a) and found[n].dtype == a.dtype for n, a in arrays.items())
    assert found.headers == {"a": ((3,), "float64"), "b": ((2, 2), "float32")}
    assert found.metadata == {"format": "pt"}
    with pytest.raises(KeyError):
        found["c"]


def test_metadata_is_kept(tmp_path):
    """
    `format` tells transformers that the file is complete; strings of the caller stand beside it.
    """
    path = stored(tmp_path / "toy.safetensors", {"a": np.zeros(1)}, {"mode": "paper"})
    assert SafetensorsFile(path).metadata == {"format": "pt", "mode": "paper"}


@pytest.mark.parametrize("content", [b"", b"{}", b"garbage" * 100, b"PK\x03\x04" + bytes(100)])
def test_garbage_is_no_safetensors_file(tmp_path, content):
    """
    A file of something else is named, with the way out.
    """
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(
        WeightError, match=r"x\.safetensors is not a whole safetensors file .*fetch or convert it again"
    ):
        SafetensorsFile(tmp_path / "x.safetensors")


@pytest.mark.parametrize("kept", [4, 40, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    """
    Cut in its length, its header or its last byte, a file is not half read.
    """
    path = stored(tmp_path / "x.safetensors", {"a": np.arange(100.0)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightError, match="not a whole safetensors file"):
        SafetensorsFile(path)


def test_a_dtype_that_numpy_lacks_is_an_error_with_a_way_out(tmp_path):
    """
    bfloat16 weights cannot be read into numpy, and the message says what to do.
    """
    header = b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\x80\x3f")
    with pytest.raises(WeightError, match=r"tensor 'x' cannot be read into numpy .*convert it to float32"):
        SafetensorsFile(tmp_path / "x.safetensors")["x"]


@pytest.mark.parametrize(
    "tensors",
    [
        [("a", np.zeros(2))],
        [("b", np.zeros(1)), ("a", np.zeros(2))],
        [("a", np.zeros(3)), ("b", np.zeros(1))],
        [("a", np.zeros(2, "float32")), ("b", np.zeros(1))],
        [("a", np.zeros(2)), ("b", np.zeros(1)), ("c", np.zeros(1))],
    ],
    ids=["fewer", "another order", "another shape", "another dtype", "more"],
)
def test_what_is_written_is_what_was_announced(tmp_path, tensors):
    """
    The header comes first; tensors that do not keep its promise leave no file.
    """
    shapes = {"a": ((2,), "float64"), "b": ((1,), "float64")}
    with pytest.raises(WeightError, match="writing"):
        save_safetensors(tmp_path / "x.safetensors", shapes, lambda: iter(tensors))
    assert list(tmp_path.iterdir()) == []


# -- whole or not at all ----------------------------------------------------------------------------------


def test_a_file_is_written_whole(tmp_path):
    """
    The new content replaces the old one, text is UTF-8 with bare newlines, nothing else is left.
    """
    (tmp_path / "x").write_text("old")
    write_whole(tmp_path / "x", lambda file: file.write("é\n"), "w")
    assert (tmp_path / "x").read_bytes() == b"\xc3\xa9\n"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyError("x"), KeyboardInterrupt()])
def test_a_failing_body_leaves_the_old_file(tmp_path, error):
    """
    Whatever breaks off the writing, readers see the old file and no partial one.
    """

    def body(file):
        file.write(b"half of it")
        raise error

    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(type(error)):
        write_whole(tmp_path / "x", body)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_at_the_last_moment_leaves_the_old_file(tmp_path, monkeypatch, call):
    """
    The error may come only when the data is flushed, or renamed.
    """

    def full(*arguments):
        raise OSError(errno.ENOSPC, "disk full")

    (tmp_path / "x").write_bytes(b"old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="disk full") as caught:
        write_whole(tmp_path / "x", lambda file: file.write(b"new"))
    assert caught.value.filename == str(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_the_old_file_is_whole_while_the_new_one_is_written(tmp_path):
    """
    A reader that comes in the middle of the writing gets the old content.
    """
    seen = []

    def body(file):
        file.write(b"new")
        file.flush()
        seen.append((tmp_path / "x").read_bytes())

    (tmp_path / "x").write_bytes(b"old")
    write_whole(tmp_path / "x", body)
    assert (seen, (tmp_path / "x").read_bytes()) == ([b"old"], b"new")


def test_files_that_belong_together_are_never_mixed(tmp_path, monkeypatch):
    """
    Broken off before any of them gets its name, the last one is missing, or all are as before.
    """
    rename, names = os.replace, ("a", "b", "last")
    for kept in range(3):
        for name in names:
            (tmp_path / name).write_text("old")
        left = iter(range(kept))

        def replace(source, target, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            rename(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            with pytest.raises(KeyboardInterrupt):
                write_together({tmp_path / name: lambda file: file.write("new") for name in names}, "w")
        assert [(tmp_path / name).read_text() for name in names[:2]] == ["new"] * kept + ["old"] * (2 - kept)
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]

    def full(file):
        raise OSError(errno.ENOSPC, "disk full")

    (tmp_path / "last").write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_together({tmp_path / "a": lambda file: file.write("half"), tmp_path / "last": full}, "w")
    assert (tmp_path / "last").read_text() == "old"
    assert (tmp_path / "a").read_text() == "new"


def test_a_link_stays_and_leads_to_the_new_file(tmp_path):
    """
    One that leads to nothing yet as well.
    """
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(tmp_path / "folder" / name)
        write_whole(tmp_path / name, lambda file: file.write("said"), "w")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "folder" / name).read_text() == "said"
    assert sorted(os.listdir(tmp_path / "folder")) == ["new", "old"]


def test_a_pipe_whose_reader_leaves_is_named(tmp_path):
    """
    It got half of what it was to get: no success, as it would be of standard output.
    """
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)

    def body(file):
        os.close(reader)
        file.write(b"x" * 10**6)

    with pytest.raises(BrokenPipeError) as failed:
        write_whole(tmp_path / "pipe", body)
    assert failed.value.filename == str(tmp_path / "pipe")


def test_a_pipe_is_written_into(tmp_path):
    """
    Its reader gets the text, and it stays a pipe.
    """
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        write_whole(tmp_path / "pipe", lambda file: file.write("said"), "w")
        assert read.result(10) == "said"
    assert (tmp_path / "pipe").is_fifo()
    write_whole(Path("/dev/null"), lambda file: file.write(b"said"))
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", ["/dev/stdout", "out"])
def test_standard_output_goes_on_behind_what_is_written_into_it(tmp_path, name):
    """
    The file that it leads to is neither replaced nor begun anew.
    """
    code = f"""
from pathlib import Path
from splinter.align.files import write_whole
print("before", flush=True)
write_whole(Path({name!r}), lambda file: file.write("said\\n"), "w")
print("after")
"""
    with open(tmp_path / "out", "w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_text() == "before\nsaid\nafter\n"
