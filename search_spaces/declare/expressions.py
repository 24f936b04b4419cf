"""Conditions on a configuration, written as text: data that can be printed, compared, hashed and stored."""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from satdet.config import ConfigError

_DEEPEST = 50
_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda item, items: item in items, ast.NotIn: lambda item, items: item not in items,
}  # fmt: skip
_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.Name, ast.Load,
    ast.Attribute, ast.Tuple, ast.List, ast.Set, ast.Not, *_OPERATORS,
)  # fmt: skip
_NUMBERS = int | float


@dataclass(frozen=True)
class Expression:
    """A condition such as ``detector.backbone == 'resnet101' and training.batch_size > 4``.

    Python's comparisons (``==``, ``<``, ``in`` …), ``and``, ``or``, ``not`` and the four operations, over paths,
    numbers, texts, None, True, False and tuples of these. Only numbers are computed with. A comparison of order with
    None is false, and what `values` do not have is None.

    Raises
    ------
    ConfigError
        For a text that is anything else.
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise ConfigError(f"condition {self.text!r} is not a text")
        level: list[ast.AST] = [self._tree]
        depth = 0
        while level:
            for node in level:
                if not _is_allowed(node):
                    raise ConfigError(f"condition {self.text!r}: {_kind(node)} has no place in a condition")
            depth += 1
            if depth > _DEEPEST:
                raise ConfigError(f"condition {self.text[:50]!r} … is nested more than {_DEEPEST} deep")
            level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not self.paths:
            raise ConfigError(f"condition {self.text!r} depends on nothing; write text in quotes")

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The paths that it depends on."""
        found: dict[str, None] = {}
        self._collect(self._tree, found)
        return tuple(found)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether `values` by path fulfil the condition.

        Raises
        ------
        ConfigError
            If the values cannot be compared or computed with as it says.
        """
        try:
            return bool(_evaluate(self._tree.body, values))
        except (TypeError, ArithmeticError) as error:
            raise ConfigError(f"condition {self.text!r} with {dict(values)}: {error}") from None

    @cached_property
    def _tree(self) -> ast.Expression:
        try:
            return ast.parse(self.text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ConfigError(
                f"condition {self.text!r} cannot be read; write it like 'training.batch_size > 4'"
            ) from None

    def _collect(self, node: ast.AST, found: dict[str, None]) -> None:
        if isinstance(node, ast.Name | ast.Attribute):
            found[_path(node, self.text)] = None
            return
        for child in ast.iter_child_nodes(node):
            self._collect(child, found)


def _is_allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None or isinstance(node.value, str | _NUMBERS)
    return isinstance(node, _ALLOWED)


def _kind(node: ast.AST) -> str:
    return type(node.value if isinstance(node, ast.Constant) else node).__name__


def _path(node: ast.AST, text: str = "") -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_path(node.value, text)}.{node.attr}"
    raise ConfigError(f"condition {text!r}: {ast.unparse(node)} is not a path")


def _evaluate(node: ast.AST, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name() | ast.Attribute():
            value = values.get(_path(node))
            return tuple(value) if isinstance(value, list) else value
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            return tuple(_evaluate(item, values) for item in items)
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_evaluate(part, values) for part in parts)
        case ast.BoolOp(values=parts):
            return any(_evaluate(part, values) for part in parts)
        case ast.UnaryOp(op=sign, operand=operand):
            value = _evaluate(operand, values)
            return not value if isinstance(sign, ast.Not) else _OPERATORS[type(sign)](_number(value))
        case ast.BinOp(left=left, op=sign, right=right):
            return _OPERATORS[type(sign)](_number(_evaluate(left, values)), _number(_evaluate(right, values)))
        case ast.Compare(left=left, ops=signs, comparators=others):
            terms = [_evaluate(term, values) for term in (left, *others)]
            return all(_compare(sign, *pair) for sign, pair in zip(signs, pairwise(terms), strict=True))
    raise AssertionError(ast.dump(node))


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        raise TypeError(f"{value!r} is not a number")
    return value


def _compare(sign: ast.AST, one: Any, other: Any) -> bool:
    ordered = isinstance(sign, ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    if ordered and (one is None or other is None):
        return False
    return bool(_OPERATORS[type(sign)](one, other))
