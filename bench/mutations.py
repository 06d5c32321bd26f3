"""Small wrong changes to a Python source text: what a slip of the hand would leave, one at a time.

What is never changed, because a test that held it would hold a wording: f-strings, texts with a blank in them, what is
logged, what an error says, docstrings, annotations, imports, decorators, ``strict`` of ``zip``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

COMPARED: dict[type[ast.cmpop], tuple[tuple[str, str], ...]] = {
    ast.Lt: (("<", "<="), ("<", ">=")),
    ast.LtE: (("<=", "<"), ("<=", ">")),
    ast.Gt: ((">", ">="), (">", "<=")),
    ast.GtE: ((">=", ">"), (">=", "<")),
    ast.Eq: (("==", "!="),),
    ast.NotEq: (("!=", "=="),),
    ast.Is: (("is", "is not"),),
    ast.IsNot: (("is not", "is"),),
    ast.In: (("in", "not in"),),
    ast.NotIn: (("not in", "in"),),
}
RECKONED: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
TEXTS_OF = {"log", "logging", "warnings"}
UNTOUCHED_NAMES = {"__all__", "model_config", "log"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: *new* in the place of the bytes from *start* to *end*."""

    start: int
    end: int
    new: str
    line: int
    lines: frozenset[int]
    """Of the statement it is in: tests that never come there cannot see it."""
    function: str | None
    """Qualified name of the outermost function whose body it is in; None when it takes effect at import."""

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]

    def shown(self, source: bytes) -> list[str]:
        """The changed lines, as in a diff."""
        first, last = source.rfind(b"\n", 0, self.start) + 1, source.find(b"\n", self.end)
        before = source[first:last].decode().splitlines()
        after = (source[first : self.start] + self.new.encode() + source[self.end : last]).decode().splitlines()
        same = 0
        while same < min(len(before), len(after)) and before[same] == after[same]:
            same += 1
        end = 0
        while end < min(len(before), len(after)) - same and before[-1 - end] == after[-1 - end]:
            end += 1
        return [f"- {t.strip()}" for t in before[same : len(before) - end]] + [
            f"+ {t.strip()}" for t in after[same : len(after) - end]
        ]


def mutants(source: bytes, enums: Mapping[str, list[str]]) -> list[Mutant]:
    """All changes of a module. *enums*: the members of the enumerations it names, in their order."""
    found = _Finder(source, enums)
    found.block(ast.parse(source).body)
    return sorted(found.mutants, key=lambda m: (m.start, m.end, m.new))


class _Finder:
    def __init__(self, source: bytes, enums: Mapping[str, list[str]]) -> None:
        self.source, self.enums = source, enums
        self.starts = [0, *(m.end() for m in re.finditer(rb"\n", source))]
        self.mutants: list[Mutant] = []
        self.lines: frozenset[int] = frozenset()
        self.function: str | None = None
        self.scope: list[str] = []

    # -- places ----------------------------------------------------------------------------------

    def start(self, node: ast.AST) -> int:
        return self.starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self.starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def text(self, node: ast.AST) -> str:
        return self.source[self.start(node) : self.end(node)].decode()

    def change(self, start: int, end: int, new: str) -> None:
        line = self.source.count(b"\n", 0, start) + 1
        self.mutants.append(Mutant(start, end, new, line, self.lines | {line}, self.function))

    def replace(self, node: ast.AST, new: str) -> None:
        self.change(self.start(node), self.end(node), new)

    def between(self, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        """Change an operator, which stands between its operands, perhaps beside their brackets."""
        pattern = re.compile(rf"\b{old}\b" if old[0].isalpha() else re.escape(old))
        gap = self.source[self.end(left) : self.start(right)].decode()
        found = pattern.search(gap)
        if found:
            at = self.end(left) + len(gap[: found.start()].encode())
            self.change(at, at + len(found[0]), new)

    # -- statements ------------------------------------------------------------------------------

    def block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):  # a docstring
                self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            self.definition(node)
            return
        self.lines = frozenset(range(node.lineno, self._header_end(node) + 1))
        match node:
            case ast.If(test=test) | ast.While(test=test):
                self.condition(test)
            case ast.Return(value=ast.expr() as value):
                if not isinstance(value, (ast.Constant, ast.Name, ast.JoinedStr)):
                    self.replace(value, "None")
                self.expression(value)
            case ast.Raise():
                self.replace(node, "pass")
            case ast.Continue():
                self.replace(node, "break")
            case ast.Expr(value=ast.Call() as call):
                if not self._says(call):
                    self.replace(node, "pass")
                    self.expression(call)
            case ast.Match():
                self.match(node)
            case ast.Assign(targets=[ast.Name(id=name)]) if name in UNTOUCHED_NAMES:
                pass
            case ast.AnnAssign():
                if node.value:
                    self.expression(node.value)
            case ast.AugAssign():
                self._reckoned(node.op, node.target, node.value)
                self.expression(node.value)
            case ast.Try():
                pass
            case ast.For():
                self.expression(node.iter)
            case ast.With():
                for item in node.items:
                    self.expression(item.context_expr)
            case ast.Import() | ast.ImportFrom() | ast.Pass():
                pass
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.expression(child)
        for name in ("body", "orelse", "finalbody"):
            self.block(getattr(node, name, []))
        for handler in getattr(node, "handlers", []):
            self.block(handler.body)

    def _header_end(self, node: ast.stmt) -> int:
        body = getattr(node, "body", None)
        if isinstance(node, ast.Match):
            return node.subject.end_lineno or node.lineno
        return max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno

    def definition(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        self.lines = frozenset({node.lineno})
        if isinstance(node, ast.FunctionDef):
            for default in [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]:
                self.expression(default)
        self.scope.append(node.name)
        outer = self.function
        if isinstance(node, ast.FunctionDef) and outer is None:
            self.function = ".".join(self.scope)
        self.block(node.body)
        self.function = outer
        self.scope.pop()

    def match(self, node: ast.Match) -> None:
        self.expression(node.subject)
        header = self.lines
        for case in node.cases:
            pattern, first = case.pattern, case.body[0].lineno
            self.lines = header | frozenset(range(pattern.lineno, first + 1))
            if case.guard:
                self.replace(case.guard, "False")
                self.condition(case.guard)
            else:
                self.change(self.end(pattern), self.end(pattern), " if False")
            for either in (p for p in ast.walk(pattern) if isinstance(p, ast.MatchOr)):
                for number in range(len(either.patterns)):
                    rest = [self.text(p) for n, p in enumerate(either.patterns) if n != number]
                    self.replace(either, " | ".join(rest))
            self.block(case.body)

    # -- expressions -----------------------------------------------------------------------------

    def condition(self, node: ast.expr) -> None:
        """Something asked for its truth: the other way round, where no operator in it says so by itself."""
        if isinstance(node, (ast.Name, ast.Attribute, ast.Call, ast.BoolOp)):
            self.replace(node, f"(not ({self.text(node)}))")
        self.expression(node)

    def expression(self, node: ast.expr) -> None:
        match node:
            case ast.JoinedStr():
                return
            case ast.Call():
                if self._says(node):
                    return
                if isinstance(node.func, ast.Name) and node.func.id in NAMES:
                    self.replace(node.func, NAMES[node.func.id])
                elif isinstance(node.func, ast.Name) and node.func.id == "abs":
                    self.replace(node.func, "")
                elif isinstance(node.func, ast.Name) and node.func.id in {"Decimal", "D"}:
                    self._number(node)
                    return
            case ast.Constant():
                self._constant(node)
            case ast.Compare():
                for operand, operator, right in zip(
                    [node.left, *node.comparators], node.ops, node.comparators, strict=False
                ):
                    for old, new in COMPARED[type(operator)]:
                        self.between(operand, right, old, new)
            case ast.BoolOp():
                self._all_or_any(node)
            case ast.BinOp():
                self._reckoned(node.op, node.left, node.right)
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                self.replace(node, f"({self.text(operand)})")
            case ast.IfExp():
                self.condition(node.test)
                self.expression(node.body)
                self.expression(node.orelse)
                return
            case ast.Dict():
                self._without_each(node)
                for value in node.values:
                    self.expression(value)
                return
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if attr in self.enums.get(name, []):
                members = self.enums[name]
                self.replace(node, f"{name}.{members[(members.index(attr) + 1) % len(members)]}")
                return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.expression(child)
            elif isinstance(child, ast.keyword) and child.arg != "strict":
                self.expression(child.value)
            elif isinstance(child, ast.comprehension):
                self.expression(child.iter)
                for test in child.ifs:
                    self.condition(test)

    def _says(self, call: ast.Call) -> bool:
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        return isinstance(owner, ast.Name) and owner.id in TEXTS_OF

    def _reckoned(self, operator: ast.operator, left: ast.expr, right: ast.expr) -> None:
        if getattr(right, "attr", getattr(right, "id", "")) == "sign":  # times 1 or -1
            self.replace(right, f"-{self.text(right)}")
        elif type(operator) in RECKONED and not any(isinstance(s, (ast.JoinedStr, ast.Tuple)) for s in (left, right)):
            self.between(left, right, *RECKONED[type(operator)])

    def _all_or_any(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between(left, right, old, new)
        if len(node.values) > 2:
            for number in range(len(node.values)):
                rest = [f"({self.text(v)})" for n, v in enumerate(node.values) if n != number]
                self.replace(node, f" {old} ".join(rest))
        else:
            for one in node.values:
                self.replace(node, f"({self.text(one)})")

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.replace(node, str(not value))
        elif isinstance(value, (int, float)):
            self.replace(node, str(value + 1))
        elif isinstance(value, str) and value and " " not in value:
            self.replace(node, repr(value + "X"))

    def _number(self, call: ast.Call) -> None:
        """``Decimal("0.5")``: another number."""
        for argument in call.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                self.replace(argument, f'"{float(argument.value) * 1.1 + 0.01:.4g}"')
            else:
                self.expression(argument)

    def _without_each(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                end = self.end(value)
                comma = re.match(rb"\s*,\s*", self.source[end:])
                self.change(self.start(key), end + (comma.end() if comma else 0), "")
