"""Weights travel both ways without a bit lost, and without a second copy of the model in memory."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from splinter.ports.splinter import config
from splinter.ports.splinter.model import SplinterForQuestionAnswering
from splinter.ports.splinter.proof import cases

LARGE = config.SplinterConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)


@pytest.mark.parametrize(
    ("sizes", "tensors", "numbers", "head"),
    [(cases.BASE, 215, 111_267_840, 3_548_160), (LARGE, 407, 338_833_408, 6_303_744)],
    ids=["base", "large"],
)
def test_published_sizes(sizes, tensors, numbers, head):
    """Tensor and parameter counts are those of the published checkpoints, with 18 tensors in the head."""
    shapes = config.shapes(sizes)
    heads = [math.prod(shape) for name, shape in shapes.items() if name.startswith("splinter_qass.")]
    assert (len(shapes), sum(map(math.prod, shapes.values()))) == (tensors, numbers)
    assert (len(heads), sum(heads)) == (18, head)


def test_round_trip_keeps_every_bit(tmp_path):
    """Saved from Paddle, each tensor has the name, the shape and the bits that transformers' checkpoint had."""
    SplinterForQuestionAnswering.from_pretrained(cases.tiny()).save_pretrained(tmp_path)
    before, after = load_file(cases.tiny() / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name], err_msg=name)


@pytest.mark.parametrize("mode", config.MODES)
def test_transformers_opens_what_paddle_saved(tmp_path, mode):
    """Strictly: nothing missing, nothing unexpected, nothing mismatched, and the same logits."""
    import torch
    from transformers import SplinterForQuestionAnswering as Theirs

    SplinterForQuestionAnswering.from_pretrained(cases.tiny(), mode=mode).save_pretrained(tmp_path)
    theirs, report = Theirs.from_pretrained(tmp_path, output_loading_info=True, attn_implementation="eager")
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    original = Theirs.from_pretrained(cases.tiny(), attn_implementation="eager")
    ids = torch.tensor(cases.batches(cases.tiny(), "hf")["padded"]["input_ids"])
    with torch.no_grad():
        assert torch.equal(theirs.eval()(ids).start_logits, original.eval()(ids).start_logits)


MEASURE = """
import json, resource, sys
from pathlib import Path
from splinter import runtime
runtime.import_paddle()
import paddle, safetensors
from splinter.ports.splinter import tasks
paddle.ones([4]).sum()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
tasks.convert(sys.argv[1], Path(sys.argv[2]))
print(json.dumps(peak() - before))
"""


@pytest.mark.slow
def test_conversion_stays_below_1_3_times_the_checkpoint(tmp_path):
    """At base size: the rise of peak resident memory while a checkpoint is read, converted and written."""
    folder = cases.write_random(tmp_path / "base", cases.BASE, 0, None, logits=700.0)
    pieces = (cases.tiny() / "vocab.txt").read_text(encoding="utf-8").split()
    pieces += [f"[extra{i}]" for i in range(cases.BASE.vocab_size - len(pieces))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    command = [sys.executable, "-c", MEASURE, str(folder), str(tmp_path / "converted")]
    rise = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    size = (folder / "model.safetensors").stat().st_size
    print(f"checkpoint {size / 1e6:.0f} MB, rise of peak memory {rise / 1e6:.0f} MB, ratio {rise / size:.2f}")
    assert rise < 1.3 * size
