"""Give a function its two text forms: the full document, and a short form that is searched.

Word overlap is counted on the full form. An embedder reads only a few dozen tokens, and the first lines of
a body spend them on brackets and argument checks. The words that the body uses, each once and names of
called functions first, tell more about what it does. Measured on networkx' training files, which took part
in no reported figure: all-MiniLM-L6-v2 reached an MRR@10 of .669 on this form and .652 on the first lines;
tuned from three seeds, .745, .736, .725 against .710, .729, .738 (600 queries, 1,792 functions).
"""

from __future__ import annotations

import ast
import keyword
import re

from helpers.data.queries.letters import LETTERS, UNSPACED, is_unspaced
from helpers.data.queries.wording import name_words
from helpers.lines import lines_of, with_newlines
from helpers.records import Function

_DEFINITION = re.compile(r"^(?:async\s+)?def\s", re.MULTILINE)
_RUN = rf"(?:{LETTERS}{{3,}}|[{UNSPACED}]{{2,}})"
_IDENTIFIER = re.compile(_RUN)
_CALLED = re.compile(rf"({_RUN})\s*\(")
MIN_LETTERS = 3  # of a word with blanks around it; shorter ones are loop variables and the like
# Words of code that say nothing about its subject, in Python and the other supported languages.
_ANYWHERE = {word.lower() for word in keyword.kwlist} | {
    "self", "cls", "int", "float", "str", "list", "dict", "set", "range", "len", "isinstance",
    "const", "let", "var", "function", "func", "this", "void", "null", "nil", "public", "private",
    "static", "struct", "impl",
}  # fmt: skip


def document_text(function: Function) -> str:
    """Return the function's name and place in words, then its code from `def` on.

    A name split into words ("topological sort (algorithms dag)") reads like the questions asked. Decorators
    are dropped: an embedder reads only the first tokens, and they say how a function is called, not what it
    does. Docstrings of nested functions are removed, because queries may be made from them.
    """
    name = " ".join(name_words(function.qualname))
    if function.language != "python":  # its place is a path, and `code` already begins with the definition
        return f"{name} ({function.path})\n{with_newlines(function.code)}"
    _, dot, inside = function.module.partition(".")  # the name of the package is the same for all
    place = " ".join(name_words(inside if dot else function.module))
    code = strip_nested_docstrings(with_newlines(function.code))
    if definition := _DEFINITION.search(code):
        code = code[definition.start() :]
    return f"{name} ({place})\n{code}"


def strip_nested_docstrings(code: str) -> str:
    """Return `code` without the docstrings of functions and classes defined inside it."""
    if '"""' not in code and "'''" not in code and code.count("def ") + code.count("class ") < 2:
        return code
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a function whose body was only its docstring has no valid code left
        return code
    lines = lines_of(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = node.body[0]
            if ast.get_docstring(node, clean=False) is not None and first.lineno > node.lineno:
                lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return "".join(lines)


def short_form(text: str) -> str:
    """Return the searched form of a `document_text`: name, place, definition line, words of the body.

    Names are split into words. Each word occurs once, those of called functions first. Keywords and the
    like are left out, and so are words of the function's own name.

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
    words = dict.fromkeys(w for w in (*called, *used) if _is_telling(w))
    return f"{head}\n{definition}\n{' '.join(words)}"


def _is_telling(word: str) -> bool:
    return word not in _ANYWHERE and (len(word) >= MIN_LETTERS or is_unspaced(word))
