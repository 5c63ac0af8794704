"""The small language that conditions in operator support tables are written in.

::

    rank(input[0]) not in (3, 4, 5)
    attr(mode) == 'CRD' or rank(input[0]) != 4
    present(input[1]) and not const(input[1])

Operators from loose to tight: ``or``; ``and``; ``not``; ``== != < <= > >= in``, ``not in``;
``+ -``; ``* / %``; unary ``-``; indexing.  Literals are numbers, quoted strings, ``true``,
``false``, ``absent`` and tuples.  What the names and functions mean is in ``evaluation``.
There is no way to loop, assign or reach anything of Python's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Value = bool | int | float | str | tuple[object, ...]


class ConditionError(Exception):
    """A condition that does not parse, or asks something of the wrong kind of value."""


class UnfitValueError(ConditionError):
    """The model has a value there that the condition cannot reckon with: a list for a number, say."""


@dataclass(frozen=True)
class Literal:
    """A number, string, boolean or ``absent`` (``None``)."""

    value: Value | None


@dataclass(frozen=True)
class Name:
    """A fact by name: ``opset``, ``input``; or the bare word an attribute function is given."""

    name: str


@dataclass(frozen=True)
class Call:
    """A function of facts."""

    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class Index:
    """``value[index]``."""

    value: Expression
    index: Expression


@dataclass(frozen=True)
class Unary:
    """``not`` or ``-``."""

    operator: str
    operand: Expression


@dataclass(frozen=True)
class Binary:
    """Any operator with two sides; ``not in`` is one of them."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Items:
    """A tuple."""

    items: tuple[Expression, ...]


Expression = Literal | Name | Call | Index | Unary | Binary | Items

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|'(?P<string>[^']*)'|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<mark>==|!=|<=|>=|[-<>+*/%(),\[\]]))"
)
_KEYWORDS = {"and", "or", "not", "in"}
_CONSTANTS: dict[str, Value | None] = {"true": True, "false": False, "absent": None}
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
_MAX_DEPTH = 40


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> Expression:
    """The expression ``text`` stands for.

    Raises ``ConditionError`` with the column where it stops making sense.
    """
    parser = _Parser(text)
    expression = parser.disjunction()
    parser.expect_end()
    return expression


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def disjunction(self) -> Expression:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ConditionError(f"nested too deep: {self._text!r}")
        left = self._conjunction()
        while self._take("or"):
            left = Binary("or", left, self._conjunction())
        self._depth -= 1
        return left

    def _conjunction(self) -> Expression:
        left = self._negation()
        while self._take("and"):
            left = Binary("and", left, self._negation())
        return left

    def _negation(self) -> Expression:
        if self._take("not"):
            return Unary("not", self._negation())
        return self._comparison()

    def _comparison(self) -> Expression:
        left = self._sum()
        token = self._peek()
        if token.text in _COMPARISONS and token.kind == "mark":
            self._next += 1
            return Binary(token.text, left, self._sum())
        if self._take("in"):
            return Binary("in", left, self._sum())
        if token.text == "not" and token.kind == "word":
            self._next += 1
            if not self._take("in"):
                raise self._fault("'in' after 'not'")
            return Binary("not in", left, self._sum())
        return left

    def _sum(self) -> Expression:
        left = self._product()
        while self._peek().text in ("+", "-") and self._peek().kind == "mark":
            left = Binary(self._advance().text, left, self._product())
        return left

    def _product(self) -> Expression:
        left = self._factor()
        while self._peek().text in ("*", "/", "%") and self._peek().kind == "mark":
            left = Binary(self._advance().text, left, self._factor())
        return left

    def _factor(self) -> Expression:
        if self._take("-"):
            return Unary("-", self._factor())
        value = self._primary()
        while self._take("["):
            value = Index(value, self.disjunction())
            self._require("]")
        return value

    def _primary(self) -> Expression:
        token = self._advance()
        if token.kind == "number":
            return Literal(float(token.text) if "." in token.text else int(token.text))
        if token.kind == "string":
            return Literal(token.text)
        if token.kind == "word" and token.text in _CONSTANTS:
            return Literal(_CONSTANTS[token.text])
        if token.kind == "word" and token.text not in _KEYWORDS:
            return Call(token.text, self._arguments()) if self._take("(") else Name(token.text)
        if token.text == "(" and token.kind == "mark":
            items = self._arguments()
            one = len(items) == 1 and self._tokens[self._next - 2].text != ","
            return items[0] if one else Items(items)
        self._next -= 1
        raise self._fault("a value")

    def _arguments(self) -> tuple[Expression, ...]:
        items: list[Expression] = []
        while not self._take(")"):
            if items:
                self._require(",")
                if self._take(")"):
                    break
            items.append(self.disjunction())
        return tuple(items)

    def expect_end(self) -> None:
        if self._peek().kind != "end":
            raise self._fault("the end")

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _advance(self) -> _Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _take(self, text: str) -> bool:
        token = self._peek()
        if token.text == text and token.kind in ("mark", "word"):
            self._next += 1
            return True
        return False

    def _require(self, text: str) -> None:
        if not self._take(text):
            raise self._fault(f"'{text}'")

    def _fault(self, wanted: str) -> ConditionError:
        token = self._peek()
        found = f"'{token.text}'" if token.kind != "end" else "the end"
        return ConditionError(f"column {token.at + 1}: {found} where {wanted} should be: {self._text!r}")


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            raise ConditionError(f"column {at + 1}: cannot read {text[at:].strip()[:10]!r}: {text!r}")
        kind = str(found.lastgroup)
        tokens.append(_Token(kind, found[kind], found.start(kind)))
        at = found.end()
    return [*tokens, _Token("end", "", len(text))]
