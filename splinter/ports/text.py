"""Text files and word pieces, for every port: errors that name the place, BERT's pieces by the Rust tokenizer.

Framework-free. The pieces are those of transformers 4.57.6 models/bert: the fast tokenizer, or with
`python=True` the Python BertTokenizer.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import sys
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

CACHED_WORDS = 500_000  # about 50 MB when full: streaming stays bounded


class DataError(ValueError):
    """A data file that cannot be used: one line naming the place, the value and the way out."""


class VocabularyError(DataError):
    """A vocabulary that cannot serve the model."""


# -- files ------------------------------------------------------------------------------------------------


def existing(path, expected):
    """The path of a file or a pipe that is there.

    Raises:
        DataError: it is not, or it is a folder; says what was `expected`.
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        what = "is a folder" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {what}; give {expected}, plain or .gz")
    return path


def open_text(path):
    """As text; a byte order mark at the start, which Windows writes, is passed over."""
    return gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else open(path, encoding="utf-8-sig")


@contextlib.contextmanager
def open_bytes(path):
    """A file or standard input as lines of bytes, each as soon as it is there."""
    if str(path) == "-":
        if sys.stdin is None:
            raise DataError("standard input is closed; pipe text into it, or name a file")
        yield sys.stdin.buffer
        return
    try:
        with gzip.open(path) if Path(path).suffix == ".gz" else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected UTF-8 text, gzipped when named .gz") from error


def decoded(line, where):
    """Bytes as UTF-8 text.

    Raises:
        DataError: they are something else.
    """
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text ({error}); save it as UTF-8") from error


def parsed(text):
    """The JSON value of a text, None when it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # said by from_json, when it turns out to matter
        return None


def from_json(text, where, lines=False):
    """The JSON value of a text.

    Args:
        lines: the text is a whole file, so say in which line of it the fault lies.

    Raises:
        DataError: broken JSON, with the place and what stands near it.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{where}, line {error.lineno}" if lines else where
        near = text[max(error.pos - 20, 0) : error.pos + 20]
        raise DataError(
            f"{place}: not JSON ({error.msg} at column {error.colno}, near {near!r}); repair the line"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
        raise DataError(f"{where}: JSON that cannot be read ({error}); repair the line") from error


def as_record(value, where, name):
    """The value, a JSON object.

    Raises:
        DataError: it is something else.
    """
    if not isinstance(value, dict):
        raise DataError(f"{where}: {name} is {str(value)[:60]!r}, not a JSON object; correct it")
    return value


def required(record, key, kind, where):
    """The value under a key, of one kind.

    Raises:
        DataError: it is missing, of another kind, or holds half a character.
    """
    if key not in record:
        raise DataError(f"{where}: key {key!r} is missing (found {sorted(record)}); add it")
    if not isinstance(record[key], kind) or isinstance(record[key], bool):
        raise DataError(f"{where}: {key!r} is {str(record[key])[:60]!r}, not a {kind.__name__}; correct it")
    if kind is str and not record[key].isascii() and re.search("[\ud800-\udfff]", record[key]):
        raise DataError(f"{where}: {key!r} holds half a character (a lone surrogate); correct it")
    return record[key]


# -- pieces -----------------------------------------------------------------------------------------------

BERT_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


class WordPieces:
    """BERT's word pieces of texts, without the special tokens around them.

    Args:
        vocabulary: a vocab.txt, or a folder with one.
        lower_case: lower-case and strip accents; None = what `do_lower_case` in a tokenizer_config.json beside
            the vocabulary says, else `default_lower_case`.
        tokens: role -> special token; each is one piece wherever it stands in a text.
        python: the pieces of the Python BertTokenizer. It composes characters (NFC) and knows other Unicode
            categories: printable ASCII, where the two cannot differ, goes through Rust; all other text is cut
            into words here, and only their pieces come from Rust.
        added: further special tokens of the text.
        literal: a special token that is spelled out in a text is plain text.

    Attributes:
        pad, unk, cls, sep, mask: token ids (the roles of `tokens`).
        vocabulary: piece -> id.
        size: number of vocabulary lines.

    Raises:
        VocabularyError: no file, or a special token is missing.
    """

    def __init__(
        self,
        vocabulary: str | os.PathLike[str],
        lower_case: bool | None = None,
        tokens: Mapping[str, str] = BERT_TOKENS,
        python: bool = False,
        added: Sequence[str] = (),
        default_lower_case: bool = True,
        literal: bool = False,
    ):
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # threads gain little here, and warn at every fork
        self.path, self.python = Path(vocabulary), python
        if self.path.is_dir():
            self.path = self.path / "vocab.txt"
        settings = self.path.with_name("tokenizer_config.json")
        self.lower_case = _lower_case(settings, default_lower_case) if lower_case is None else lower_case
        self.vocabulary = self.adapt(read_vocabulary(self.path, tokens.values()))
        self.size = max(self.vocabulary.values()) + 1
        self.pad, self.unk, self.cls, self.sep, self.mask = (
            self.vocabulary[tokens[role]] for role in ("pad", "unk", "cls", "sep", "mask")
        )
        self.special = [] if literal else [*tokens.values(), *added]
        self._special = re.compile("(" + ("|".join(map(re.escape, self.special)) or "(?!)") + ")")
        self._pieces = {number: piece for piece, number in self.vocabulary.items()}
        self._words: dict[str, list[int]] = {}
        self._unknown = tokens["unk"]
        self._rust = RustTokenizer(
            models.WordPiece(self.vocabulary, unk_token=self._unknown, max_input_chars_per_word=100)
        )
        self._rust.normalizer = normalizers.BertNormalizer(lowercase=self.lower_case)
        self._rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._rust.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in self.special])

    def adapt(self, vocabulary: dict[str, int]) -> dict[str, int]:
        """The vocabulary as the model wants it; a subclass may check and rename."""
        return vocabulary

    def pieces(self, ids) -> list[str]:
        """The vocabulary entries of ids, the unknown token where there is none."""
        return [self._pieces.get(int(number), self._unknown) for number in ids]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Piece ids of each text."""
        plain = [i for i, text in enumerate(texts) if not self.python or (text.isascii() and text.isprintable())]
        encoded = self._rust.encode_batch([texts[i] for i in plain], add_special_tokens=False)
        ids = dict(zip(plain, (one.ids for one in encoded), strict=True))
        return [ids[i] if i in ids else self._python_ids(text) for i, text in enumerate(texts)]

    def encode_words(self, words: Iterable[str]) -> list[list[int]]:
        """Piece ids of words, each alone; remembered."""
        words = list(words)
        if len(self._words) > CACHED_WORDS:
            self._words.clear()
        new = [word for word in dict.fromkeys(words) if word not in self._words]
        self._words.update(zip(new, self.encode(new), strict=True))
        return [self._words[word] for word in words]

    def encode_offsets(self, texts: Iterable[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ids (n,) int64, offsets (n, 2) int32 in characters, end exclusive) of each text, by Rust."""
        for one in self._rust.encode_batch(list(texts), add_special_tokens=False):
            yield np.array(one.ids, np.int64), np.array(one.offsets, np.int32).reshape(-1, 2)

    def _python_ids(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in self._special.split(text):  # odd parts are the special tokens
            if part in self.special:
                ids.append(self.vocabulary[part])
                continue
            for word in _basic_words(part, self.lower_case, self.special):
                ids += [piece.id for piece in self._rust.model.tokenize(word)]
        return ids


def _lower_case(config: Path, default: bool) -> bool:
    if not config.is_file():
        return default
    settings = as_record(from_json(decoded(config.read_bytes(), config), config), config, "the file")
    return bool(settings.get("do_lower_case", default))


def read_vocabulary(path: Path, needed: Iterable[str]) -> dict[str, int]:
    """{piece: line number from 0}; a piece standing twice has its last line, as in transformers.

    Raises:
        VocabularyError: no file, or a `needed` piece is missing.
    """
    if not path.is_file():
        raise VocabularyError(f"{path}: no such file; give a BERT vocab.txt or the folder that holds it")
    with io.StringIO(decoded(path.read_bytes(), path), newline=None) as file:  # newline: as open() reads them
        vocabulary = {line.rstrip("\n"): number for number, line in enumerate(file)}
    missing = [piece for piece in needed if piece not in vocabulary]
    if missing:
        raise VocabularyError(f"{path}: lacks {', '.join(missing)}; use the vocab.txt the model was made with")
    return vocabulary


# what the Python BertTokenizer calls Chinese characters: the CJK ideograph blocks
IDEOGRAPH = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    "\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\U0002f800-\U0002fa1f]"
)


def _basic_words(text, lower_case, special):
    """The words and punctuation marks that the Python BertTokenizer hands to word pieces."""
    if lower_case:
        text = "".join(char.lower() for char in text)  # one by one: a final sigma gets no special form
    kept = (" " if is_blank(char) else char for char in text if not is_dropped(char))
    spaced = IDEOGRAPH.sub(r" \g<0> ", "".join(kept))
    for word in unicodedata.normalize("NFC", spaced).split():
        if word in special:  # appears only once dropped characters are gone
            yield word
            continue
        if lower_case:
            accented = unicodedata.normalize("NFD", word.lower())
            word = "".join(char for char in accented if unicodedata.category(char) != "Mn")
        yield from "".join(f" {char} " if _is_punctuation(char) else char for char in word).split()


def is_blank(char):
    """White space to BERT."""
    return char in " \t\n\r" or unicodedata.category(char) == "Zs"


def is_dropped(char):
    """Control characters and the replacement character: BERT reads over them."""
    return char == "\ufffd" or (char not in "\t\n\r" and unicodedata.category(char)[0] == "C")


def _is_punctuation(char):
    """ASCII symbols such as $ and ^ count, though Unicode calls them no punctuation."""
    return unicodedata.category(char)[0] == "P" or ("!" <= char <= "~" and not char.isalnum())
