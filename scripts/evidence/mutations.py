"""Small changes of a source file: what an absent mind might have written instead. Syntax trees in, syntax trees out.

`mutations` lists them all; `mutated` makes one. An operator is a function that is shown one node and its surroundings,
and yields what may stand in its place. Left alone is what no step can tell: docstrings, annotations, imports, checks
of the input with their errors, `__all__`.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Path = tuple[tuple[str, int | None], ...]
"""The way to a node from the tree's root: fields, and places in those that are lists."""
Replacements = Iterator[ast.AST]
TYPES = {"Callable", "Iterable", "Iterator", "Mapping", "Sequence", "dict", "frozenset", "list", "set", "tuple", "type"}
"""What `name[...]` makes a type, not a number."""


@dataclass(frozen=True)
class Mutation:
    """One change.

    Args:
        operator: the kind of change.
        path: to the node that is replaced.
        replacement: what takes its place.
        line, end: of the statement that holds it, or of its head; from 1, both included.
        function: that it is in, by its dotted name in the file; "": in none.
        statement: the path to that statement.
    """

    operator: str
    path: Path
    replacement: ast.AST = field(compare=False)
    line: int
    end: int
    function: str
    statement: Path


@dataclass(frozen=True)
class Around:
    """What surrounds a node.

    Args:
        parents: from the tree's root to its parent.
        names: the field of the parent that it is in.
        functions: the classes and functions that it is in, from the outermost.
        fields: class -> its attributes by name, each with what tells its type.
    """

    parents: tuple[ast.AST, ...]
    name: str
    functions: tuple[ast.AST, ...]
    fields: Mapping[str, Mapping[str, str]]

    @property
    def parent(self) -> ast.AST:
        return self.parents[-1]


def mutated(tree: ast.Module, mutation: Mutation) -> ast.Module:
    """The tree with the change in it; the given one stays as it is."""
    made = copy.deepcopy(tree)
    owner: Any = made
    for name, index in mutation.path[:-1]:
        owner = _child(owner, name, index)
    name, index = mutation.path[-1]
    replacement = ast.copy_location(copy.deepcopy(mutation.replacement), _child(owner, name, index))
    if index is None:
        setattr(owner, name, replacement)
    else:
        getattr(owner, name)[index] = replacement
    return ast.fix_missing_locations(made)


def shown(tree: ast.Module, mutation: Mutation) -> tuple[str, str]:
    """The statement, or its head, before and after."""
    found = []
    for one in (tree, mutated(tree, mutation)):
        node: Any = one
        for name, index in mutation.statement:
            node = _child(node, name, index)
        node = copy.copy(node)
        lines = 1 + len(getattr(node, "decorator_list", ()))
        if hasattr(node, "body") and not isinstance(node.body, ast.AST):
            node.body, node.orelse = [ast.Pass()], []
            text = "\n".join(ast.unparse(node).split("\n")[:lines])
        else:
            text = ast.unparse(node)
        found.append(text)
    return found[0], found[1]


def _child(owner: Any, name: str, index: int | None) -> Any:
    return getattr(owner, name) if index is None else getattr(owner, name)[index]


def mutations(tree: ast.Module, fields: Mapping[str, Mapping[str, str]] | None = None) -> list[Mutation]:
    """Every change of a file, in the order of its lines.

    Args:
        fields: see `attributes`; of the files whose classes it uses, its own among them.
    """
    return list(_within(tree, (), Around((), "", (), fields or attributes([tree])), ()))


def _within(node: ast.AST, path: Path, around: Around, statement: Path) -> Iterator[Mutation]:
    if around.parents and _left_alone(node, around):
        return
    if isinstance(node, ast.stmt):
        statement = path
    if around.parents:
        line, end = _lines(next(one for one in reversed((*around.parents, node)) if isinstance(one, ast.stmt)))
        dotted = ".".join(one.name for one in around.functions)  # type: ignore[attr-defined]
        for name, operator in OPERATORS.items():
            for replacement in operator(node, around):
                yield Mutation(name, path, replacement, line, end, dotted, statement)
    inside = (*around.functions, node) if isinstance(node, DEFINITIONS) else around.functions
    for name, value in ast.iter_fields(node):
        children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if isinstance(child, ast.AST):
                functions = inside if name == "body" else around.functions  # defaults are the business of outside
                there = Around((*around.parents, node), name, functions, around.fields)
                yield from _within(child, (*path, (name, index)), there, statement)


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _left_alone(node: ast.AST, around: Around) -> bool:
    """Whether nothing in a node counts: what is never run, or only told."""
    if around.name in ("annotation", "returns", "decorator_list"):
        return True
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.Raise, ast.Assert, ast.Global, ast.Nonlocal)):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring, "..."
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return True
    if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise) and not node.orelse:
        return True  # a check of what is given: good input passes it, and what is told of bad input is no step's claim
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
        return True
    return isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] in TYPES


def _lines(node: ast.stmt) -> tuple[int, int]:
    """The lines of a statement; of one that holds others, of its head."""
    body = getattr(node, "body", None)
    if not body:
        return node.lineno, node.end_lineno or node.lineno
    if isinstance(node, DEFINITIONS):
        return node.lineno, max(node.lineno, body[0].lineno - 1)
    heads = [child for name, child in ast.iter_fields(node) if isinstance(child, ast.expr)]
    heads += [item.context_expr for item in getattr(node, "items", ())]
    return node.lineno, max([node.lineno, *(head.end_lineno or 0 for head in heads)])


def _changed(node: Any, **fields: Any) -> Any:
    """A copy of a node with other fields; its children are the same."""
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _swapped(items: Sequence[Any]) -> Iterator[list[Any]]:
    """A list with two neighbours exchanged, for each two that differ."""
    if any(isinstance(one, ast.Starred) for one in items):
        return
    for place in range(len(items) - 1):
        if ast.dump(items[place]) != ast.dump(items[place + 1]):
            yield [*items[:place], items[place + 1], items[place], *items[place + 2 :]]


def _whole(node: ast.AST | None) -> int | None:
    """The whole number that is written there, with its sign."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _whole(node.operand)
        return None if inner is None else -inner
    plain = isinstance(node, ast.Constant) and type(node.value) is int
    return node.value if plain else None  # type: ignore[union-attr]


def _is_axis(around: Around) -> bool:
    """Whether a node is what stands after `axis=`, whose own operator it is."""
    return any(isinstance(one, ast.keyword) and one.arg in AXES for one in around.parents[-2:])


AXES = ("axis", "dim")


# -- operators ----------------------------------------------------------------------------------------------


def numbers(node: ast.AST, around: Around) -> Replacements:
    """One more, one less, twice as much, 0, 1."""
    if not isinstance(node, ast.Constant) or type(node.value) not in (int, float) or _is_axis(around):
        return
    n: Any = node.value
    others = [n + 1, n - 1, 2 * n, 0, 1] if isinstance(n, int) else [2 * n, 0.0, 1.0]
    for value in dict.fromkeys(one for one in others if one != n):
        yield _changed(node, value=value)


def strings(node: ast.AST, around: Around) -> Replacements:
    """Emptied; an empty one is filled."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield _changed(node, value="" if node.value else "XX")


def booleans(node: ast.AST, around: Around) -> Replacements:
    """True for False."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield _changed(node, value=not node.value)


COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip


def comparisons(node: ast.AST, around: Around) -> Replacements:
    """< for <=, < for >, == for !=, is for is not, in for not in."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                yield _changed(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])


ARITHMETIC: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
}  # fmt: skip
TEXTS = (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp)


def arithmetic(node: ast.AST, around: Around) -> Replacements:
    """+ for -, * for /, // and % for others, & for |; a minus lost. Not where a text or a list is added."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not _is_axis(around):
        yield node.operand
    if not isinstance(node, (ast.BinOp, ast.AugAssign)):
        return
    sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.value,)
    if any(isinstance(side, TEXTS) or isinstance(getattr(side, "value", None), str) for side in sides):
        return
    for other in ARITHMETIC.get(type(node.op), ()):
        yield _changed(node, op=other())


def axes(node: ast.AST, around: Around) -> Replacements:
    """Another axis; two places of a permutation exchanged."""
    if isinstance(node, ast.keyword) and node.arg in AXES and (axis := _whole(node.value)) is not None:
        for other in (-1, 0, 1):
            if other != axis:
                yield _changed(node, value=ast.Constant(other))
    if isinstance(node, (ast.List, ast.Tuple)) and isinstance(around.parent, (ast.Call, ast.keyword)):
        found = [_whole(one) for one in node.elts]
        if len(found) > 1 and None not in found and sorted(found) == list(range(len(found))):  # type: ignore[type-var]
            yield from (_changed(node, elts=elts) for elts in _swapped(node.elts))


COMMUTATIVE = {"min", "max", "minimum", "maximum", "fmin", "fmax", "isclose", "gcd", "lcm", "logical_and", "logical_or"}


def arguments(node: ast.AST, around: Around) -> Replacements:
    """Two positional arguments exchanged, but for functions whose arguments have no order."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] not in COMMUTATIVE:
        yield from (_changed(node, args=swapped) for swapped in _swapped(node.args))


def keywords(node: ast.AST, around: Around) -> Replacements:
    """A named argument forgotten; but for `strict`, which asserts something, and changes nothing where it holds."""
    if isinstance(node, ast.Call):
        for one in node.keywords:
            if one.arg not in (None, "strict"):
                yield _changed(node, keywords=[other for other in node.keywords if other is not one])


def statements(node: ast.AST, around: Around) -> Replacements:
    """A statement forgotten: a call, a changed value, a condition with all that hangs on it, a `with` around others.

    Not the first assignment to a name, without which the next line would end in an error.
    """
    if isinstance(node, ast.With) and not any(item.optional_vars for item in node.items):
        yield ast.If(ast.Constant(True), node.body, [])
    elif isinstance(node, ast.Assign):
        if all(_bound(target, around) for target in node.targets):
            yield ast.Pass()
    elif isinstance(node, (ast.Expr, ast.AugAssign, ast.Continue, ast.Break, ast.Delete)) or (
        isinstance(node, ast.If) and not node.orelse
    ):
        yield ast.Pass()


def _bound(target: ast.expr, around: Around) -> bool:
    """Whether what is assigned to may have a value before: an attribute, a part, an argument, a name from above."""
    if not isinstance(target, ast.Name):
        return isinstance(target, (ast.Attribute, ast.Subscript))
    for node in ast.walk(around.functions[-1] if around.functions else around.parents[0]):
        if isinstance(node, ast.arg) and node.arg == target.id:
            return True
        stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == target.id
        if stored and node.lineno < target.lineno:  # type: ignore[attr-defined]
            return True
    return False


def attribute(node: ast.AST, around: Around) -> Replacements:
    """An attribute for another one of its class and type."""
    if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return
    if isinstance(node.value, ast.Name) and node.value.id == "self":
        own = [one.name for one in around.functions if isinstance(one, ast.ClassDef)][-1:]
    else:
        own = _said(node.value, around) or list(around.fields)
    others: dict[str, None] = {}
    for found in (around.fields.get(name, {}) for name in own):
        if kind := found.get(node.attr):
            others |= dict.fromkeys(name for name, other in found.items() if other == kind and name != node.attr)
    yield from (_changed(node, attr=other) for other in others)


def _said(node: ast.expr, around: Around) -> list[str]:
    """The class that an argument is said to be of, if it is one that we know."""
    for function in reversed(around.functions):
        for one in ast.walk(getattr(function, "args", ast.Pass())):
            if isinstance(one, ast.arg) and isinstance(node, ast.Name) and one.arg == node.id and one.annotation:
                name = ast.unparse(one.annotation).rpartition(".")[2]
                return [name] if name in around.fields else []
    return []


def logic(node: ast.AST, around: Around) -> Replacements:
    """`and` for `or`, a `not` lost, a condition turned round."""
    if isinstance(node, ast.BoolOp):
        yield _changed(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    plain = not isinstance(node, (ast.Compare, ast.UnaryOp, ast.BoolOp))  # those have operators of their own
    condition = around.name == "test" and isinstance(around.parent, (ast.If, ast.While, ast.IfExp))
    if condition and plain and isinstance(node, ast.expr):
        yield ast.UnaryOp(ast.Not(), node)


def branches(node: ast.AST, around: Around) -> Replacements:
    """Always one side of `a if c else b`; a filter of a comprehension lost."""
    if isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
    if isinstance(node, ast.comprehension):
        for one in node.ifs:
            yield _changed(node, ifs=[other for other in node.ifs if other is not one])


def slices(node: ast.AST, around: Around) -> Replacements:
    """A bound of a slice lost, or moved by one."""
    if not isinstance(node, ast.Slice):
        return
    for name, beyond in (("lower", ast.Constant(1)), ("upper", ast.UnaryOp(ast.USub(), ast.Constant(1)))):
        bound = getattr(node, name)
        if bound is None:
            yield _changed(node, **{name: beyond})
        else:
            yield _changed(node, **{name: None})
            if _whole(bound) is None:  # numbers have an operator of their own
                yield _changed(node, **{name: ast.BinOp(bound, ast.Add(), ast.Constant(1))})


def elements(node: ast.AST, around: Around) -> Replacements:
    """Two neighbours of a tuple, a list, or the values of a dict exchanged."""
    if isinstance(node, (ast.Tuple, ast.List)) and isinstance(node.ctx, ast.Load):
        if not isinstance(around.parent, ast.Subscript):  # an index, or a type
            yield from (_changed(node, elts=elts) for elts in _swapped(node.elts))
    elif isinstance(node, ast.Dict) and None not in node.keys:
        yield from (_changed(node, values=values) for values in _swapped(node.values))


OPERATORS: dict[str, Callable[[ast.AST, Around], Replacements]] = {
    "number": numbers,
    "string": strings,
    "boolean": booleans,
    "comparison": comparisons,
    "arithmetic": arithmetic,
    "axis": axes,
    "arguments swapped": arguments,
    "keyword dropped": keywords,
    "statement dropped": statements,
    "attribute exchanged": attribute,
    "logic": logic,
    "branch": branches,
    "slice": slices,
    "elements swapped": elements,
}
"""Kind of change -> what makes it."""


# -- types --------------------------------------------------------------------------------------------------


def attributes(trees: Sequence[ast.Module]) -> dict[str, dict[str, str]]:
    """Class -> its attributes, each with what tells its type: the annotation, or what is called to make it."""
    found: dict[str, dict[str, str]] = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef):
            own = found.setdefault(node.name, {})
            for one in node.body:
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                    own[one.target.id] = ast.unparse(one.annotation)
                elif isinstance(one, ast.FunctionDef):
                    own.update(_set_in(one))
    return found


def _set_in(method: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """The attributes that a method gives `self`, and what tells the type of each: a call, an argument's annotation."""
    said = {arg.arg: ast.unparse(arg.annotation) for arg in method.args.args if arg.annotation}
    for line in (line for line in ast.walk(method) if isinstance(line, ast.Assign)):
        for target, value in _pairs(line):
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                if isinstance(value, ast.Call):
                    yield target.attr, f"{ast.unparse(value.func)}()"
                elif isinstance(value, ast.Name) and value.id in said:
                    yield target.attr, said[value.id]


def _pairs(line: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Targets with their values."""
    for target in line.targets:
        if isinstance(target, ast.Tuple) and isinstance(line.value, ast.Tuple):
            yield from zip(target.elts, line.value.elts, strict=False)
        else:
            yield target, line.value
