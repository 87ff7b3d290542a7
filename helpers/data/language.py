"""Who writes the language in a training response: an interface and its offline back end.

A `LanguageGenerator` explains a function and writes its docstring. `SourceFacts`, the default,
invents nothing: it restates the function's own docstring and what its syntax tree shows. Other
back ends (a local chat model, an endpoint) only have to offer the same two methods; whatever they
write passes the same filters in `helpers.data.instruct`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Protocol

from helpers.data.docstrings import DocstringFacts, normal_docstring, returns_a_value
from helpers.data.source_edits import SourceText
from helpers.records import Function

MAX_NAMED_CALLS = 4


class LanguageGenerator(Protocol):
    """Writes the prose of a response, or None where it has too little to go on."""

    name: str

    def explain(self, function: Function, facts: DocstringFacts) -> str | None:
        """A few sentences on what `function` does, takes, returns, raises and calls."""

    def docstring(self, function: Function, facts: DocstringFacts) -> str | None:
        """A docstring body (no quotes) that describes every parameter and the return value."""


class SourceFacts:
    """Deterministic: the docstring's own sentences and facts of the syntax tree, nothing else."""

    name = "deterministic"

    def explain(self, function: Function, facts: DocstringFacts) -> str | None:
        """See `LanguageGenerator.explain`; None for a function without a summary line."""
        if not facts.summary:
            return None
        sentences = [_opening(function.name, facts.summary)]
        described = {item.name: item for item in facts.parameters}
        for name in function.parameters:
            item = described.get(name)
            about = (item.description or item.type) if item is not None else ""
            sentences.append(f"- `{name}`: {about}" if about else f"- `{name}`")
        if function.parameters:
            sentences.insert(1, "Parameters:")
        value = facts.returns
        if value is not None and (value.description or value.type):
            sentences.append(f"It returns {_lowered(value.description or value.type).rstrip('.')}.")
        raised = list(dict.fromkeys(_raised(function.code)))
        if raised:
            sentences.append(f"It can raise {_and(raised)}.")
        called = list(dict.fromkeys(_called(function.code)))[:MAX_NAMED_CALLS]
        if called:
            sentences.append(f"It calls {_and(called)}.")
        return "\n".join(sentences)

    def docstring(self, function: Function, facts: DocstringFacts) -> str | None:
        """See `LanguageGenerator.docstring`; None if a parameter or the return is undescribed."""
        if returns_a_value(function.code) and facts.returns is None:
            return None
        return normal_docstring(facts, function.parameters)


def _opening(name: str, summary: str) -> str:
    first = summary.split()[0]
    if re.fullmatch(r"[A-Z][a-z]+s", first):  # Returns, Computes: a verb in the third person
        return f"`{name}` {_lowered(summary)}"
    return f"`{name}`: {summary}"


def _lowered(text: str) -> str:
    """First letter in lower case, unless the word is a name or an acronym."""
    first = text.split(maxsplit=1)[0] if text else ""
    return text[0].lower() + text[1:] if re.fullmatch(r"[A-Z][a-z]+[,.]?|A", first) else text


def _and(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + f" and {quoted[-1]}"


def _raised(code: str) -> Iterator[str]:
    for node in SourceText(code).nodes:
        if isinstance(node, ast.Raise) and node.exc is not None:
            target = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(target, ast.Name | ast.Attribute):
                yield ast.unparse(target)


def _called(code: str) -> Iterator[str]:
    raised = set(_raised(code))
    for node in SourceText(code).nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = ast.unparse(node.func)
            if re.fullmatch(r"[\w.]+", name) and name not in raised:
                yield name
