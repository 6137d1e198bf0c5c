"""The operators of the mutants on samples of a few lines."""

import ast
from textwrap import dedent

import pytest
from evidence import mutations


def made(source: str, operator: str) -> list[str]:
    """What an operator makes of a source: the changed statement, or its head, each."""
    tree = ast.parse(dedent(source))
    return [mutations.shown(tree, one)[1] for one in mutations.mutations(tree) if one.operator == operator]


@pytest.mark.parametrize(
    ("operator", "source", "expected"),
    [
        ("number", "x = 3", ["x = 4", "x = 2", "x = 6", "x = 0", "x = 1"]),
        ("number", "x = 0", ["x = 1", "x = -1"]),
        ("number", "x = 0.1", ["x = 0.2", "x = 0.0", "x = 1.0"]),
        ("string", "f(mode='mean')", ["f(mode='')"]),
        ("string", "x = ''", ["x = 'XX'"]),
        ("boolean", "f(bias=False)", ["f(bias=True)"]),
        ("comparison", "x = a < b", ["x = a <= b", "x = a > b"]),
        ("comparison", "x = a == b", ["x = a != b"]),
        ("comparison", "x = a is None", ["x = a is not None"]),
        ("comparison", "x = a not in b", ["x = a in b"]),
        ("arithmetic", "x = a + b * c", ["x = a - b * c", "x = a + b / c"]),
        ("arithmetic", "x += -a", ["x -= -a", "x += a"]),
        ("arithmetic", "x = 'a' + b", []),
        ("axis", "x = a.sum(axis=-1)", ["x = a.sum(axis=0)", "x = a.sum(axis=1)"]),
        (
            "axis",
            "x = a.transpose([0, 2, 1])",
            ["x = a.transpose([2, 0, 1])", "x = a.transpose([0, 1, 2])"],
        ),
        ("arguments swapped", "x = f(a, b)", ["x = f(b, a)"]),
        ("arguments swapped", "x = f(a, a)", []),
        ("arguments swapped", "x = f(*a, b)", []),
        ("arguments swapped", "x = np.minimum(a, b)", []),
        ("keyword dropped", "x = f(a, b=1, c=2)", ["x = f(a, c=2)", "x = f(a, b=1)"]),
        ("keyword dropped", "x = zip(a, b, strict=True)", []),
        ("logic", "x = a and b", ["x = a or b"]),
        ("logic", "x = not a", ["x = a"]),
        ("logic", "x = a if b else c", ["x = a if not b else c"]),
        ("branch", "x = a if b else c", ["x = a", "x = c"]),
        ("branch", "x = [a for a in b if a]", ["x = [a for a in b]"]),
        ("slice", "x = a[i:]", ["x = a[:]", "x = a[i + 1:]", "x = a[i:-1]"]),
        ("slice", "x = a[:1]", ["x = a[1:1]", "x = a[:]"]),
        ("elements swapped", "x = a, b, c", ["x = (b, a, c)", "x = (a, c, b)"]),
        ("elements swapped", "x = {'a': 1, 'b': 2}", ["x = {'a': 2, 'b': 1}"]),
        ("elements swapped", "a, b = x", []),
        ("statement dropped", "layer.eval()", ["pass"]),
        ("statement dropped", "x.weight = a", ["pass"]),
        ("statement dropped", "x = f(a)", []),
    ],
)
def test_operator(operator, source, expected):
    """An operator makes these changes, in this order, and no others."""
    assert made(source, operator) == expected


def test_a_value_that_was_there_before_is_kept():
    """A second assignment may be forgotten, the first not, without which nothing would run."""
    source = """
        def f(x):
            y = x + 1
            y = y * 2
            x = abs(x)
            return x + y
    """
    tree = ast.parse(dedent(source))
    found = [one for one in mutations.mutations(tree) if one.operator == "statement dropped"]
    assert [mutations.shown(tree, one)[0] for one in found] == ["y = y * 2", "x = abs(x)"]
    assert {one.function for one in found} == {"f"}


def test_a_with_is_lost_and_what_it_holds_is_not():
    tree = ast.parse("with no_grad():\n    f()")
    first = next(one for one in mutations.mutations(tree) if one.operator == "statement dropped")
    assert ast.unparse(mutations.mutated(tree, first)) == "if True:\n    f()"


ATTRIBUTES = """
    class Config:
        hidden: float = 0.1
        attention: float = 0.2
        width: int = 4

    class Layer:
        def __init__(self, config: Config):
            self.query, self.value = Linear(config.width), Linear(config.width)
            self.norm = LayerNorm(config.hidden)

        def forward(self, x):
            return self.norm(self.query(x))
"""


def test_attributes_of_one_type_are_exchanged():
    """What is annotated alike, or made by the same call; never one of another type."""
    assert made(ATTRIBUTES, "attribute exchanged") == [
        "self.norm = LayerNorm(config.attention)",
        "return self.norm(self.value(x))",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "def f(x: int = None) -> 'Tensor[1]':\n    'a docstring'",
        "from a import b",
        "raise ValueError('a ' + b)",
        "assert a == 1, 'b'",
        "if a < 1:\n    b = 'c'\n    raise ValueError(b)",
        "__all__ = ['a', 'b']",
        "if TYPE_CHECKING:\n    x = 1",
        "Rows = Mapping[str, tuple[int, float]]",
        "@dataclass(frozen=True)\nclass A:\n    'b'",
    ],
)
def test_what_no_run_can_tell_is_left_alone(source):
    assert mutations.mutations(ast.parse(source)) == []


def test_lines_are_those_of_the_statement_or_of_its_head():
    """A mutant counts as executed by a run that has seen one of them."""
    tree = ast.parse("x = f(\n    1,\n)\nif a == b:\n    y = 2\n")
    lines = {(one.operator, one.line, one.end) for one in mutations.mutations(tree)}
    assert lines == {("number", 1, 3), ("comparison", 4, 4), ("statement dropped", 4, 4), ("number", 5, 5)}


def test_the_tree_that_is_given_stays_as_it_is():
    """A change is made in a copy, which compiles and does what it says."""
    tree = ast.parse("def f(a, b=2):\n    return a - b\n")
    for one in mutations.mutations(tree):
        compile(mutations.mutated(tree, one), "sample", "exec")
    assert ast.unparse(tree) == "def f(a, b=2):\n    return a - b"
    change = next(one for one in mutations.mutations(tree) if one.operator == "arithmetic")
    space: dict = {}
    exec(compile(mutations.mutated(tree, change), "sample", "exec"), space)
    assert space["f"](3) == 5
