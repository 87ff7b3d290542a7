"""Write the prose in training responses: an interface, and its offline back end.

A `LanguageGenerator` answers requests: to explain a function, to write its docstring, or to reword an
instruction. `SourceFacts`, the default, invents nothing: it restates the function's own docstring and what
its syntax tree shows. `helpers.data.tasks.prose_models` holds a local chat model and an endpoint. Whatever
they write passes the same filters (`helpers.data.tasks.filters`), and held-out tasks never depend on it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from helpers.code.docstrings import (
    DocstringFacts,
    normal_docstring,
    read_docstring,
    returns_a_value,
    returns_nothing,
)
from helpers.code.edits import SourceText
from helpers.records import Function

SENTENCES = {  # of an explanation, after the docstring's summary; what is not known is left out
    "takes": "It takes {}.",
    "returns": "It returns {}.",
    "returns nothing": "It returns nothing.",
    "raises": "It can raise {}.",
}
CONSTANTS = ("True", "False", "None")


@dataclass(frozen=True)
class LanguageRequest:
    """One text to be written.

    `explain` and `docstring` are about `function`; `paraphrase` is about `text`, an instruction.
    """

    kind: Literal["explain", "docstring", "paraphrase"]
    function: Function | None = None
    text: str = ""


class LanguageGenerator(Protocol):
    """Writer of the prose in responses."""

    name: str  # as shown in the data card and the pairs

    def write(self, requests: Sequence[LanguageRequest]) -> list[str | None]:
        """Return an answer to each request, in order; None where there is none.

        An explanation is a few sentences on what the function does, takes, returns and raises. A docstring
        is its body without quotes. Paraphrases come one per line.
        """


class SourceFacts:
    """Deterministic writer: the docstring's own sentences and facts of the syntax tree, nothing else."""

    name = "deterministic"

    def write(self, requests: Sequence[LanguageRequest]) -> list[str | None]:
        """Implement `LanguageGenerator.write` without paraphrases: the templates differ in wording."""
        answers: list[str | None] = []
        for request in requests:
            function = request.function
            write = self.docstring if request.kind == "docstring" else self.explain
            answers.append(write(function, read_docstring(function.docstring)) if function else None)
        return answers

    def explain(self, function: Function, facts: DocstringFacts) -> str | None:
        """Return a few sentences on `function`; None if it has no summary line."""
        if not facts.summary:
            return None
        sentences = [_opening(function.name, facts.summary)]
        elsewhere = r",? as (?:described|explained|defined|discussed) (?:above|below)"
        told = {item.name: re.sub(elsewhere, "", item.description or item.type) for item in facts.parameters}
        if any(told.get(name) for name in function.parameters):
            sentences.append("Parameters:")
            for name in function.parameters:
                sentences.append(f"- `{name}`: {told[name]}" if told.get(name) else f"- `{name}`")
        elif function.parameters:
            sentences.append(SENTENCES["takes"].format(_and(list(function.parameters))))
        value = facts.returns
        if value is not None and (value.description or value.type):
            returned = _lowered(value.description or value.type).rstrip(".")
            sentences.append(SENTENCES["returns"].format(returned))
        elif returns_nothing(function.code) and not re.search(r"\b[Rr]eturns?\b", sentences[0]):
            sentences.append(SENTENCES["returns nothing"])
        if raised := list(dict.fromkeys(_raised(function.code))):
            sentences.append(SENTENCES["raises"].format(_and(raised)))
        return "\n".join(sentences)

    def docstring(self, function: Function, facts: DocstringFacts) -> str | None:
        """Return a docstring body; None if a parameter or the return value is undescribed."""
        if returns_a_value(function.code) and facts.returns is None:
            return None
        return normal_docstring(facts, function.parameters)


def _opening(name: str, summary: str) -> str:
    first = summary.split()[0]
    if re.fullmatch(r"[A-Z][a-z]+s", first):  # Returns, Computes: a verb in the third person
        return f"`{name}` {_lowered(summary)}"
    return f"`{name}`: {summary}"


def _lowered(text: str) -> str:
    """Return the text with its first letter in lower case, unless its first word is a name or acronym."""
    first = text.split(maxsplit=1)[0] if text else ""
    is_word = re.fullmatch(r"[A-Z][a-z]+[,.]?|A", first) and first.rstrip(",.") not in CONSTANTS
    return text[0].lower() + text[1:] if is_word else text


def _and(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + f" and {quoted[-1]}"


def _raised(code: str) -> Iterator[str]:
    for node in SourceText(code).nodes:
        if isinstance(node, ast.Raise) and node.exc is not None:
            target = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(target, ast.Name | ast.Attribute):
                yield ast.unparse(target)
