"""The commands of `splinter COMMAND --system jointbert`: their options, their help, and what they print."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from splinter.ports.common import options as shared
from splinter.ports.common.options import Text

from .config import RECIPE

CORPUS = """A corpus is a folder with train/, dev/ and test/, each with seq.in (words), seq.out (one BIO tag per word)
and label (the intent), one sentence per line. Labels come from intent_label.txt and slot_label.txt in the folder,
or else from train/."""

TEXTS = {
    "convert": Text(
        "Reads a JointBERT in the layout of monologg/JointBERT (PyTorch), from model.safetensors or\n"
        "pytorch_model.bin; its vocab.txt must lie beside it. A plain BERT needs no conversion: finetune reads it.",
        "splinter convert --system jointbert monologg-atis jb --labels atis",
    ),
    "finetune": Text(
        "Trains on CORPUS/train; the sentence accuracy on CORPUS/dev chooses the weights that are saved (the last\n"
        f"scores are in training.json as well). The model is a BERT, whose heads are new, or a JointBERT.\n\n{CORPUS}",
        "splinter finetune --system jointbert --model google-bert/bert-base-uncased --train atis --crf --output jb",
    ),
    "evaluate": Text(
        "Prints intent accuracy, slot precision, recall and F1, and sentence accuracy, in points from 0 to 100, and\n"
        "the mean loss, as JSON. Slots beyond --max-length count as missed, in `cut` sentences.\n"
        f"--data is one part of a corpus.\n\n{CORPUS}",
        "splinter evaluate --system jointbert --model jb --data atis/test --predictions predictions.txt",
    ),
    "predict": Text(
        "Spaces separate words. The output puts a word with a slot in brackets, with its tag. From standard input,\n"
        "each line is answered as it comes. Words that do not fit into --max-length get no tag.",
        'splinter predict --system jointbert --model jb "book a flight to boston"\n'
        "  cat sentences.txt | splinter predict --system jointbert --model jb --input - --json",
    ),
}


def add(command: str, parser: argparse.ArgumentParser) -> None:
    """Give a command the options of this system."""
    {"convert": _convert, "finetune": _finetune, "evaluate": _evaluate, "predict": _predict}[command](parser)


def _length(parser: Any, default: str) -> None:
    parser.add_argument(
        "--max-length", type=shared.positive, metavar="N", help=f"pieces per sentence (default: {default})"
    )


def _use(parser: argparse.ArgumentParser) -> None:
    _length(parser, "as in training, else 50")
    parser.add_argument(
        "--decode-padding",
        action="store_true",
        help="let the CRF's path run on through the padding, as monologg/JointBERT does",
    )
    parser.add_argument(
        "--batch-size", type=shared.positive, default=64, metavar="N", help="sentences per forward pass (default: 64)"
    )


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels", type=shared.path, metavar="FOLDER", help="folder of the label files, where config.json has none"
    )


def _finetune(parser: argparse.ArgumentParser) -> None:
    _length(parser, "50")
    parser.add_argument("--crf", action="store_true", help="a conditional random field on the slots")
    parser.add_argument(
        "--evaluate-every",
        type=shared.positive,
        default=200,
        metavar="N",
        help="score the dev part every N updates (default: 200)",
    )
    group = parser.add_argument_group("recipe", "The rate falls from its peak to 0; defaults as in monologg/JointBERT.")
    shared.add_recipe(group, RECIPE, "sentences")


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--predictions", type=shared.path, metavar="FILE", help="also write a line per sentence")
    _use(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="*", metavar="SENTENCE", help="sentences; or --input")
    parser.add_argument("--input", type=shared.path, metavar="FILE", help="a sentence per line; - for standard input")
    _use(parser)


# -- commands ---------------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace):
    from .tasks import Settings

    return Settings(**shared.settings_of(options), max_length=options.max_length)


def convert(options: argparse.Namespace) -> str:
    """Convert; returns a line about it."""
    from . import tasks

    return tasks.convert(options.source, options.output, options.labels, options.download)


def finetune(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Fine-tune; returns the record of the run."""
    from splinter.ports.common.tasks import train

    from .tasks import Finetuning, Settings

    settings = shared.settings_of(options) | {"batch_size": 64}  # of the looks at dev; the recipe has its own
    return train(
        Finetuning(
            settings=Settings(**settings, max_length=options.max_length),
            crf=options.crf,
            evaluate_every=options.evaluate_every,
            **shared.run_of(options, RECIPE),
        ),
        say,
    )


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Score; returns the scores."""
    from . import tasks

    scores = tasks.evaluate(_settings(options), options.data, options.predictions, options.decode_padding)
    return shared.rounded(scores)


def predict(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Tag sentences, each as it comes.

    Yields:
        What --json prints of a sentence, with the lines for a reader under "lines".
    """
    from splinter.ports.common import UsageError
    from splinter.ports.common.text import existing

    from . import data, metric, tasks

    if bool(options.text) == (options.input is not None):
        raise UsageError("give either sentences or --input FILE (- for standard input)")
    stream = str(options.input) == "-"
    if options.input is not None and not stream:
        existing(options.input, "a text file with one sentence per line")  # before a model loads
    given = [data.sentence(text, "the command line", str(number)) for number, text in enumerate(options.text, 1)]
    tagger = tasks.open_tagger(_settings(options), options.decode_padding)
    sentences = iter(given) if given else data.read_texts(options.input)
    for found in tasks.predict(tagger, sentences, stream=stream):
        tags = [slot or "O" for slot in found["slots"]]
        lines = [metric.line(found["intent"], found["words"], tags)]
        if cut := found["slots"].count(None):
            lines.append(f"  the last {cut} words have no tag: they are beyond --max-length {tagger.max_length}")
        yield {**found, "lines": lines}
