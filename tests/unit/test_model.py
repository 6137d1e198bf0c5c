"""model.py: one Paddle model from every layout of checkpoint, strict about each tensor, and back to transformers."""

import json
import shutil

import numpy as np
import paddle
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import SplinterForQuestionAnswering as Theirs

from splinter.align.files import WeightError
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.paddle.model import to_numpy
from splinter.ports.splinter.model import SplinterForQuestionAnswering
from splinter.ports.splinter.pretraining.model import SplinterForPreTraining
from splinter.ports.splinter.proof import cases

HEAD = "splinter_qass."
BIAS = "splinter.encoder.layer.1.output.dense.bias"
SPAN = "cls.span_predictions."
ROUNDING = 1e-4  # logits reach 60; float32 differs by 1e-5 at worst


@pytest.fixture(scope="module")
def tiny():
    """Their names -> arrays of the embedded checkpoint."""
    return load_file(cases.tiny() / "model.safetensors")


@pytest.fixture
def folder(tmp_path):
    """Writes a checkpoint folder: tensors, and changes to config.json."""

    def write(tensors, file="model.safetensors", **changes):
        target = tmp_path / "model"
        shutil.copytree(cases.tiny(), target, dirs_exist_ok=True)
        (target / "model.safetensors").unlink()
        if file.endswith(".bin"):
            torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, target / file)
        else:
            save_file({name: np.ascontiguousarray(a) for name, a in tensors.items()}, target / file, {"format": "pt"})
        config = json.loads((target / "config.json").read_text()) | changes
        (target / "config.json").write_text(json.dumps(config))
        return target

    return write


def authors(tensors, head="cls"):
    """The same weights as oriram/splinter stores them: raw classifiers (in, out), unused pooler and LM head."""
    made = {}
    for name, array in tensors.items():
        if name.endswith("_classifier.weight"):
            name, array = name.removesuffix(".weight"), array.T
        name = name.replace("splinter.", "bert.", 1).replace(HEAD, f"{head}.span_predictions.")
        made[name] = array
    width = len(tensors[BIAS])
    extra = {
        "bert.pooler.dense.weight": (width, width),
        "bert.pooler.dense.bias": (width,),
        "cls.predictions.bias": (5,),
        "cls.predictions.transform.dense.weight": (width, width),
        "bert.embeddings.position_ids": (1, 384),
    }
    return made | {name: np.zeros(shape, "float32") for name, shape in extra.items()}


def logits(model, batch=None):
    """Start and end logits of a fixed batch, one array."""
    batch = batch or cases.batches(cases.tiny(), "hf")["padded"]
    inputs = [paddle.to_tensor(batch[name]) for name in cases.INPUTS]
    with paddle.no_grad():
        return np.stack([side.numpy() for side in model(*inputs)])


def theirs(folder):
    """The same from transformers."""
    batch = cases.batches(cases.tiny(), "hf")["padded"]
    with torch.no_grad():
        out = Theirs.from_pretrained(folder).eval()(**{name: torch.tensor(batch[name]) for name in cases.INPUTS})
    return np.stack([out.start_logits.numpy(), out.end_logits.numpy()])


@pytest.fixture(scope="module")
def expected():
    """Logits of the embedded checkpoint as it lies there."""
    return logits(SplinterForQuestionAnswering.from_pretrained(cases.tiny()))


# -- layouts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["cls", "new_cls"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_the_authors_layout_gives_the_same_model(folder, tiny, expected, head, file):
    """
    Classifiers are not transposed, `new_cls` is `cls`, the pooler and the language model head stay behind.
    """
    target = folder(authors(tiny, head), file, model_type="bert", architectures=["StartEndSpanModel"])
    assert np.array_equal(logits(SplinterForQuestionAnswering.from_pretrained(target)), expected)


def test_a_bin_gives_the_same_model(folder, tiny, expected):
    """
    pytorch_model.bin holds what model.safetensors holds.
    """
    assert np.array_equal(
        logits(SplinterForQuestionAnswering.from_pretrained(folder(tiny, "pytorch_model.bin"))), expected
    )


def test_two_heads_in_one_file_are_refused(folder, tiny):
    """
    `cls` and `new_cls` together leave open which one was meant.
    """
    both = authors(tiny) | {n: a for n, a in authors(tiny, "new_cls").items() if n.startswith("new_cls")}
    with pytest.raises(CheckpointError, match=r"two heads, under cls\. and new_cls\."):
        SplinterForQuestionAnswering.from_pretrained(folder(both))


def test_a_hub_cache_is_a_folder_too(tmp_path, monkeypatch, expected):
    """
    A hub name leads through models--org--name/refs/main to its snapshot, without network.
    """
    home = tmp_path / "models--tau--toy"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc123")
    shutil.copytree(cases.tiny(), home / "snapshots" / "abc123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    model = SplinterForQuestionAnswering.from_pretrained("tau/toy", cache=str(tmp_path))
    assert np.array_equal(logits(model), expected)
    with pytest.raises(CheckpointError, match="tau/toy is not in the local hub cache; add --download"):
        SplinterForQuestionAnswering.from_pretrained("tau/toy")


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_floats_are_cast_to_the_models(folder, tiny, expected, dtype):
    """
    A float64 file loses nothing that float32 had; a float16 file loses its own digits only.
    """
    cast = {name: array.astype(dtype) for name, array in tiny.items()}
    model = SplinterForQuestionAnswering.from_pretrained(folder(cast))
    assert {p.dtype for p in model.parameters()} == {paddle.float32}
    assert np.array_equal(logits(model), expected) == (dtype == "float64")


# -- strictness -------------------------------------------------------------------------------------------


MISFITS = {
    "missing": ({BIAS: None}, rf"1 missing: {BIAS}"),
    "surplus": ({"splinter.more": np.zeros(2, "float32")}, r"1 surplus: splinter\.more"),
    "another shape": ({BIAS: np.zeros(61, "float32")}, rf"'{BIAS}' has shape \(61,\), .* asks for \(60,\)"),
    "integers": ({BIAS: np.zeros(60, "int64")}, rf"'{BIAS}' has dtype int64, expected one of float16"),
    "half a head": ({f"{HEAD}end_classifier.weight": None}, r"1 missing: splinter_qass\.end_classifier"),
    "a layer more": ({BIAS.replace("1", "2"): np.zeros(60, "float32")}, r"num_hidden_layers is 2, .* have 3"),
}


@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS)
def test_every_tensor_must_fit(folder, tiny, change, message):
    """
    One tensor removed, added, reshaped or of integers is an error that names it.
    """
    tensors = {name: array for name, array in (tiny | change).items() if array is not None}
    with pytest.raises(WeightError, match=message):
        SplinterForQuestionAnswering.from_pretrained(folder(tensors))


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": 10**9}, {"vocab_size": 10**12}, {"max_position_embeddings": 10**7}]
)
def test_sizes_are_compared_before_memory_is_taken(folder, tiny, change):
    """
    A configuration of nonsense sizes fails at once, not when memory is gone.
    """
    with pytest.raises(WeightError, match=r"num_hidden_layers is 10{9}|the configuration asks for \(10+, 60\)"):
        SplinterForQuestionAnswering.from_pretrained(folder(tiny, **change))


@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_a_plain_bert_has_no_head(folder, tiny, prefix):
    """
    An encoder alone, under either name, opens with a fresh head and not without; another model never does.
    """
    encoder = {n.replace("splinter.", prefix, 1): a for n, a in tiny.items() if not n.startswith(HEAD)}
    target = folder(encoder, model_type="bert", architectures=["BertModel"])
    with pytest.raises(CheckpointError, match=r"holds no question-aware span selection head .*--head fresh"):
        SplinterForQuestionAnswering.from_pretrained(target)
    model = SplinterForQuestionAnswering.from_pretrained(target, head="fresh")
    word = "embeddings.word_embeddings.weight"
    assert np.array_equal(model.bert.embeddings.word.weight.numpy(), tiny[f"splinter.{word}"])
    target = folder(encoder, model_type="roberta", architectures=["RobertaModel"])
    with pytest.raises(CheckpointError, match=r"checkpoint of another model \(model_type 'roberta'"):
        SplinterForQuestionAnswering.from_pretrained(target, head="fresh")


# -- the head ---------------------------------------------------------------------------------------------


def test_a_matching_head_scores_likeness(folder, tiny):
    """
    Before anything is learnt a question's own token gets the peak and [QUESTION] reads as [MASK]; the rest stays.
    """
    encoder = {n.replace("splinter.", "bert.", 1): a for n, a in tiny.items() if not n.startswith(HEAD)}
    target = folder(encoder, model_type="bert", architectures=["BertModel"])
    model = SplinterForQuestionAnswering.from_pretrained(target, head="fresh")
    model.match_questions(peak=5.0)
    states = paddle.randn([2, 6, model.config.hidden_size])
    positions = paddle.to_tensor([[1, 4], [0, 5]])
    for logits in model.cls(states, positions):
        own = paddle.take_along_axis(logits, positions.unsqueeze(-1), axis=-1)
        np.testing.assert_allclose(own.numpy(), 5.0, rtol=1e-2)  # the epsilon of the norm takes a little
        assert (logits.numpy() <= own.numpy() + 1e-5).all()
    words, before = model.bert.embeddings.word.weight.numpy(), tiny["splinter.embeddings.word_embeddings.weight"]
    changed = (words != before).any(axis=-1)
    assert changed.nonzero()[0].tolist() == [model.config.question_token_id]
    assert np.array_equal(words[model.config.question_token_id], words[model.config.mask_token_id])


def test_a_missing_head_is_an_error_with_the_way_out(folder, tiny):
    """
    Nobody gets random answers unasked.
    """
    target = folder({n: a for n, a in tiny.items() if not n.startswith(HEAD)})
    with pytest.raises(CheckpointError, match=r"holds no question-aware span selection head .*--head fresh"):
        SplinterForQuestionAnswering.from_pretrained(target)


@pytest.mark.parametrize(
    ("asked", "there", "found"),
    [
        ("auto", False, "fresh"),
        ("auto", True, "pretrained"),
        ("fresh", True, "fresh"),
        ("pretrained", True, "pretrained"),
    ],
)
def test_the_model_says_which_head_it_has(folder, tiny, asked, there, found):
    """
    `model.head` tells a new random head from the checkpoint's; the encoder is the checkpoint's in both.
    """
    target = folder({n: a for n, a in tiny.items() if there or not n.startswith(HEAD)})
    model = SplinterForQuestionAnswering.from_pretrained(target, head=asked)
    weights = to_numpy(model)
    same = np.array_equal(weights["cls.start_classifier.weight"], tiny[f"{HEAD}start_classifier.weight"].T)
    assert (model.head, same) == (found, found == "pretrained")
    assert np.array_equal(weights["bert.encoder.1.outer.bias"], tiny[BIAS])


# -- writing ----------------------------------------------------------------------------------------------


def test_saved_and_loaded_is_the_same_bit_for_bit(tmp_path, tiny):
    """
    Our file holds their names, their layout and every bit; vocabulary and mode travel along.
    """
    model = SplinterForQuestionAnswering.from_pretrained(cases.tiny(), mode="paper")
    again = SplinterForQuestionAnswering.from_pretrained(model.save_pretrained(tmp_path / "new"))
    written = load_file(tmp_path / "new" / "model.safetensors")
    assert {n: a.tobytes() for n, a in written.items()} == {n: a.tobytes() for n, a in tiny.items()}
    assert again.config == model.config
    assert (tmp_path / "new" / "vocab.txt").read_bytes() == (cases.tiny() / "vocab.txt").read_bytes()


def test_transformers_opens_what_we_write(tmp_path):
    """
    A model with a head of ours answers alike in transformers, and again after transformers has saved it.
    """
    paddle.seed(3)
    model = SplinterForQuestionAnswering.from_pretrained(cases.tiny(), head="fresh")
    model.save_pretrained(tmp_path / "ours")
    np.testing.assert_allclose(theirs(tmp_path / "ours"), logits(model), atol=ROUNDING, rtol=1e-6)
    Theirs.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    back = SplinterForQuestionAnswering.from_pretrained(tmp_path / "theirs")
    assert np.array_equal(logits(back), logits(model))


def test_a_failed_save_leaves_the_old_weights(tmp_path, monkeypatch):
    """
    A disk that is full after the first tensor costs the new file, not the old one.
    """
    model = SplinterForQuestionAnswering.from_pretrained(cases.tiny())
    model.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def full(array):
        raise OSError(28, "No space left on device")

    model.bert.embeddings.word.weight.set_value(model.bert.embeddings.word.weight * 2)
    monkeypatch.setattr(np, "ascontiguousarray", full)
    with pytest.raises(OSError, match="No space left") as error:
        model.save_pretrained(tmp_path)
    assert error.value.filename == str(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert not list(tmp_path.glob(".*partial"))


# -- modes ------------------------------------------------------------------------------------------------


def test_the_mode_is_one_field(folder, tiny):
    """
    Asked for, or else the checkpoint's, or else hf; anything else is refused with the file's name.
    """
    assert SplinterForQuestionAnswering.from_pretrained(folder(tiny, mode="paper")).config.mode == "paper"
    assert SplinterForQuestionAnswering.from_pretrained(folder(tiny), mode="hf").config.mode == "hf"
    with pytest.raises(CheckpointError, match=r"config\.json: mode 'bert' is not known; use one of hf, paper"):
        SplinterForQuestionAnswering.from_pretrained(folder(tiny, mode="bert"))


def test_pretraining_reads_the_same_checkpoint():
    """
    Both tasks share every tensor.
    """
    ours = (
        to_numpy(kind.from_pretrained(cases.tiny())) for kind in (SplinterForQuestionAnswering, SplinterForPreTraining)
    )
    answering, pretraining = ours
    assert all(np.array_equal(answering[name], pretraining[name]) for name in answering)
    assert answering.keys() == pretraining.keys()
