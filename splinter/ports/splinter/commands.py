"""The commands of `splinter COMMAND --system splinter`: their options, their help, and what they print."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from splinter.cli import options as shared
from splinter.cli.options import Text
from splinter.ports.common.training.schedule import OPTIMIZERS, PRECISIONS, Recipe

from .pretraining.corpus import MODES as MINING_MODES
from .pretraining.engines import ENGINES
from .pretraining.passages import LAYOUTS

RECIPE = Recipe()
MODES = """modes:
  hf     behaves as transformers does with the published checkpoints: raw text, answers of up to 30 word pieces
  paper  behaves as the authors' few-shot code: MRQA tokens, answers of up to 10 word pieces"""
FILES = """files, plain or .gz; the kind is told by what is in them:
  MRQA JSON lines, as in the few-shot archive (with or without _qass), or SQuAD JSON 1.1 and 2.0;
  rows of `datasets`, or {"question": ..., "context": ..., "answer": ...}, as JSON lines or in a list;
  sample: the examples that come with the project"""

TEXTS = {
    "convert": Text(
        "Reads the layout of transformers (tau/splinter-base-qass and its like) or the authors' own, from\n"
        "model.safetensors or pytorch_model.bin; with --head fresh also a plain BERT, to pretrain. Every tensor must\n"
        "be there, with the right shape.\n\n" + MODES,
        "splinter convert tau/splinter-base-qass splinter-base --download",
    ),
    "finetune": Text(
        f"By the paper's few-shot recipe unless told otherwise.\n\n{FILES}\n\n{MODES}",
        "splinter finetune --model splinter-base --train squad-train-seed-42-num-examples-16_qass.jsonl --output run16",
    ),
    "evaluate": Text(
        f"Prints exact match and F1, in points from 0 to 100, as JSON.\n\n{FILES}\n\n{MODES}",
        "splinter evaluate --model run16 --data dev-v1.1.json --predictions predictions.json",
    ),
    "predict": Text(
        'Each input line: {"question": "Who wrote it?", "context": "Ann wrote it in 1990.", "id": "optional"}.\n'
        "A file of finetune or evaluate serves as well, with or without answers. From standard input, each line is\n"
        "answered as it comes. An answer is a piece of its context; characters are counted from 0, the end is\n"
        f"exclusive; probabilities are shares among the 20 best answers.\n\n{MODES}",
        "splinter predict --model run16 --question 'Who wrote it?' --context 'Ann wrote it in 1990.'\n"
        "  cat questions.jsonl | splinter predict --model run16 --input - --json",
    ),
    "mine": Text(
        "Cuts text into passages, finds the spans that recur in each (from the beginning of a word on, not all of it\n"
        "stop words), and writes them in shards, with a manifest, statistics and a list of the spans.\n"
        "Interrupted, the same command with --resume goes on with the next shard; the result is the same, with any\n"
        "number of workers and either engine.\n\n"
        "files, plain or .gz; the layout is told by what is in them:\n"
        "  doc    <doc ...>, title, a paragraph per line, </doc>, as WikiExtractor writes it\n"
        '  jsonl  an object per line with the document under "text"\n'
        "  text   a paragraph per line; an empty line ends a document\n\n"
        "modes:\n"
        "  paper       as the authors' code: of a recurring span, the first occurrence must end with a word\n"
        "  whole-word  every occurrence must",
        "splinter mine wiki/ --tokenizer splinter-base --output corpus --workers 8",
    ),
    "pretrain": Text(
        "Starts from a checkpoint with a span selection head (convert --head fresh makes one from a plain BERT) and a\n"
        "corpus that `splinter mine` wrote with its vocabulary. Questions are drawn anew in every epoch.\n"
        "Several processes share each batch when started by torchrun, or by python -m paddle.distributed.launch:\n"
        "  torchrun --nproc_per_node 8 -m splinter.cli pretrain --framework torch ...\n"
        # the launcher of paddle 3.3.1 has no -m: it wants a file, which $(which splinter) is
        "  python -m paddle.distributed.launch --nproc_per_node 8 $(which splinter) pretrain ...",
        "splinter pretrain --model bert-with-head --corpus corpus --dev dev-corpus --output pretrained",
    ),
}


def add(command: str, parser: argparse.ArgumentParser) -> None:
    """Give a command the options of this system."""
    {
        "convert": _convert,
        "finetune": _finetune,
        "evaluate": _evaluate,
        "predict": _predict,
        "mine": _mine,
        "pretrain": _pretrain,
    }[command](parser)


def _windows(parser: argparse.ArgumentParser, mode_default: str, trained: str = "as in training, else ") -> None:
    parser.add_argument("--mode", choices=("hf", "paper"), help=f"whose behaviour, see above ({mode_default})")
    group = parser.add_argument_group("windows", "A context too long for the model is read in overlapping windows.")
    for name, default, text in (
        ("--max-length", 384, "size, in pieces"),
        ("--doc-stride", 128, "paper: from start to start; hf: overlap"),
        ("--max-query-length", 64, "paper: longest question, in pieces"),
    ):
        group.add_argument(name, type=shared.positive, metavar="N", help=f"{text} ({trained}{default})")


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=("hf", "paper"), help="behaviour to record (the checkpoint's, else hf)")
    parser.add_argument(
        "--head",
        choices=("pretrained", "fresh", "matching", "plain"),
        default="pretrained",
        help="fresh: a new random span selection head, for a checkpoint without one; matching: a new one that begins "
        "by comparing a question with each token, for short pretraining; plain: a new one that scores tokens without "
        "looking at the question, to compare with, mode paper only (pretrained)",
    )
    parser.add_argument(
        "--encoder",
        choices=("pretrained", "fresh"),
        default="pretrained",
        help="fresh: random weights, below a new --head (pretrained)",
    )
    parser.add_argument("--seed", type=shared.count, default=42, metavar="N", help="of fresh weights (42)")
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="float16: half the size (float32)"
    )


def _finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dev", type=shared.path, metavar="PATH", help="held-out data; the epoch with the best F1 on it is saved"
    )
    _precision(parser)
    _windows(parser, "paper", trained="")
    group = parser.add_argument_group(
        "recipe", "The rate rises from 0 to its peak, then falls to 0; defaults are those of the paper."
    )
    group.add_argument(
        "--head",
        choices=("auto", "pretrained", "fresh"),
        default="auto",
        help="span selection head: the checkpoint's, or a new random one (auto: new only where there is none)",
    )
    shared.add_recipe(group, RECIPE, "windows")
    _micro_batch(group, "mode paper: windows of like length, to save memory and padding,")


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--predictions", type=shared.path, metavar="FILE", help="also write question id -> text")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--limit", type=shared.positive, metavar="N", help="only the first N questions")
    some.add_argument("--sample", type=shared.positive, metavar="N", help="only N questions, always the same ones")
    _windows(parser, "the checkpoint's")
    _answers(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--question", metavar="TEXT", help="one question; needs --context or --context-file")
    asked.add_argument("--input", type=shared.path, metavar="FILE", help="questions, see above; - for standard input")
    context = parser.add_mutually_exclusive_group()
    context.add_argument("--context", metavar="TEXT", help="the text that holds the answer")
    context.add_argument(
        "--context-file", type=shared.path, metavar="FILE", help="the same from a file; - for standard input"
    )
    parser.add_argument("--n-best", type=shared.positive, default=3, metavar="N", help="answers per question (3)")
    _windows(parser, "the checkpoint's")
    _answers(parser)


def _mine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="+", type=shared.path, metavar="PATH", help="files, folders or patterns")
    parser.add_argument("--output", type=shared.path, required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument(
        "--tokenizer",
        type=shared.model_name,
        required=True,
        metavar="NAME_OR_PATH",
        help="vocab.txt or checkpoint",
    )
    parser.add_argument(
        "--lower-case", action="store_true", default=None, help="of a bare vocab.txt; a checkpoint says so itself"
    )
    shared.add_download(parser)
    parser.add_argument("--resume", action="store_true", help="go on after an interruption, to the same result")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    group = parser.add_argument_group("what is mined")
    group.add_argument("--mode", choices=MINING_MODES, default="paper", help="rule on half words, see above (paper)")
    group.add_argument("--length", type=shared.positive, default=512, metavar="N", help="pieces of a passage (512)")
    group.add_argument(
        "--passes",
        type=shared.positive,
        default=1,
        metavar="N",
        help="over the text, cut elsewhere (1; paper: 5)",
    )
    group.add_argument("--seed", type=shared.count, default=12345, metavar="N", help="of the questions (12345)")
    group.add_argument("--layout", choices=LAYOUTS, default="auto", help="of the files, see above (auto)")
    group.add_argument(
        "--cut-long-lines",
        action="store_true",
        help="drop what of a line goes beyond a passage, as the authors' code; else it goes on in the next one",
    )
    group = parser.add_argument_group("who mines")
    group.add_argument("--workers", type=shared.processes, metavar="N", help="processes (all cores)")
    group.add_argument("--engine", choices=ENGINES, default="local", help="this machine, or a Ray cluster (local)")
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="of a running cluster that sees the output folder",
    )
    group.add_argument("--shard-size", type=shared.positive, default=4, metavar="MIB", help="text per shard, about (4)")


def _pretrain(parser: argparse.ArgumentParser) -> None:
    from .pretraining.tasks import RECIPE

    parser.add_argument("--dev", type=shared.path, metavar="FOLDER", help="held-out corpus to look at now and then")
    parser.add_argument(
        "--dev-passages", type=shared.positive, default=200, metavar="N", help="of it, spread evenly (200)"
    )
    parser.add_argument(
        "--evaluate-every", type=shared.positive, default=0, metavar="N", help="updates between looks (an epoch)"
    )
    _precision(parser)
    group = parser.add_argument_group(
        "recipe",
        "The rate rises to its peak, then falls in a line to 0 as if it had begun there.",
    )
    shared.add_recipe(group, RECIPE, "passages")
    group.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default=RECIPE.optimizer,
        help="bert: no bias correction, wants a long warm-up; hf: with it (bert)",
    )
    group.add_argument("--dropout", type=shared.share, metavar="SHARE", help="another rate than the checkpoint's")
    _micro_batch(group, "passages, to save memory,")


def _micro_batch(group: Any, rows: str) -> None:
    group.add_argument(
        "--micro-batch",
        type=shared.positive,
        default=0,
        metavar="N",
        help=f"{rows} at a time; without dropout the same result (all)",
    )


def _precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="bf16: matrix products in bfloat16 (float32)"
    )


def _answers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-answer-length", type=shared.positive, metavar="N", help="longest answer (paper: 10 pieces, hf: 30)"
    )
    parser.add_argument(
        "--batch-size", type=shared.positive, default=16, metavar="N", help="windows per forward pass (16)"
    )


# -- commands ---------------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace):
    from .tasks import Settings

    return Settings(
        **shared.settings_of(options),
        mode=options.mode,
        sizes=shared.sizes_of(options),
    )


def convert(options: argparse.Namespace) -> str:
    """Convert; returns a line about it."""
    from . import tasks

    o = options
    return tasks.convert(o.source, o.output, o.mode, o.head, o.encoder, o.seed, o.download, o.dtype)


def finetune(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Fine-tune; returns the record of the run."""
    from . import tasks

    return tasks.finetune(
        _settings(options),
        options.train,
        options.output,
        shared.recipe_of(options, RECIPE),
        options.head,
        options.resume,
        options.save_every,
        options.precision,
        say,
        options.dev,
    )


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Score; returns the scores."""
    from . import tasks

    scores = tasks.evaluate(
        _settings(options), options.data, options.predictions, options.max_answer_length, options.limit, options.sample
    )
    return shared.rounded(scores)


def mine(options: argparse.Namespace) -> str:
    """Mine; returns a line about it."""
    import sys
    from pathlib import Path

    from splinter.ports.common import UsageError, checkpoint

    from . import data
    from .pretraining import mining
    from .pretraining.corpus import Mining

    if options.ray_address is not None and options.engine != "ray":
        raise UsageError("--ray-address goes with --engine ray")
    named = Path(options.tokenizer)
    source = named if named.is_file() else checkpoint.resolve(options.tokenizer, options.download)
    found = mining.mine(
        options.text,
        options.output,
        data.Tokenizer(source, "hf", literal=True, lower_case=options.lower_case),
        Mining(options.mode, options.length, options.passes, options.seed, lossless=not options.cut_long_lines),
        layout=options.layout,
        size=options.shard_size * 2**20,
        engine=options.engine,
        workers=options.workers,
        address=options.ray_address,
        resume=options.resume,
        progress=not options.quiet and sys.stderr.isatty(),
    )
    passages = f"{found['passages']:,} passages of {found['documents']:,} documents, {found['tokens']:,} tokens"
    speed = f"{found['new_tokens'] / found['seconds']:,.0f} tokens/s" if found["seconds"] else "at once"
    asked = (
        f"{found['questions']:,} questions" if found["questions"] else "no question, for nothing recurs in a passage"
    )
    return f"{options.output}: {passages}, {asked}; {found['seconds']} s, {speed}"


def pretrain(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Pretrain; returns the record of the run in the process that wrote it."""
    from .pretraining import tasks as pretraining

    return pretraining.pretrain(
        pretraining.Settings(**shared.settings_of(options)),
        options.train,
        options.output,
        shared.recipe_of(options, pretraining.RECIPE),
        dev_folder=options.dev,
        dev_passages=options.dev_passages,
        evaluate_every=options.evaluate_every,
        precision=options.precision,
        dropout=options.dropout,
        resume=options.resume,
        save_every=options.save_every,
        say=say,
    )


def _questions(options: argparse.Namespace, mode: str) -> Iterator[Any]:
    """The questions of the command line, a file or standard input, as examples.

    Raises:
        DataError: what is missing, with the line.
    """
    from . import data

    if options.input is not None:
        return data.read_questions(options.input, mode)
    context = options.context if options.context is not None else data.read_context(options.context_file)
    return iter([data.example("1", options.question, context, mode, "the command line")])


def predict(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Answer questions, each as it comes.

    Yields:
        What --json prints of a question, with the lines for a reader under "lines".
    """
    from splinter.ports.common.text import existing

    from . import tasks

    given = options.context is not None or options.context_file is not None
    if given == (options.input is not None):
        raise tasks.UsageError(
            "--question needs --context TEXT or --context-file FILE" if not given else "--input brings its own contexts"
        )
    stream, file = str(options.input) == "-", options.input or options.context_file
    if file is not None and str(file) != "-":
        existing(file, "a file of JSON lines" if options.input else "a text file")  # before a model loads
    answerer = tasks.open_answerer(_settings(options), options.max_answer_length, options.n_best)
    for example, spans in answerer.answers(_questions(options, answerer.config.mode), stream=stream):
        answers = [
            {
                "text": span.text,
                "probability": span.probability,
                "score": span.score,
                "start": span.start_char,
                "end": span.end_char,
            }
            for span in spans
        ]
        lines = [example.question.removesuffix(" [MASK].")]
        for span in spans:
            where = "" if span.start_char is None else f"  (characters {span.start_char}-{span.end_char})"
            lines.append(f"  {span.probability:6.1%}  {span.text}{where}")
        yield {"id": example.id, "answers": answers, "lines": lines}
