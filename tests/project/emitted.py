"""
What the package can tell a user when something fails, read from its source: reasons, messages, warnings and log records.

A text is a template: `…` stands for what is put in at run time. A reason that is not a text in the source, such as the words of the
operating system, is the expression, or the function that makes it, in brackets.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

HOLE = "…"

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """The modules in *folder*, without the subfolders *apart*."""

    def __init__(self, folder: Path, apart: tuple[str, ...] = ()) -> None:
        self.functions: dict[str, Function] = {}
        self.constants: dict[str, ast.expr] = {}
        # Each call, with the function that makes it.
        self.calls: list[tuple[Function, ast.Call]] = []
        for path in sorted(folder.rglob("*.py")):
            if path.relative_to(folder).parts[0] not in apart:
                self._read(ast.parse(path.read_text()))

    def _read(self, module: ast.Module) -> None:
        for statement in module.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.constants[name] = value
                case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                    self.constants |= zip(map(_name, names), values, strict=True)
        for node in ast.walk(module):
            if isinstance(node, Function):
                self.functions[node.name] = node
                self.calls += [(node, call) for call in ast.walk(node) if isinstance(call, ast.Call)]

    # What is emitted

    def failures(self) -> Iterator[tuple[set[str], set[str]]]:
        """For each `Failure` that is made, its possible reasons and its possible messages."""
        for function, call in self.calls:
            if _name(call.func) == "Failure":
                reason = _argument(call, 1, "reason")
                assert reason is not None, ast.unparse(call)
                yield self.texts(reason, function), self.texts(call.args[0], function)

    def complaints(self) -> set[str]:
        """The texts of all `ValueError`s, those that `CredentialsError` repeats among them."""
        return self._arguments([each for each in self.calls if _name(each[1].func) == "ValueError"], 0)

    def warnings(self) -> set[str]:
        """The texts of all Python warnings."""
        calls = [each for each in self.calls if ast.unparse(each[1].func) == "warnings.warn"]
        return self._arguments(calls, 0)

    def records(self) -> set[str]:
        """The texts of all log records of level WARNING and above."""
        calls = [(function, call) for function, call in self.calls if _name(call.func) == "log"]
        high = [each for each in calls if ast.unparse(each[1].args[0]) not in ("logging.DEBUG", "logging.INFO")]
        # The one function that makes all records is not a record of its own.
        found = self._arguments([each for each in high if each[0].name != "log"], 2)
        return {re.sub(r"%(\.\d+)?[sdfr]", HOLE, text) for text in found}

    def _arguments(self, calls: list[tuple[Function, ast.Call]], position: int) -> set[str]:
        found = set()
        for function, call in calls:
            texts = self.texts(call.args[position], function)
            assert texts, f"no text is found for {ast.unparse(call)}"
            found |= texts
        return found

    # The texts that an expression can be

    def texts(self, value: ast.expr, function: Function, seen: frozenset[tuple[str, str]] = frozenset()) -> set[str]:
        """*seen*: the functions and names that led here, so that `words = printable(words)` has an end."""
        match value:
            case ast.Constant():
                return {value.value} if isinstance(value.value, str) and value.value else set()
            case ast.JoinedStr():
                text = "".join(map(self._part, value.values))
                return {text if re.search(r"\w", text) else f"[{function.name}]"}
            case ast.List(elts=[]):
                return set()
            case ast.BoolOp():
                return self._of_all([(each, function) for each in value.values], seen)
            case ast.IfExp():
                return self._of_all([(value.body, function), (value.orelse, function)], seen)
            case ast.Name(id=name) if name in self.constants:
                return self.texts(self.constants[name], function, seen)
            case ast.Name(id=name):
                step = (function.name, name)
                return set() if step in seen else self._of_name(name, function, seen | {step})
            case ast.Call() if _name(value.func) == "printable":
                return self.texts(value.args[0], function, seen)
            case ast.Call() if (called := self.functions.get(_name(value.func))) is not None:
                return self._of_all([(each, called) for each in _returned(called)], seen)
        return {f"[{ast.unparse(value)}]"}

    def _part(self, part: ast.expr) -> str:
        """A part of an f-string: its text, or that of the constant that it names."""
        if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
            part = self.constants.get(part.value.id, part)
        return str(part.value) if isinstance(part, ast.Constant) else HOLE

    def _of_all(self, values: list[tuple[ast.expr, Function]], seen: frozenset[tuple[str, str]]) -> set[str]:
        return {text for value, function in values for text in self.texts(value, function, seen)}

    def _of_name(self, name: str, function: Function, seen: frozenset[tuple[str, str]]) -> set[str]:
        """What *function* binds a name to, and what its callers give."""
        bound = [each for node in ast.walk(function) for each in self._bindings(name, node, function)]
        parameters = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
        if name in parameters:
            for caller, call in self.calls:
                given = _argument(call, parameters.index(name), name) if _name(call.func) == function.name else None
                bound += [] if given is None else [(given, caller)]
        return self._of_all(bound, seen) if bound else {f"[{function.name}: {name}]"}

    def _bindings(self, name: str, node: ast.AST, function: Function) -> list[tuple[ast.expr, Function]]:
        match node:
            case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                return [(value, function)]
            case ast.For(target=ast.Name(id=bound), iter=value) if bound == name:
                return [(value, function)]
            case ast.Call(func=ast.Attribute(value=ast.Name(id=bound), attr="append"), args=[value]) if bound == name:
                return [(value, function)]
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Call(func=ast.Name(id=called))):
                if name in (texts := [_name(each) for each in names]) and called in self.functions:
                    tuples = [each for each in _returned(self.functions[called]) if isinstance(each, ast.Tuple)]
                    return [(each.elts[texts.index(name)], self.functions[called]) for each in tuples]
        return []


def _returned(function: Function) -> list[ast.expr]:
    """What *function* returns or yields."""
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.Return | ast.Yield)]
    return [node.value for node in nodes if node.value is not None]


def _name(value: ast.expr) -> str:
    return value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    given = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return given[0] if given else call.args[position] if len(call.args) > position else None
