"""`splinter mine` and `splinter pretrain`: their options, their help, and what they print."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from splinter.ports.common import options as shared
from splinter.ports.common.options import Text
from splinter.ports.common.training.schedule import OPTIMIZERS

from .corpus import MODES as MINING_MODES
from .engines import ENGINES
from .passages import LAYOUTS

TEXTS = {
    "mine": Text(
        "Cuts text into passages, finds the spans that recur in each (from the beginning of a word on, not all of it\n"
        "stop words), and writes them in shards, with a manifest, statistics and a list of the spans.\n"
        "Interrupted, the same command with --resume goes on with the next shard; the result is the same, with any\n"
        "number of workers and either engine.\n\n"
        "files, plain or .gz; the content decides the layout:\n"
        "  doc    <doc ...>, title, a paragraph per line, </doc>, as WikiExtractor writes it\n"
        '  jsonl  an object per line with the document under "text"\n'
        "  text   a paragraph per line; an empty line ends a document\n\n"
        "modes:\n"
        "  paper       as the authors' code; the first occurrence of a span must end at the end of a word\n"
        "  whole-word  every occurrence must end at the end of a word",
        "splinter mine wiki/ --tokenizer splinter-base --output corpus --workers 8",
    ),
    "pretrain": Text(
        "Starts from a checkpoint with a span selection head (convert --head fresh makes one from a plain BERT) and a\n"
        "corpus that `splinter mine` wrote with its vocabulary. Questions are drawn anew in every epoch.\n"
        "Several processes share each batch when started by torchrun, or by python -m paddle.distributed.launch:\n"
        "  torchrun --nproc_per_node 8 -m splinter pretrain --framework torch ...\n"
        # the launcher of paddle 3.3.1 has no -m: it wants a file, which $(which splinter) is
        "  python -m paddle.distributed.launch --nproc_per_node 8 $(which splinter) pretrain ...",
        "splinter pretrain --model bert-with-head --corpus corpus --dev dev-corpus --output pretrained",
    ),
}


def add(command: str, parser: argparse.ArgumentParser) -> None:
    """Give a command its options."""
    {"mine": _mine, "pretrain": _pretrain}[command](parser)


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
        "--lower-case",
        action="store_true",
        default=None,
        help="lower-case the text, for a bare vocab.txt; a checkpoint says so itself",
    )
    shared.add_download(parser)
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run; the result is the same")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    group = parser.add_argument_group("what is mined")
    group.add_argument(
        "--mode", choices=MINING_MODES, default="paper", help="rule on half words, see above (default: paper)"
    )
    group.add_argument(
        "--length", type=shared.positive, default=512, metavar="N", help="pieces of a passage (default: 512)"
    )
    group.add_argument(
        "--passes",
        type=shared.positive,
        default=1,
        metavar="N",
        help="passes over the text, each cut at other places (default: 1; the paper's: 5)",
    )
    group.add_argument(
        "--seed", type=shared.count, default=12345, metavar="N", help="seed of the questions (default: 12345)"
    )
    group.add_argument(
        "--layout", choices=LAYOUTS, default="auto", help="layout of the files, see above (default: auto)"
    )
    group.add_argument(
        "--cut-long-lines",
        action="store_true",
        help="drop the part of a line that does not fit into a passage, as the authors' code does (default: continue "
        "it in the next passage)",
    )
    group = parser.add_argument_group("who mines")
    group.add_argument("--workers", type=shared.processes, metavar="N", help="processes (default: all cores)")
    group.add_argument(
        "--engine", choices=ENGINES, default="local", help="this machine, or a Ray cluster (default: local)"
    )
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="address of a running cluster that sees the output folder",
    )
    group.add_argument(
        "--shard-size",
        type=shared.positive,
        default=4,
        metavar="MIB",
        help="approximate MiB of text per shard (default: 4)",
    )


def _pretrain(parser: argparse.ArgumentParser) -> None:
    from .objective import RECIPE

    parser.add_argument("--dev", type=shared.path, metavar="FOLDER", help="held-out corpus to score during the run")
    parser.add_argument(
        "--dev-passages",
        type=shared.positive,
        default=200,
        metavar="N",
        help="passages of --dev to score, spread evenly (default: 200)",
    )
    parser.add_argument(
        "--evaluate-every",
        type=shared.positive,
        default=0,
        metavar="N",
        help="score --dev every N updates (default: once per epoch)",
    )
    shared.add_precision(parser)
    group = parser.add_argument_group(
        "recipe",
        "The rate rises to its peak and then falls towards 0. The fall lies on a straight line from the first update "
        "to the last.",
    )
    shared.add_recipe(group, RECIPE, "passages")
    group.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default=RECIPE.optimizer,
        help="bert: without bias correction, which wants a long warm-up; hf: with it (default: bert)",
    )
    group.add_argument(
        "--dropout",
        type=shared.share,
        metavar="SHARE",
        help="dropout rate (default: the checkpoint's)",
    )
    shared.add_micro_batch(group, "passages")


# -- commands ---------------------------------------------------------------------------------------------


def mine(options: argparse.Namespace) -> str:
    """Mine; returns a line about it."""
    import sys
    from pathlib import Path

    from splinter.ports.common import UsageError, checkpoint

    from .. import data
    from . import mining
    from .corpus import Mining

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
    from . import tasks
    from .objective import RECIPE

    return tasks.pretrain(
        tasks.Settings(**shared.settings_of(options)),
        say,
        dev=options.dev,
        dev_passages=options.dev_passages,
        evaluate_every=options.evaluate_every,
        precision=options.precision,
        dropout=options.dropout,
        **shared.run_of(options, RECIPE),
    )
