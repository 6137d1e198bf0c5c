"""terminal.py: what of a text a terminal may get, and how much of it."""

import unicodedata

import pytest

from splinter.align.terminal import printable, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x9b31mred", r"\x9b31mred"),
        ("bell\x07 back\x08 nul\x00 del\x7f", r"bell\x07 back\x08 nul\x00 del\x7f"),
        ("line\r\nand\ttab", "line\\r\nand\ttab"),
        ("exe.\u202egpj\u202c \u2066a\u2069", r"exe.\u202egpj\u202c \u2066a\u2069"),
        ("half \ud83d", r"half \ud83d"),
        ("München 東京 😀 שלום a\u200db", "München 東京 😀 שלום a\u200db"),
    ],
    ids=["escape", "C1", "C0", "ends of lines", "bidi", "surrogate", "letters"],
)
def test_what_a_terminal_would_act_on_is_shown(text, shown):
    """
    Controls become visible; letters of any script, joiners, end of line and tab stay.
    """
    assert printable(text) == shown


def test_no_control_is_left_within_a_line():
    """
    Of all characters there are, none that is a control, half a pair or an end of line gets through.
    """
    every = printable("".join(map(chr, range(0x110000))), keep="")
    assert not {unicodedata.category(c) for c in every} & {"Cc", "Cs", "Zl", "Zp"}
    assert len(every.splitlines()) == 1
    assert not [c for c in every if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI")]


@pytest.mark.parametrize("limit", [300, 301, 20])
def test_a_long_line_loses_its_middle(limit):
    """
    Both ends stay, and the length is what was asked for; a line that fits stays as it is.
    """
    text = "a.json: " + "x" * 1000 + "; try b"
    cut = shortened(text, limit)
    assert len(cut) == limit
    assert cut.startswith("a.json:") and cut.endswith("try b")
    assert shortened("y" * limit, limit) == "y" * limit
