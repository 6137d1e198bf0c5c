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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import reading

if TYPE_CHECKING:  # where it is needed it is imported: help, explain and judge do without
    from tokenizers import normalizers

CACHED_WORDS = 500_000  # about 50 MB when full: streaming stays bounded


class DataError(ValueError):
    """A data file that cannot be used: one line naming the place, the value and the way out."""


class DataErrors(DataError):
    """Several things in a data file that cannot be used.

    Attributes:
        lines: how many they are, ending in a colon, then one line for each that is told.
    """

    def __init__(self, head: str, lines: Sequence[str]):
        super().__init__(f"{head} {'; '.join(lines)}")
        self.lines = [head, *lines]


class VocabularyError(DataError):
    """A vocabulary that cannot serve the model."""


# -- files ------------------------------------------------------------------------------------------------


def existing(path, expected, pipe=True):
    """The path of a file that is there, or of a pipe, which is read once.

    Args:
        pipe: whether a pipe or a device will do.

    Raises:
        DataError: it is not, or it is a folder; says what was `expected`.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file{reading.meant_path(path)}; give {expected}, plain or .gz")
    if path.is_dir() or not (pipe or path.is_file()):
        what = "a folder" if path.is_dir() else "a pipe or a device"
        raise DataError(f"{path}: is {what}; give {expected}, plain or .gz")
    return path


@contextlib.contextmanager
def open_text(path):
    """As text, see `reading.Bounded`; a byte order mark at the start, which Windows writes, is passed over."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        yield reading.Bounded(file, path)


@contextlib.contextmanager
def open_bytes(path):
    """A file or standard input as lines of bytes, each as soon as it is there; see `reading.Bounded`."""
    if str(path) == "-":
        if sys.stdin is None:
            raise DataError("standard input is closed; pipe text into it, or name a file")
        yield reading.Bounded(sys.stdin.buffer, "standard input")
        return
    try:
        with gzip.open(path) if Path(path).suffix == ".gz" else open(path, "rb") as file:
            yield reading.Bounded(file, path)
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
        raise DataError(f"{where}: key {key!r} is missing (found {sorted(record)[:12]}); add it")
    if not isinstance(record[key], kind) or isinstance(record[key], bool):
        raise DataError(f"{where}: {key!r} is {str(record[key])[:60]!r}, not a {kind.__name__}; correct it")
    if kind is str and not record[key].isascii() and re.search("[\ud800-\udfff]", record[key]):
        raise DataError(f"{where}: {key!r} holds half a character (a lone surrogate); correct it")
    return record[key]


def listed(things, most: int = 3) -> str:
    """The first few, and how many more there are."""
    more = len(things) - most
    return ", ".join(map(str, things[:most])) + (f" and {more} more" if more > 0 else "")


def is_empty(text):
    """Whether a text holds nothing that a tokenizer reads: blanks, control characters, zero width spaces."""
    return all(is_blank(char) or is_dropped(char) for char in text)


# -- settings of a tokenizer ------------------------------------------------------------------------------

BERT_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
QUESTION_TOKEN = "[QUESTION]"
VOCABULARY, TOKENIZER, TOKENIZER_CONFIG = "vocab.txt", "tokenizer.json", "tokenizer_config.json"
SETTINGS = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json")

CLASSES = ("Bert", "Splinter", "Funnel", "DistilBert", "Electra", "MobileBert", "Lxmert")
"""Tokenizers of transformers that cut text as BertTokenizer does."""
FIXED: dict[str, tuple] = {
    "do_basic_tokenize": (True,),
    "never_split": (None, []),
    "split_special_tokens": (False,),
    "padding_side": ("right",),
    "truncation_side": ("right",),
}
"""Settings that change the pieces or their order -> the values that are supported; others are refused."""

WITHOUT_ADDED = "take a checkpoint without added tokens"

# what the Python BertTokenizer calls Chinese characters: the CJK ideograph blocks
IDEOGRAPH = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    "\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\U0002f800-\U0002fa1f]"
)


@dataclass(frozen=True)
class BasicTokenizer:
    """Text to words and punctuation marks, before word pieces; settings and defaults of transformers' BertTokenizer.

    Args:
        lower_case: also strips accents, unless `strip_accents` says otherwise.
        strip_accents: None = as `lower_case`.
        ideographs: each Chinese character is a word of its own (`tokenize_chinese_chars`).

    Source: Devlin et al., NAACL 2019; transformers 4.57.6 models/bert/tokenization_bert.py.
    """

    lower_case: bool = True
    strip_accents: bool | None = None
    ideographs: bool = True

    def words(self, text: str, whole: Sequence[str] = ()) -> list[str]:
        """The words of a text; those in `whole` are left as they are."""
        text = text.translate(_CLEAN)
        if self.ideographs:
            text = IDEOGRAPH.sub(r" \g<0> ", text)
        strip = self.lower_case if self.strip_accents is None else self.strip_accents
        found: list[str] = []
        for word in unicodedata.normalize("NFC", text).split():
            if word in whole:
                found.append(word)
                continue
            word = word.lower() if self.lower_case else word
            word = "".join(c for c in unicodedata.normalize("NFD", word) if not _is_accent(c)) if strip else word
            found += word.translate(_SPLIT).split()
        return found

    def normalizer(self) -> normalizers.BertNormalizer:
        """The same in Rust, which composes no characters (NFC) and has other Unicode tables."""
        from tokenizers import normalizers

        return normalizers.BertNormalizer(
            lowercase=self.lower_case, strip_accents=self.strip_accents, handle_chinese_chars=self.ideographs
        )

    def to_dict(self) -> dict[str, Any]:
        """As a tokenizer_config.json has it."""
        return {
            "do_lower_case": self.lower_case,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.ideographs,
        }


def read_settings(folder: Path, tokens: Iterable[str], vocabulary: Mapping[str, int]) -> BasicTokenizer | None:
    """What the files beside a vocabulary say of its tokenizer; None where there is none.

    Args:
        tokens: special tokens that the tokenizer knows.
        vocabulary: piece -> id.

    Raises:
        VocabularyError: a setting that would be read otherwise here than by transformers; names file, key and value.
    """
    found = {name: _settings(folder / name) for name in SETTINGS if (folder / name).exists()}
    config = found.get(TOKENIZER_CONFIG)
    for name, values in found.items():
        _refuse_tokens(folder / name, values, {*tokens, QUESTION_TOKEN}, vocabulary)
    if config is None:
        return None
    where = folder / TOKENIZER_CONFIG
    kind = str(config.get("tokenizer_class") or "BertTokenizer")
    if kind.removesuffix("Fast").removesuffix("Tokenizer") not in CLASSES:
        raise VocabularyError(
            f"{where}: tokenizer_class is {kind[:60]!r}, which cuts text differently; take a model with a BertTokenizer"
        )
    for key, supported in FIXED.items():
        if config.get(key, supported[0]) not in supported:
            raise VocabularyError(
                f"{where}: {key} is {str(config[key])[:60]}, only {json.dumps(supported[0])} is supported; "
                "take a model whose tokenizer does without"
            )
    defaults = BasicTokenizer()
    values = {}
    for key, default in defaults.to_dict().items():
        value = config.get(key, default)
        if not isinstance(value, bool) and not (value is None and default is None):
            raise VocabularyError(f"{where}: {key} is {str(value)[:60]!r}, expected true or false without quotes")
        values[key] = value
    return BasicTokenizer(values["do_lower_case"], values["strip_accents"], values["tokenize_chinese_chars"])


def _settings(path: Path) -> dict[str, Any]:
    try:
        return as_record(from_json(decoded(reading.whole(path), path), path), path, "the file")
    except OSError as error:
        raise VocabularyError(f"{path} cannot be read: {error}") from None


def _refuse_tokens(path: Path, values: Mapping[str, Any], known: set[str], vocabulary: Mapping[str, int]) -> None:
    """Every token that a file of settings names is one of the known ones, and where the vocabulary has it."""
    if path.name == "added_tokens.json":
        named = {str(token): number for token, number in values.items()}
    else:
        named = {}
        for number, token in as_record(values.get("added_tokens_decoder") or {}, path, "added_tokens_decoder").items():
            named[_content(token)] = int(number) if re.fullmatch("[0-9]{1,9}", str(number)) else -1
        listed = values.get("additional_special_tokens") or values.get("extra_special_tokens") or []
        if not isinstance(listed, list | dict):
            raise VocabularyError(f"{path}: the additional special tokens are {str(listed)[:60]!r}, expected a list")
        single = [value for key, value in values.items() if key.endswith("_token") and value is not None]
        for token in [*(listed.values() if isinstance(listed, dict) else listed), *single]:
            if not isinstance(token, bool):  # add_bos_token and the like are switches
                named.setdefault(_content(token), vocabulary.get(_content(token), -1))
    for token, number in named.items():
        if token not in known or vocabulary.get(token, number) != number:
            raise VocabularyError(
                f"{path}: {token[:60]!r} is not a special token of this model, or its number differs from the "
                f"vocabulary's; {WITHOUT_ADDED}"
            )


def _content(token: Any) -> str:
    """The text of a token, which is a string or an object of its settings."""
    return str(token.get("content")) if isinstance(token, dict) else str(token)


class _CharacterTable(dict):
    """A table for str.translate that decides about each character once, on first sight."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def __missing__(self, code):
        self[code] = self.rule(chr(code))
        return self[code]


def is_blank(char):
    """White space to BERT."""
    return char in " \t\n\r" or unicodedata.category(char) == "Zs"


def is_dropped(char):
    """Control characters and the replacement character: BERT reads over them."""
    return char == "\ufffd" or (char not in "\t\n\r" and unicodedata.category(char)[0] == "C")


def _is_accent(char):
    return unicodedata.category(char) == "Mn"


def _is_punctuation(char):
    """ASCII symbols such as $ and ^ count, though Unicode calls them no punctuation."""
    return unicodedata.category(char)[0] == "P" or ("!" <= char <= "~" and not char.isalnum())


_CLEAN = _CharacterTable(lambda char: " " if is_blank(char) else "" if is_dropped(char) else char)
_SPLIT = _CharacterTable(lambda char: f" {char} " if _is_punctuation(char) else char)


# -- vocabularies -----------------------------------------------------------------------------------------


def vocabulary_file(path: Path) -> Path:
    """A vocab.txt, or the tokenizer.json where that is all there is.

    Args:
        path: a file of either kind, or a folder.

    Raises:
        VocabularyError: no such file.
    """
    if path.is_dir():
        there = [path / name for name in (VOCABULARY, TOKENIZER) if (path / name).exists()]
        if not there:
            raise VocabularyError(f"{path} has no {VOCABULARY}; add the one that the model was made with")
        path = there[0]
    if not path.is_file():
        what = "is no file" if path.exists() else "no such file"
        raise VocabularyError(f"{path}: {what}; give a BERT vocab.txt or the folder that holds it")
    return path


def vocabulary_lines(path: Path) -> list[str]:
    """The pieces of a vocabulary, a file or a folder, in the order of their ids.

    Raises:
        VocabularyError: no such file, or a tokenizer.json that cuts text otherwise than BERT.
    """
    path = vocabulary_file(path)
    if path.name == TOKENIZER:
        return _pieces_of_json(path)
    with io.StringIO(decoded(reading.whole(path), path), newline=None) as file:  # newline: as open() reads them
        return [line.rstrip("\n") for line in file]


def _pieces_of_json(path: Path) -> list[str]:
    """The vocabulary of a tokenizer.json of transformers that says the same as the settings beside it."""
    values = _settings(path)
    parts = {name: as_record(values.get(name) or {}, path, name) for name in ("model", "normalizer", "pre_tokenizer")}
    model = parts["model"]
    beside = path.with_name(TOKENIZER_CONFIG)
    settings = BasicTokenizer().to_dict() | (_settings(beside) if beside.exists() else {})
    expected = {
        "model": {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings["tokenize_chinese_chars"],
            "strip_accents": settings["strip_accents"],
            "lowercase": settings["do_lower_case"],
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
    }
    for name, wanted in expected.items():
        for key, value in wanted.items():
            if parts[name].get(key) != value:
                raise VocabularyError(
                    f"{path}: {key} of the {name} is {str(parts[name].get(key))[:60]!r}, expected {value!r} "
                    f"as in {TOKENIZER_CONFIG} and in BertTokenizer; save the tokenizer with its {VOCABULARY}"
                )
    pieces = as_record(model.get("vocab"), path, "the vocabulary")
    if sorted(map(repr, pieces.values())) != sorted(map(repr, range(len(pieces)))):
        raise VocabularyError(f"{path}: its vocabulary does not count its pieces from 0 without gaps; repair it")
    for token in values.get("added_tokens") or ():
        token = as_record(token, path, "an added token")
        if token.get("special") is not True or pieces.get(_content(token), -1) != token.get("id"):
            raise VocabularyError(
                f"{path}: {_content(token)[:60]!r} was added to the tokenizer, which is not supported; {WITHOUT_ADDED}"
            )
    return sorted(pieces, key=pieces.__getitem__)


def vocabulary_text(lines: Iterable[str]) -> str:
    """The content of a vocab.txt."""
    return "".join(f"{line}\n" for line in lines)


def read_vocabulary(path: Path, needed: Iterable[str]) -> dict[str, int]:
    """{piece: line number from 0}; a piece standing twice has its last line, as in transformers.

    Raises:
        VocabularyError: see `vocabulary_lines`; or a `needed` piece is missing.
    """
    vocabulary = {line: number for number, line in enumerate(vocabulary_lines(path))}
    missing = [piece for piece in needed if piece not in vocabulary]
    if missing:
        raise VocabularyError(f"{path}: lacks {', '.join(missing)}; use the vocab.txt the model was made with")
    return vocabulary


# -- pieces -----------------------------------------------------------------------------------------------


class WordPieces:
    """BERT's word pieces of texts, without the special tokens around them.

    Args:
        vocabulary: a vocab.txt, or a folder with one.
        lower_case: lower-case and strip accents; None = what the files beside the vocabulary say, see `read_settings`.
        tokens: role -> special token; each is one piece wherever it stands in a text.
        python: the pieces of the Python BertTokenizer. It composes characters (NFC) and knows other Unicode
            categories: printable ASCII, where the two cannot differ, goes through Rust; all other text is cut
            into words here, and only their pieces come from Rust.
        added: further special tokens of the text.
        literal: a special token that is spelled out in a text is plain text.
        bare_lower_case: of a vocab.txt that is named by itself and has no settings beside it. A folder without
            settings is lower-cased, as transformers takes it to mean.

    Attributes:
        pad, unk, cls, sep, mask: token ids (the roles of `tokens`).
        basic: how text becomes words.
        vocabulary: piece -> id.
        size: number of vocabulary lines.

    Raises:
        VocabularyError: no file, a special token is missing, or a setting that is not supported.
    """

    def __init__(
        self,
        vocabulary: str | os.PathLike[str],
        lower_case: bool | None = None,
        tokens: Mapping[str, str] = BERT_TOKENS,
        python: bool = False,
        added: Sequence[str] = (),
        bare_lower_case: bool = True,
        literal: bool = False,
    ):
        from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # threads gain little here, and warn at every fork
        self.path, self.python = vocabulary_file(Path(vocabulary)), python
        self.vocabulary = read_vocabulary(self.path, tokens.values())
        default = BasicTokenizer(bare_lower_case or Path(vocabulary).is_dir())
        self.basic = read_settings(self.path.parent, {*tokens.values(), *added}, self.vocabulary) or default
        if lower_case is not None:
            self.basic = replace(self.basic, lower_case=lower_case)
        self.vocabulary = self.adapt(self.vocabulary)
        self.size = max(self.vocabulary.values()) + 1
        self.pad, self.unk, self.cls, self.sep, self.mask = (
            self.vocabulary[tokens[role]] for role in ("pad", "unk", "cls", "sep", "mask")
        )
        self.special = [] if literal else [*tokens.values(), *added]
        self._special = re.compile("(" + ("|".join(map(re.escape, self.special)) or "(?!)") + ")")
        self._pieces = {number: piece for piece, number in self.vocabulary.items()}
        self._words: dict[str, list[int]] = {}
        self._unknown = tokens["unk"]
        self._rust = Tokenizer(models.WordPiece(self.vocabulary, unk_token=self._unknown, max_input_chars_per_word=100))
        self._rust.normalizer = self.basic.normalizer()
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
            if self.basic.lower_case:  # one by one, before all else: a final sigma gets no special form
                part = "".join(char.lower() for char in part)
            for word in self.basic.words(part, self.special):
                ids += [piece.id for piece in self._rust.model.tokenize(word)]
        return ids
