"""`prove` from a user's side: two models and a batch, in Python, as a fixture and from the shell."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from splinter.align import Rule, prove
from splinter.align.proving import ProveError
from splinter.cli import main as cli

pytest_plugins = ["pytester"]
HERE = Path(__file__).parent / "proving"
sys.path.insert(0, str(HERE))

import reader_paddle  # noqa: E402
import reader_torch  # noqa: E402

BATCH = {"input_ids": np.random.default_rng(0).integers(1, 31, (3, 8)), "attention_mask": np.ones((3, 8), np.int64)}
QUICK = {"updates": 3}


SAME_NAMES = [
    Rule(f"{layer}.{leaf}", f"{layer}.{leaf}") for layer in ("first", "second") for leaf in ("weight", "bias")
]


def theirs():
    return reader_torch.Reader()


def ours(**fault):
    return lambda: reader_paddle.Reader(**fault)


def verdicts(proof):
    """check -> whether it passed in every precision."""
    return {name: all(c.passed for c in proof.checks if c.name == name) for name in {c.name for c in proof.checks}}


@pytest.fixture(scope="module")
def right():
    return prove(theirs, ours(), BATCH, **QUICK)


def test_a_right_port_is_aligned(right):
    assert right.passed and bool(right), str(right)
    assert set(verdicts(right)) == {"weights", "forward", "backward", "dropout", "init"}
    assert right.left.keys() == {"decode", "export", "compiled"}
    assert "ALIGNED" in str(right) and "NOT ALIGNED" not in str(right)


def test_every_layer_and_every_hostile_batch_was_compared(right):
    forward = next(check for check in right.checks if check.name == "forward")
    batches = {one.name.partition("/")[0] for one in forward.alignment.comparisons}
    assert batches >= {"batch", "one row", "one token", "repeated ids", "longer", "padding left"}
    layers = {one.name.partition("/")[2] for one in forward.alignment.comparisons}
    assert layers >= {"word_embeddings", "layer_norm", "fc", "out_proj", "logits", "pooled"}


@pytest.mark.parametrize(("fault", "red", "words"), [
    ({"epsilon": 1e-12}, "forward", "layer_norm"),
    ({"residual": 0.999}, "forward", "out_proj"),
    ({"rate": 0.2}, "dropout", "0.2"),
    ({"law": 0.5}, "init", "word_embeddings"),
])  # fmt: skip
def test_a_fault_turns_its_check_red_and_its_layer_is_named(fault, red, words):
    proof = prove(theirs, ours(**fault), BATCH, **QUICK)
    assert not proof.passed
    assert proof.failure.name == red, str(proof)
    assert words in str(proof)
    if red in ("dropout", "init"):
        assert verdicts(proof)["forward"]  # nothing else is suspected


def test_models_are_left_as_they_were():
    mine, yours = reader_torch.Reader(), reader_paddle.Reader()
    mine.train(), yours.eval()
    before = (
        {n: p.detach().clone() for n, p in mine.named_parameters()},
        {n: p.numpy() for n, p in yours.named_parameters()},
    )
    proof = prove(mine, yours, BATCH, **QUICK)
    assert proof.passed, str(proof)
    assert "init" in proof.left
    assert mine.training and not yours.training
    assert all(torch.equal(p, before[0][n]) and p.grad is None for n, p in mine.named_parameters())
    assert all(np.array_equal(p.numpy(), before[1][n]) and p.grad is None for n, p in yours.named_parameters())
    assert not mine._forward_hooks and not mine.dense._forward_hooks


class Pooled(reader_paddle.Reader):
    """With a layer that nothing reads, as paddlenlp's BertForTokenClassification has."""

    def __init__(self):
        super().__init__()
        self.pooler = reader_paddle.linear(8, 8)


def test_a_layer_that_nothing_reads_turns_no_update_red():
    proof = prove(theirs, lambda: Pooled(), BATCH, steps=("weights", "forward", "backward"), **QUICK)
    assert proof.passed, str(proof)
    assert "pooler" in str(proof)


class Headed(Pooled):
    """Which returns it as a third output, that the original has not; paddlenlp's ConvBertModel does."""

    def forward(self, input_ids, attention_mask=None):
        logits, pooled = super().forward(input_ids, attention_mask)
        return logits, pooled, self.pooler(pooled)


def test_what_makes_an_output_without_a_counterpart_needs_no_weights():
    proof = prove(theirs, lambda: Headed(), BATCH, steps=("weights", "forward"), **QUICK)
    assert proof.passed, str(proof)
    assert "pooler" in str(proof)


def test_weights_that_both_hold_are_checked():
    mine, yours = reader_torch.Reader(), reader_paddle.Reader()
    assert prove(mine, yours, BATCH, weights="check", **QUICK).failure.name == "weights"
    yours.word_embeddings.weight.set_value(mine.embedding.weight.detach().numpy())
    for name, other in (("norm", "layer_norm"), ("dense", "fc"), ("classifier", "out_proj")):
        from_, to = getattr(mine, name), getattr(yours, other)
        to.weight.set_value(from_.weight.detach().numpy().T)
        to.bias.set_value(from_.bias.detach().numpy())
    assert prove(mine, yours, BATCH, weights="check", **QUICK).passed


def test_one_framework_twice_and_the_way_round():
    """A rewrite is proven as a port is, and Paddle may be the original."""
    assert prove(theirs, lambda: type("Rewrite", (reader_torch.Reader,), {})(), BATCH, **QUICK).passed
    assert prove(ours(), theirs, BATCH, **QUICK).passed


def test_reduced_precision_is_judged_by_the_references_own_error():
    rewrite = type("Rewrite", (reader_torch.Reader,), {})
    options = {"steps": ["forward"], "dtypes": ["float64", "bfloat16"]}
    proof = prove(theirs, lambda: rewrite(), BATCH, **options)
    assert proof.passed, str(proof)
    assert [c.dtype for c in proof.checks] == ["float64", "bfloat16"]
    assert not prove(theirs, lambda: rewrite(epsilon=1.0), BATCH, **options | {"dtypes": ["bfloat16"]}).passed


def test_a_precision_that_a_framework_cannot_is_left_out_and_said():
    """Paddle 3.3.1 has no LayerNorm in bfloat16 on a CPU; where it has, this proof has one check more."""
    proof = prove(theirs, ours(), BATCH, steps=["forward"], dtypes=["float32", "bfloat16"])
    ran = [check.dtype for check in proof.checks]
    assert proof.passed and "float32" in ran, str(proof)
    assert ("bfloat16" in ran) != ("does not run in bfloat16" in proof.left.get("forward bfloat16", ""))


@pytest.mark.parametrize(("call", "said"), [
    (lambda: prove(reader_torch.Reader, ours(), BATCH), "theirs is the class Reader itself"),
    (lambda: prove(3, ours(), BATCH), "theirs is a int"),
    (lambda: prove(theirs, ours(), {"ids": BATCH["input_ids"]}), "theirs does not run on the batch 'batch'"),
    (lambda: prove(theirs, ours(), BATCH, steps=["forwards"]), "no forwards; there are weights, forward"),
    (lambda: prove(theirs, ours(), BATCH, dtypes=["float8"]), "no float8"),
    (lambda: prove(theirs, ours(), BATCH, outputs=["hidden"]), "outputs= names 'hidden'"),
    (lambda: prove(theirs, ours(), BATCH, export=True), "export=True wants save_pretrained"),
])  # fmt: skip
def test_what_cannot_be_proven_says_what_would_do(call, said):
    with pytest.raises(ProveError, match=said):
        call()


def test_two_norms_exchanged_show_though_they_are_fresh():
    """
    Fresh norms are all alike, and no output tells one from another; in the copies that are compared they are moved.
    """

    class Twice(torch.nn.Module):
        def __init__(self, exchanged=False):
            super().__init__()
            self.first, self.second = torch.nn.LayerNorm(6), torch.nn.LayerNorm(6)
            self.exchanged = exchanged

        def forward(self, x):
            one, other = (self.second, self.first) if self.exchanged else (self.first, self.second)
            return other(torch.tanh(one(x)))

    class Port(Twice):
        pass

    x, options = (
        np.random.default_rng(0).normal(size=(4, 6)),
        {"rules": SAME_NAMES, "skip": "first|second", "steps": ["forward"]},
    )
    assert prove(lambda: Twice(), lambda: Port(), [x], **options).passed
    assert not prove(lambda: Twice(), lambda: Port(True), [x], **options).passed
    assert prove(lambda: Twice(), lambda: Port(True), [x], hostile=False, **options).passed


def test_one_model_twice_is_no_proof():
    model = reader_torch.Reader()
    with pytest.raises(ProveError, match="a comparison with itself"):
        prove(model, model, BATCH)


def test_the_folder_has_page_table_badges_and_record(right, tmp_path):
    page = right.save(tmp_path / "report")
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "alignment.json", "report.md", "badges"}
    markdown = (page.parent / "report.md").read_text()
    assert markdown.startswith("## ALIGNED") and "| `fc` |" in markdown and "not run: export" in markdown
    record = json.loads((page.parent / "alignment.json").read_text())
    assert {one["verdict"] for one in record["results"]} == {"passed"}
    assert "green" in (page.parent / "badges" / "forward.json").read_text()


# -- from the shell ---------------------------------------------------------------------------------------

FILE = f"""
import sys; sys.path.insert(0, {str(HERE)!r})
import numpy as np
import reader_paddle, reader_torch
def theirs(): return reader_torch.Reader()
def ours(): return reader_paddle.Reader(epsilon=EPSILON)
def batch(): return {{"input_ids": np.arange(24).reshape(3, 8), "attention_mask": np.ones((3, 8), dtype=np.int64)}}
"""


@pytest.mark.parametrize(("epsilon", "code"), [("1e-5", 0), ("1e-12", 1)])
def test_the_exit_code_is_the_verdict(tmp_path, capsys, epsilon, code):
    (tmp_path / "my_port.py").write_text(FILE.replace("EPSILON", epsilon))
    assert cli.main(["prove", str(tmp_path / "my_port.py"), "--updates", "2", "--markdown"]) == code
    assert ("## ALIGNED" if code == 0 else "## NOT ALIGNED") in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "said"), [
    (["nowhere.py"], "nowhere.py: cannot be read: No such file"),
    ([], "name a file with theirs(), ours() and batch()"),
    (["--theirs", "torch:NoSuch", "--ours", "torch:NoSuch", "--config", "c.json"], "c.json: cannot be read"),
    (["my_port.py", "--rule", "nonsense"], "write THEIRS=OURS"),
])  # fmt: skip
def test_what_could_not_be_run_is_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_port.py").write_text(FILE.replace("EPSILON", "1e-5"))
    assert cli.main(["prove", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_suite_is_written_runs_and_catches_a_mistake(tmp_path, capsys):
    """In an empty folder; a wrong residual afterwards turns it red; what is there is never written over."""
    (tmp_path / "my_port.py").write_text(FILE.replace("EPSILON", "1e-5"))
    command = ["prove", str(tmp_path / "my_port.py"), "--updates", "2", "--write-suite", str(tmp_path / "kept")]
    assert cli.main(command) == 0
    kept = tmp_path / "kept"
    assert {path.name for path in kept.iterdir()} == {"models.py", "port.py", "test_port.py", "pytest.ini"}
    assert 'Rule("dense.weight", "fc.weight", transpose=True)' in (kept / "port.py").read_text()

    def run(*options):
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
                              cwd=kept, capture_output=True, text=True)  # fmt: skip
        return done.returncode, done.stdout

    code, output = run()
    assert code == 0 and "5 passed" in output, output
    models = (kept / "models.py").read_text()
    (kept / "models.py").write_text(models.replace("epsilon=1e-5", "epsilon=1e-5, residual=0.9"))
    code, output = run("-k", "forward")
    assert code == 1 and "out_proj" in output, output
    assert cli.main(command) == 2
    assert "is there already" in capsys.readouterr().err


PAIR = """
import numpy as np
import torch
from torch import nn
class A(nn.Module):
    def __init__(self, momentum=0.1, scale=1.0):
        super().__init__()
        self.scale, self.norm = scale, nn.BatchNorm1d(4, momentum=momentum)
        self.read, self.out = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 2)
    def forward(self, x):
        states, _ = self.read(self.scale * self.norm(x.transpose(1, 2)).transpose(1, 2))
        return self.out(states)
class B(A): pass
def theirs(): return A()
def ours(): return B(FAULT)
def batch(): return [np.random.default_rng(0).normal(size=(3, 5, 4))]
"""


def pair_of_one_file(fault):
    names = {}
    exec(PAIR.replace("FAULT", fault), names)
    names["A"].__module__ = names["B"].__module__ = "torch"  # any module that is there
    return names["theirs"], names["ours"], names["batch"]()


def test_momentum_of_a_running_statistic_is_named():
    proof = prove(*pair_of_one_file("momentum=0.01"), **QUICK)
    assert proof.failure.name == "backward", str(proof)
    assert "momentum: the running statistic running_mean of norm" in str(proof)
    assert "a pass keeps 0.99 of it in ours, 0.9 in theirs" in str(proof)


def test_a_recurrent_layer_is_not_blamed_for_what_it_is_given():
    proof = prove(*pair_of_one_file("scale=0.5"), **QUICK)
    assert "scale: what read#0.0 (LSTM against LSTM) is given differs" in str(proof), str(proof)


def test_a_suite_of_two_classes_in_one_file_and_of_some_steps(tmp_path, capsys):
    (tmp_path / "my_port.py").write_text(PAIR.replace("FAULT", ""))
    kept = tmp_path / "kept"
    command = ["prove", str(tmp_path / "my_port.py"), "--steps", "weights", "forward", "--write-suite", str(kept)]
    assert cli.main(command) == 0, capsys.readouterr().out
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=kept,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


def test_an_option_of_the_file_that_nobody_takes_is_one_line(tmp_path, capsys):
    (tmp_path / "my_port.py").write_text(PAIR.replace("FAULT", "") + "OPTIONS = {'tolerence': 3}")
    assert cli.main(["prove", str(tmp_path / "my_port.py")]) == 2
    assert "OPTIONS holds tolerence, which prove does not take" in capsys.readouterr().err


def test_the_fixture_fails_with_the_verdict_and_leaves_a_record(pytester):
    pytester.makepyfile(
        FILE.replace("EPSILON", "1e-12") + "\ndef test_port(prove): prove(theirs, ours, batch(), updates=2)\n"
    )
    done = pytester.runpytest_subprocess("--align-json=a.json", "-p", "no:cacheprovider")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*NOT ALIGNED*forward*"])
    record = json.loads((pytester.path / "a.json").read_text())
    assert {one["step"] for one in record["results"]} >= {"forward", "backward", "init"}
