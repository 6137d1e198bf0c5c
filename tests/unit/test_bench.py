"""bench_speed.py and scripts/budget.py: a plain run of pytest does not collect them, so their faults are told here."""

import json
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import paddle
import pytest

from splinter.datasets import PROJECT

budget = pytest.importorskip("budget", reason="scripts/ lies in a clone")


class Optimizer:
    """One operation."""

    def step(self):
        return paddle.ones([9]).add(paddle.ones([9]))


def test_what_is_measured_can_be_run():
    """
    Each of the short benchmarks, once, untimed.
    """
    command = [sys.executable, "-m", "pytest", "tests/unit/bench_speed.py", "--benchmark-disable", "-q"]
    command += ["-p", "no:cacheprovider", "-k", "tiny or jointbert or (mining_by_form and here)"]
    environment = {**os.environ, "SPLINTER_KERNELS": "0"}
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "5 passed, 4 skipped" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("ours", "theirs", "kind"),
    [
        ("pd_op.matmul_grad", "aten::addmm", "products"),
        ("pd_op.dropout", "aten::native_dropout", "dropout"),
        ("pd_op.layer_norm_grad", "aten::native_layer_norm_backward", "LayerNorm"),
        ("pd_op.softmax", "aten::_softmax_backward_data", "softmax"),
        ("pd_op.gelu", "aten::gelu_backward", "gelu"),
        ("pd_op.transpose", "aten::copy_", "copies"),
        ("custom_op.splinter_linear_grad", "aten::addmm", "products"),
        ("pd_op.gather_nd", "aten::embedding_dense_backward", budget.OTHER),
    ],
)
def test_operations_of_both_frameworks_are_of_a_kind(ours, theirs, kind):
    """
    By their names.
    """
    assert (budget.kind_of(ours), budget.kind_of(theirs)) == (kind, kind)


def test_attention_in_one_kernel_is_a_kind_of_its_own():
    assert {budget.kind_of(f"custom_op.splinter_{name}attention_grad") for name in ("", "relative_")} == {"attention"}


def test_a_step_is_taken_apart_and_leaves_no_file(tmp_path, monkeypatch):
    """
    The products of a step and its optimizer, by themselves; paddle's profiler would write a trace of megabytes.
    """
    monkeypatch.chdir(tmp_path)
    square = paddle.ones([200, 200])
    trainer = SimpleNamespace(optimizer=Optimizer())
    spent = budget.paddle_step(trainer, lambda: (square.matmul(square), trainer.optimizer.step()))
    assert spent["products"] > 0 and spent[budget.OPTIMIZER] > 0 and not list(tmp_path.iterdir())
    assert "step" not in vars(trainer.optimizer)


def test_a_budget_is_of_medians():
    """
    What no operation took is Python's; without a time of theirs there is no ratio.
    """
    ours = [Counter(dropout=value, gelu=2.0) for value in (3.0, 4.0, 50.0)]
    lines = budget.table({"paddle": ours, "torch": [Counter(dropout=2.0)]}, {"paddle": [10.0], "torch": [3.0]})
    assert lines.splitlines()[2:] == [
        "| dropout | 4 | 2 | 2.00 |",
        "| gelu | 2 | 0 |  |",
        f"| {budget.WAITING} | 4 | 1 | 4.00 |",
        "| the step | 10 | 3 | 3.33 |",
    ]


def test_the_table_has_a_row_for_each_group(tmp_path):
    """
    Ratios of models are those of pairs; features have two entries; a later file replaces what an earlier one says; what
    has no counterpart is left out.
    """
    from evidence import tables

    def entry(group, name, median, **extra):
        return {"group": group, "name": name, "stats": {"median": median}, "extra_info": extra}

    first = [
        entry("step", "test_model[own]", 9.0, built="paddle's own", torch=5.0, ratio=1.9),
        entry("step", "test_model[kernels]", 4.0, built="kernels", torch=5.5, ratio=0.75),
        entry("forward", "test_model[own]", 1.0, built="paddle's own", torch=2.0, ratio=0.5),
        entry("features", "test_features_ours", 1.0),
        entry("features", "test_features_transformers", 4.0),
        entry("mining", "test_mining[here]", 1.0),
    ]
    second = [entry("step", "test_model[own]", 8.0, built="paddle's own", torch=4.0, ratio=2.01)]
    for name, entries in (("a", first), ("b", second)):
        (tmp_path / name).write_text(json.dumps({"benchmarks": entries}), encoding="utf-8")
    assert tables.bench_table([tmp_path / "a", tmp_path / "b"]).splitlines()[2:] == [
        "| step | 8.000 | 4.000 | 4.000 | 2.01 | 0.75 |",
        "| forward | 1.000 |  | 2.000 | 0.50 |  |",
        "| features | 1.000 |  | 4.000 | 0.25 |  |",
    ]
