"""The two forms of a function: its code, of which overlap is counted, and a short one that is searched.

An embedder reads a few dozen tokens. The first lines of a body spend them on brackets and checks of
arguments; the words that the body uses, each once and what it calls first, tell more of what it does. On
networkx' training files, which took no part in any reported figure, all-MiniLM-L6-v2 came to an MRR@10 of
.669 on this form and .652 on the first lines; tuned from three seeds, to .745, .736, .725 and .710, .729,
.738 (600 queries, 1,792 functions).
"""

from __future__ import annotations

import ast
import keyword
import re

from helpers.data.queries.wording import name_words
from helpers.records import Function

_DEFINITION = re.compile(r"^(?:async\s+)?def\s", re.MULTILINE)
_IDENTIFIER = re.compile(r"[^\W\d]{3,}")
_CALLED = re.compile(r"([^\W\d]{3,})\s*\(")
MIN_LETTERS = 3  # of a word; shorter ones are loop variables and the like
# Words of code that say nothing of what it is about, in Python and in the other languages that take part.
_ANYWHERE = {word.lower() for word in keyword.kwlist} | {
    "self", "cls", "int", "float", "str", "list", "dict", "set", "range", "len", "isinstance",
    "const", "let", "var", "function", "func", "this", "void", "null", "nil", "public", "private",
    "static", "struct", "impl",
}  # fmt: skip


def document_text(function: Function) -> str:
    """The function's name and place in words, then its code from `def` on.

    A name taken apart ("topological sort (algorithms dag)") reads like the questions that are asked;
    decorators say how a function is called, not what it does, and an embedder reads the first tokens
    alone. Docstrings of functions nested inside are removed too: they may be asked for.
    """
    name = " ".join(name_words(function.qualname))
    if function.language != "python":  # its place is a path, and `code` begins with the definition already
        return f"{name} ({function.path})\n{function.code}"
    _, dot, inside = function.module.partition(".")  # the package's own name is the same everywhere
    place = " ".join(name_words(inside if dot else function.module))
    code = strip_nested_docstrings(function.code)
    if definition := _DEFINITION.search(code):
        code = code[definition.start() :]
    return f"{name} ({place})\n{code}"


def strip_nested_docstrings(code: str) -> str:
    """`code` without the docstrings of functions and classes defined inside it."""
    if '"""' not in code and "'''" not in code and code.count("def ") + code.count("class ") < 2:
        return code
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a body that was nothing but its docstring leaves no valid code behind
        return code
    lines = code.splitlines(keepends=True)
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        first = node.body[0]
        if ast.get_docstring(node, clean=False) is not None and first.lineno > node.lineno:
            for line in range(first.lineno - 1, first.end_lineno):
                lines[line] = ""
    return "".join(lines)


def short_form(text: str) -> str:
    """What is searched of a `document_text`: name, place, the definition's line, the body's words.

    Names are taken apart; every word stands once, those of called functions first. Keywords and the like
    are left out, and so are words of the function's own name.

    >>> print(short_form("add edge (graph)\\ndef add_edge(self, u):\\n    self.near[u] = {}\\n    check(u)"))
    add edge (graph)
    def add_edge(self, u):
    check near
    """
    head, _, code = text.partition("\n")
    definition, _, body = code.partition("\n")
    own = set(name_words(head.rpartition(" (")[0]))
    called = (word for name in _CALLED.findall(body) for word in name_words(name))
    used = (word for name in _IDENTIFIER.findall(code) for word in name_words(name) if word not in own)
    words = dict.fromkeys(w for w in (*called, *used) if len(w) >= MIN_LETTERS and w not in _ANYWHERE)
    return f"{head}\n{definition}\n{' '.join(words)}"
