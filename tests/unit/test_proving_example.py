"""The example of docs/your-own-port.md, as a reader runs it."""

from pathlib import Path

import pytest

from splinter.cli import main as cli

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_shows_what_the_example_prints(capsys):
    """
    The verdict, the layer, the kind and both epsilons; numbers hang on the processor.
    """
    pytest.importorskip("paddlenlp", reason="the example is a port of paddlenlp's: pip install '.[paddlenlp]'")
    assert cli.main(["prove", str(DOCS / "examples" / "bert.py"), "--steps", "weights", "forward"]) == 1
    printed = capsys.readouterr().out
    page = (DOCS / "your-own-port.md").read_text(encoding="utf-8")
    for words in ("weights  39 tensors: 31 by name, 8 by trial", "NOT ALIGNED: forward float64, forward float32",
                  "epsilon: embeddings.layer_norm (LayerNorm against LayerNorm) itself differs by",
                  "ours is as with epsilon 1e-05, where theirs has 1e-12"):  # fmt: skip
        assert words in printed
        assert words in page
