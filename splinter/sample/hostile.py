"""Build the hostile pages of the sample: `python -m splinter.sample.hostile` writes the folder `hostile`.

One page for each reader of the project. No passage here makes sense; each row stands at a border of some rule (the
last piece of a window, a word of 100 letters, the first of the CJK ranges, half a question) or mixes what ordinary
text keeps apart. The files are derived and must never be edited. The build needs the standard library only and is
deterministic; all characters that an editor would hide are spelled as escapes.

Source: own work. Layouts: as in `build`.
"""

import json
import string
from pathlib import Path

from . import PATH

FOLDER = "hostile"
IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
"""First and last of each block that BERT makes words of."""
BORDERS = "".join(
    chr(code) for first, last in IDEOGRAPHS for code in (first - 1, first, last, last + 1) if code != 0x1FFFF
)
ACCENT, APART = "\u00e9", "e\u0301"
"""One letter, and the same in two characters."""
SISYPHUS = "\u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3"
"""Its last letter has a small form of its own, and only there."""
NO_PIECE = "\u0301\u0302 \u0300"
"""Text that is not empty, of which an uncased tokenizer leaves nothing."""


def letters(count, first=0):
    """So many words of one letter, each of them one piece."""
    return " ".join(string.ascii_letters[(first + i) % 26] for i in range(count))


# -- questions on contexts ----------------------------------------------------------------------------------

CONTEXTS = [
    (
        "The A-10 flew 10 times in 2010, and the 10th A-10 flew at 10.",
        ["A-10", "10", ("10", 14), ("10", 28), "10th", ("10", 58), "10.", "The", "A"],
    ),
    (" ".join(f"a{char}b" for char in BORDERS) + " end", ["b", "end", "a\u3400b", "\u9fff", "\U0002fa1fb"]),
    (
        f"{'x' * 99} 1 {'y' * 100} 2 {'z' * 101} 3 {ACCENT * 100} 4 {ACCENT * 101} 5 {APART * 51} 6",
        ["1", "2", "3", "4", "5", "6", "x" * 99, "y" * 100, "z" * 101, ACCENT * 101, "x", "yy"],
    ),
    (
        "a\0b c\u009bd e\ufffdf g\u200bh i\u00adj k\u2028l m\u2029n o\u0085p q\u180er s\u3000t u\u00a0v"
        " w\u202fx y\u1680z\ttab\nnew\r\nline\u000bvt\fff\u001cfs\u001fus \ue000 \ufeff end",
        ["a\0b", "g\u200bh", "\u200b", "u\u00a0v", "w\u202fx", "tab\nnew", "line", "end", "s\u3000t", "l", "vt", "fs"],
    ),
    (
        f"caf\u00e9 cafe\u0301 \u0130stanbul istanbul {SISYPHUS} Stra\u00dfe STRASSE \ufb01n \u01c5 \u1e9e \u212b"
        " \u2126 \ud55c\uad6d\uc5b4 \u1112\u1161\u11ab \u0939\u093f\u0928\u094d\u0926\u0940 x\u0300 \u0301y"
        " z\u0307\u0323 \uff26ull \u2460 \u00b2",
        [
            *("caf\u00e9", "cafe\u0301", "cafe", "\u0130stanbul", SISYPHUS, "\ufb01n", "Stra\u00dfe", "\u212b"),
            *("\u1112\u1161\u11ab", "x\u0300", "\u0301y", "z\u0307\u0323", "\u00b2"),
        ],
    ),
    (
        "[UNK] a [MASK] b [SEP] c [CLS] d [PAD] e [QUESTION] f x[MASK]y [MASK]. [SE\u200bP] [sep] ##ed ## # <cls> <s>",
        ["[UNK]", "[MASK]", "b", "[SEP]", "[QUESTION] f", "x[MASK]y", "y", "[SE\u200bP]", "##ed", "<cls>", "<s>"],
    ),
    (
        "$5^6 `x~ don't U.S.A. 3,000 100% \u201cq\u201d \u2014 \u2026"
        " \u00bfque? \u061f \u3001 e.g., 'n' \"m\" a_b c|d \u20ac7 n\u00ba",
        [
            "5^6",
            "$5^6",
            "\u201cq\u201d",
            "q",
            "\u2026",
            "don't",
            "t",
            "U.S.A.",
            "3,000",
            "100%",
            "a_b",
            "\u20ac7",
            "n\u00ba",
        ],
    ),
    (
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 family \U0001f3f4 \u2764\ufe0f\u2764 end",
        ["family", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f469", "\u2764\ufe0f", "end"],
    ),
    (
        "  lead  two   three four\u00a0 five  ",
        ["lead", "lead  two", "three four", "five", "  lead", "five  ", "two   three", "four\u00a0"],
    ),
    ("one", ["one", "o", "ne", "e"]),
    (f"unaffordable {letters(3)} unaffordableness", ["unaffordable", "afford", "unaffordableness", "b", "c", "ness"]),
]
QUESTIONS = [
    "Who?",
    "",
    " [MASK].",
    "Who [MASK].",
    "Who[MASK].",
    "\u3000Who \u200b",
    "[QUESTION] .",
    "Where is [SEP] it [MASK]. [MASK].",
    "\u0301",
    "WHO IS \u0130T, \u00c9MILE?",
    "a\u3400b \U00020000?",
]


def placed(context, answer):
    """An answer, or (answer, first character), as SQuAD has it."""
    text, start = answer if isinstance(answer, tuple) else (answer, context.index(answer))
    assert context.startswith(text, start), (context, answer)
    return {"text": text, "answer_start": start}


def asked(contexts, name):
    """A paragraph for each (context, answers): a question for each answer, which has the next one for a second gold."""
    paragraphs = []
    for place, (context, answers) in enumerate(contexts):
        golds = [placed(context, answer) for answer in answers]
        qas = []
        for number, gold in enumerate(golds):
            more = [golds[(number + 1) % len(golds)], gold][: number % 3]
            question = QUESTIONS[(3 * place + number) % len(QUESTIONS)]
            qas.append({"id": f"{name}-{place}-{number}", "question": question, "answers": [gold, *more]})
        paragraphs.append({"context": context, "qas": qas})
    return paragraphs


def squad():
    """Hostile characters, answers inside words and across blanks; a context that comes again; one without a piece."""
    paragraphs = asked([*CONTEXTS, CONTEXTS[0], (NO_PIECE, ["\u0300"])], "char")
    return {
        "version": "1.1",
        "data": [{"title": "", "paragraphs": paragraphs[:3]}, {"title": "", "paragraphs": paragraphs[3:]}],
    }


def ladder():
    """Contexts and questions of every number of pieces around a limit, and an answer at every piece of a long one."""
    lengths = [(letters(count), [("a", 0), (letters(1, count - 1), 2 * count - 2)]) for count in range(1, 48)]
    spans = [
        (letters(size, first), 2 * first)
        for size in (1, 2, 4, 11, 31)
        for first in range(0, 36 - size, max(size // 4, 1))
    ]
    paragraphs = asked([*lengths, (letters(36), spans)], "step")
    for paragraph in paragraphs:
        for qa in paragraph["qas"]:
            qa["question"] = "q"
    asking = [
        {"id": f"asked-{size}", "question": letters(size), "answers": [{"text": "t", "answer_start": 38}]}
        for size in range(1, 15)
    ]
    paragraphs.append({"context": letters(30), "qas": asking})
    return {"version": "1.1", "data": [{"title": "ladder", "paragraphs": paragraphs}]}


def squad2():
    """Questions with and without an answer; one of the latter has answers that must not be looked at."""
    contexts = [*CONTEXTS[:1], *CONTEXTS[4:9], (letters(40), [("a", 0), ("n", 78), ("e f g", 8)])]
    paragraphs = asked(contexts, "two")
    for place, paragraph in enumerate(paragraphs):
        for qa in paragraph["qas"]:
            qa["is_impossible"] = False
        stranger = {"id": f"none-{place}", "question": "Who?", "answers": [], "is_impossible": True}
        paragraph["qas"].insert(place % 3, stranger)
    paragraphs[1]["qas"][1]["answers"] = list(paragraphs[1]["qas"][0]["answers"])
    return {"version": "v2.0", "data": [{"title": "two", "paragraphs": paragraphs}]}


def rows():
    """Rows of `datasets`: columns of answers, none for a question that has none."""
    made = []
    for paragraph in squad2()["data"][0]["paragraphs"]:
        for qa in paragraph["qas"]:
            answers = [] if qa["is_impossible"] else qa["answers"]
            columns = {key: [answer[key] for answer in answers] for key in ("text", "answer_start")}
            made.append({**qa, "context": paragraph["context"], "answers": columns})
            del made[-1]["is_impossible"]
    return made


def mrqa_line(name, context, tokens, answers, question="Who?", raw=None):
    """One context of MRQA.

    Args:
        tokens: strings, found one after the other.
        answers: (first token, last token) of each question's answers; a longer tuple adds the first and last character
            of a `char_spans` that does not follow from them.
        raw: texts of `answers` in place of what is detected.
    """
    pairs, end = [], 0
    for token in tokens:
        pairs.append([token, context.index(token, end)])
        end = pairs[-1][1] + len(token)
    qas = []
    for number, golds in enumerate(answers):
        detected = []
        for first, last, *chars in golds:
            span = chars or [pairs[first][1], pairs[last][1] + len(pairs[last][0]) - 1]
            text = context[span[0] : span[1] + 1].upper()  # the span is the authority, not the text
            detected.append({"text": text, "char_spans": [span, [0, 0]], "token_spans": [[first, last], [0, 0]]})
        key = "qid" if number % 2 else "id"
        asking = question if number != 2 else f"{question} [MASK]."
        texts = raw or [one["text"] for one in detected]
        qas.append({key: f"{name}-{number}", "question": asking, "answers": texts, "detected_answers": detected})
    return {"context": context, "context_tokens": pairs, "qas": qas}


def mrqa():
    """Lines of MRQA whose tokens leave text out, hold blanks, have no piece, or cut one context in two ways."""
    money = "It cost $4.5 million, or $ 5."
    cut = ["It", "cost", "$", "4.5", "million", ",", "or", "$", "5", "."]
    gaps = "(( alpha )) beta -- gamma !!"
    hidden = "x \u200b y\u00ad \u0301 z"
    spans = [[(2, 4)], [(2, 3)], [(8, 9)], [(7, 8), (2, 4)], [(0, 9)], [(9, 9)], [(6, 7)], [(2, 4, 9, 10)]]
    joined = "a.b.c.d.e.f.g."
    return [
        {"header": {"dataset": "hostile", "split": "all"}},
        mrqa_line("cut", money, cut, spans),
        mrqa_line("blanks", money, money.split(), [[(2, 3)], [(0, 0)], [(5, 5)], [(4, 5)]], raw=["$4.5", "the $4.5"]),
        mrqa_line("again", money, cut, [[(0, 0)], [(3, 4)]]),
        mrqa_line(
            "gaps",
            gaps,
            ["alpha", "beta", "gamma"],
            [[(0, 0, 0, 7)], [(0, 1)], [(1, 1, 9, 15)], [(2, 2)], [(2, 2, 24, 24)], [(0, 2)], [(1, 2, 17, 24)]],
        ),
        mrqa_line(
            "hidden", hidden, ["x", "\u200b", "y\u00ad", "\u0301", "z"], [[(i, i)] for i in range(5)] + [[(1, 3)]]
        ),
        mrqa_line("nothing", "\u200bx", ["\u200b"], [[(0, 0, 0, 1)]]),
        mrqa_line("one", "New York City", ["New York", "City"], [[(0, 0)], [(0, 1)], [(1, 1)]], "In New York?"),
        mrqa_line("joined", joined, list(joined), [[(0, 13)], [(12, 13)], [(0, 6)], [(13, 13)]]),
        mrqa_line("special", "a [MASK] b [QUESTION] c", ["a", "[MASK]", "b", "[QUESTION]", "c"], [[(1, 1)], [(3, 4)]]),
        mrqa_line("long", letters(60), letters(60).split(), [[(0, 0)], [(59, 59)], [(0, 59)], [(30, 39)], [(40, 50)]]),
    ]


# -- sentence pairs -----------------------------------------------------------------------------------------


def qnli():
    """Pairs of every two lengths around a limit, then texts that a reader of quoted files would misread."""
    pairs = [(letters(a), letters(b)) for a in range(12) for b in range(12)]
    pairs += [
        ('"open', "close"),
        ('a "b" c', '"'),
        ("\u0301", "\u200b"),
        ("[SEP] <sep> <cls>", "<mask> <pad> </s>"),
        (f"{'x' * 100} {'y' * 101}", " ".join(f"a{char}b" for char in BORDERS)),
        ("\u0130T \u01c5 \u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3", "caf\u00e9 cafe\u0301 \ufb01n"),
        ("  two  blanks  ", "a\u00a0b\u3000c\u2028d\u0085e"),
    ]
    lines = ["index\tquestion\tsentence\tlabel"]
    for number, (question, sentence) in enumerate(pairs):
        label = "not_entailment" if number % 3 else "entailment"
        lines.append(f"{number:03}\t{question}\t{sentence}\t{label}")
    return "\n".join(lines)  # the last line has no end


# -- intents and slots --------------------------------------------------------------------------------------

INTENT_LABELS = ["UNK", "b#c", "a", "c"]
SLOT_LABELS = ["PAD", "UNK", "O", "I-x", "B-x", "B-x.y", "S-z", "I-q"]
TRAIN = [
    ("a", "dark", "O"),
    ("c", "a\u00a0b\u3000c", "B-x I-x O"),
    ("b#c", "  turn   the\tLIGHT off ", "O O I-x B-x.y"),
    ("new", "\u0301 \u200bnow", "B-x O"),
    ("a", "[MASK] [UNK] [mask] x[SEP]y", "S-z O I-x.y B-x"),
    ("a", f"{'x' * 100} {'y' * 101} {ACCENT * 101}", "B-x E-x O"),
    ("c", "A-10 \u0130T caf\u00e9 cafe\u0301 \u6771\u4eac", "B-x I-x O I-q B"),
]


def ladder_of_words():
    """(intent, words, tags) of 8 to 13 pieces, then of words with several pieces at a cut."""
    for count in range(8, 14):
        yield "a", letters(count), " ".join(("B-x", "I-x", "O")[i % 3] for i in range(count))
    for count in range(6, 11):
        yield "c", f"{letters(count)} unaffordable {letters(2)}", " ".join(["O"] * count + ["B-x", "I-x", "B-x.y"])


def intents():
    """File of a corpus -> its lines."""
    dev = [
        ("unseen", "a\u0085b\u2028c", "I-x B-never O"),
        ("A", "Z\u200b \ufeff", "b-x O"),
        ("UNK", "PAD UNK O", "UNK UNK I-x"),
        *ladder_of_words(),
        *TRAIN[4:],
    ]
    files = {"intent_label.txt": INTENT_LABELS, "slot_label.txt": SLOT_LABELS}
    for part, sentences in (("train", [*TRAIN, *ladder_of_words()]), ("dev", dev)):
        for name, place in (("label", 0), ("seq.in", 1), ("seq.out", 2)):
            files[f"{part}/{name}"] = [one[place] for one in sentences]
    return files


# -- the three tasks of a course ----------------------------------------------------------------------------

TEXTS = [
    *(letters(count) for count in range(14)),
    'He said ""yes"", twice',
    "a\tb",
    "Mr. O'Neil?!,.' ...",
    "  Two   BLANKS\u00a0\u3000 ",
    "\u0130T \u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3 STRA\u1e9eE \ufb01n caf\u00e9 cafe\u0301",
    " ".join(f"a{char}b" for char in BORDERS),
    f"{'x' * 100} {'y' * 101} {ACCENT * 101}",
    "[MASK] [SEP] x[CLS]y [mask] [UN\u200bK]",
    "\u0301 \u200b \ufffd \u0085 \x0b",
    "one\ntwo",
    "\u2019s 's .\u2019",
    "3.14 1,000 U.S.A. don't",
]


def table(columns, rows):
    """Tab-separated with a heading; what holds a tab, a double quote or an end of line is quoted."""
    return "".join("\t".join(map(quoted, row)) + "\n" for row in [columns, *rows])


def quoted(text):
    """A cell; a `""` stands for one quote in quotes, a quote inside an unquoted cell for itself."""
    return f'"{text}"' if "\t" in text or "\n" in text or '""' in text else text


def multitask():
    """File -> its text. Columns stand in another order, with one that nobody asks for; some labels are none."""
    sentences = [(str(n % 5), f" {n:02}A ", text) for n, text in enumerate(TEXTS)]
    sentences.insert(3, (" 4 ", "space", 'a "quote" inside'))
    pairs = [(a, b) for n, a in enumerate(TEXTS) for b in (TEXTS[(5 * n + 3) % len(TEXTS)], a)]
    twice = ("0", "1", "0.0", "1.0", "", "none", "1e0", " 1 ")
    graded = ("0", "5", "2.5", "5.0", "", "0.1", "4.95", "1e-3", " 3.2 ", "1.1")
    paraphrase = [(a, f"P{n}", twice[n % len(twice)], "", b) for n, (a, b) in enumerate(pairs)]
    similarity = [(f"s{n}", graded[n % len(graded)], b, a) for n, (a, b) in enumerate(pairs)]
    return {
        "sentiment.csv": table(("sentiment", "id", "sentence"), sentences).replace("\n07", "\n\n07"),
        "paraphrase.csv": table(("sentence1", "id", "is_duplicate", "note", "sentence2"), paraphrase),
        "similarity.csv": table(("id", "similarity", "sentence2", "sentence1"), similarity),
    }


# -- a second vocabulary ------------------------------------------------------------------------------------


def other_vocabulary():
    """The pieces of `vocab.txt` under other numbers: what one tokenizer remembers must not answer for the other."""
    lines = (PATH / "vocab.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join([*lines[:200], *reversed(lines[200:])])  # below stand the ones that models know by number


# -- text to mine -------------------------------------------------------------------------------------------

WORDS = ["harbour", "clock", "bell", "boat", "tower", "stone", "wheel", "water", "light", "market"]


def mining():
    """Documents: what recurs overlaps itself, is too long, begins or ends in half a word, or is of stop words."""
    ten = " ".join(WORDS)
    return [
        ["ha ha ha ha ha ha ha", "bell boat bell boat bell boat bell boat bell"],
        [f"{ten} .", f"{ten} stone .", f"stone {ten} ."],
        ["of the of the of the clock", "The clock , the clock ; THE CLOCK . Of The ."],
        ["play playing played player play playing", "playing play plays play", "unplay replay play playing"],
        ["caf\u00e9 caf\u00e9 \u00b2 \u00b2 x_y x_y 7 7 \U0001f98a \U0001f98a \u6771\u4eac \u6771\u4eac"],
        ["the harbour. The harbour, the harbour - the harbour", "harbour the", "the bell the harbour the"],
        ["[MASK] clock [MASK] clock [SEP] clock [QUESTION] bell [QUESTION] bell", "[UNK] boat [UNK] boat"],
        ["\u200b", "", "\u0301"],
        ["\u200b", *("bell boat" for _ in range(8)), "\u200b", "stone"],
        ["bell"],
        # with [CLS] and [SEP] 0.15 of their pieces are a whole number and a half, then 30 and more
        *([" ".join(f"{WORDS[i % 3]} ." for i in range(count))] for count in (4, 9, 14, 24, 34, 44, 99, 114)),
        [" ".join(WORDS[i % size] for i in range(120)) for size in (3, 7)],
        [f"{WORDS[i % 7]} {WORDS[i % 3]} {WORDS[i % 4]}" for i in range(12)],
        [f"{WORDS[i % 7]} {WORDS[i % 3]}" for i in range(9)],
        [f"{WORDS[i % 7]} {WORDS[i % 3]}" for i in range(10)],
        # 95 pieces, which fill a context, and 96; then a line that is longer than one, and as long
        *([" ".join(WORDS[i % 3] for i in range(size)) for size in (35, second, 5)] for second in (60, 61)),
        [" ".join(WORDS[i % 3] for i in range(size)) for size in (96, 95, 2)],
        [" ".join(f"{WORDS[i * i % 10]} {WORDS[i % 9]} of" for i in range(25)) for _ in range(6)],
    ]


def pages():
    """The same documents between marks: titles that are text elsewhere, blank lines before and after everything."""
    made = ["", " \r"]
    for number, lines in enumerate(mining()):
        opening = f'<doc id="{number}">' if number % 3 else "<doc>"
        kept = [line + "\r" * (number % 2) for line in lines]
        made += [opening, *[""] * (number % 2), "bell bell", "", *kept, "", "</doc>"]
    return "\n".join([*made, ""])


def books():
    """The same documents with one or more blank lines between them; the last line has no end."""
    made = ["", "\t"]
    for number, lines in enumerate(mining()):
        made += [*(line for line in lines if line.strip()), *(["", " "] if number % 2 else [" \r"])]
    return "\n".join(made).rstrip()


def write(folder=PATH):
    """Write the folder `hostile` into a folder."""
    files = {  # all characters escaped; one in a single line, as SQuAD's own files are
        f"{name}.json": json.dumps(value, indent=indent) + "\n"
        for name, value, indent in (("squad", squad(), None), ("ladder", ladder(), 1), ("squad2", squad2(), 1))
    }
    for name, values in (
        ("mrqa", mrqa()),
        ("rows", rows()),
        ("mining", [{"text": "\n".join(one)} for one in mining()]),
    ):
        files[f"{name}.jsonl"] = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    files |= {
        "qnli.tsv": qnli(),
        **multitask(),
        "vocab.txt": other_vocabulary(),
        "pages.txt": pages(),
        "books.txt": books(),
    }
    files |= {f"intents/{name}": "".join(f"{line}\n" for line in lines) for name, lines in intents().items()}
    for name, content in files.items():
        path = Path(folder) / FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8"))  # bytes: no \r\n on any system


if __name__ == "__main__":
    write()
