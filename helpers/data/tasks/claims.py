"""Compare what an explanation says of a function with its code, where that needs no understanding.

Three kinds of statement can be checked: attributes and methods that it names in backticks, what it says the
function calls, and that it says the function returns something. What cannot be decided counts as true, so an
explanation without false statements is not yet a true one.
"""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass

from helpers.code.docstrings import returns_nothing
from helpers.code.fences import without_blocks
from helpers.code.names.lookup import attribute_chain, resolve
from helpers.code.names.mentions import BACKTICK, OTHER_ROLE
from helpers.code.python_text import parse
from helpers.lines import bare_lines

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*-])")
HEADING = re.compile(r"#+\s.*|(?:\d+[.)]\s*|[-*+]\s+)?[*_:\s]*Returns?(?: (?:values?|types?))?[*_:\s]*", re.I)
ADVERB = r"(?:also |then |simply |always |finally |just )?"
# "It returns" tells of no value where one of these words follows, or one of the others is in the sentence.
NO_VALUE_FOLLOWS = re.compile(
    r"\W*(?:early|immediately|when|if|once|after|as|to|control|at|before|from|silently|implicitly|again)\b",
    re.I,
)
NO_VALUE = re.compile(r"\b(?:None|none|nothing|no|not|without|void)\b", re.I)
NAMED = r"`+[^`]+`+"


@dataclass(frozen=True)
class _Shown:
    """What a request shows of the function that it asks about."""

    words: set[str]
    attributes: set[str]  # words behind a dot, in code, comments and documentation
    held: set[str]  # the function's parameters and the names that it assigns

    @classmethod
    def of(cls, code: str, instruction: str) -> _Shown:
        text = f"{code}\n{instruction}"
        nodes = list(ast.walk(ast.parse(code)))
        assigned = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        taken = {node.arg for node in nodes if isinstance(node, ast.arg)}
        return cls(_words(text), set(re.findall(r"\.\s*(\w+)", text)), assigned | taken)

    def may_call(self, root: str, method: str) -> bool:
        """Return whether the code may call `root.method`: of what a name holds, it has to show the method.

        `queue.next` is no way to say `next(queue)`, but `nx.path` may be one to say `path(...)`.
        """
        return root not in self.held or method in self.attributes


def false_statement(text: str, code: str, *, name: str, instruction: str) -> str:
    """Return the first statement found in `text` that `code` contradicts, in words; "" if there is none.

    Args:
        code: the function that the text is about, as `instruction` shows it.
        name: of the function.
    """
    prose = OTHER_ROLE.sub(" ", without_blocks(text))
    shown = _Shown.of(code, instruction)
    if absent := list(dict.fromkeys(_absent(prose, name, shown))):
        return f"not in the code: {', '.join(absent)}"
    lines = [line.strip() for line in bare_lines(prose) if not HEADING.fullmatch(line.strip())]
    sentences = [part for line in lines for part in SENTENCE_END.split(line)]
    body = _words(re.sub(rf"\bdef\s+{re.escape(name)}\b", "", code, count=1))
    calls = (call for part in sentences for call in _said_to_be_called(part, name))
    foreign = [told for told, root, last in calls if last not in body or not shown.may_call(root, last)]
    if foreign := list(dict.fromkeys(foreign)):
        return f"not called: {', '.join(foreign)}"
    if returns_nothing(code) and any(_says_it_returns(part, name) for part in sentences):
        return "said to return a value, but returns none"
    return ""


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def _absent(prose: str, name: str, shown: _Shown) -> Iterator[str]:
    """Yield attributes and methods in backticks that are not shown."""
    for _, inside in BACKTICK.findall(prose):
        text = inside.strip()
        tree = parse(text) or parse(f"{text} pass")  # the head of a loop or a condition
        nodes = list(ast.walk(tree)) if tree else []
        if any(name in (getattr(node, "attr", ""), getattr(node, "id", "")) for node in nodes):
            continue  # an example of the function's use: it may hold whatever a caller has
        # Within other expressions an attribute says how to reach a value: `G.edges[u, v]["weight"]`.
        uses = [(node.func, True) for node in nodes if isinstance(node, ast.Call)]
        uses += [(node.value, False) for node in nodes if isinstance(node, ast.Expr)]
        for node, is_called in uses:
            if isinstance(node, ast.Attribute) and _is_a_use(node, shown, is_called=is_called):
                yield ast.unparse(node)


def _is_a_use(node: ast.Attribute, shown: _Shown, *, is_called: bool) -> bool:
    """Return whether `x.y` uses what is not shown; it may also name a class, a module or a file."""
    chain = attribute_chain(node)
    if is_called and not shown.may_call((chain or [""])[0], node.attr):
        return True
    if node.attr in shown.words or node.attr.lstrip("_")[:1].isupper():
        return False
    found = resolve(chain)[0] if chain else None
    if isinstance(found, type | types.ModuleType):
        return False
    return is_called or found is not None or (chain is not None and chain[0] in shown.words)


def _subject(name: str) -> str:
    """Return a pattern of the words with which a sentence begins whose subject is the function."""
    own = rf"`*{re.escape(name)}(?:\([^()`]*\))?`*"
    return rf"(?:It|(?:The|This) (?:function|method)(?: {own})?|{own}) {ADVERB}"


def _said_to_be_called(sentence: str, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield (text, its first name, its last name) of what a sentence lists behind "It calls".

    The first name is "" where the text does not begin with one, and where it is the last as well.
    """
    listed = re.match(rf"\W*{_subject(name)}calls ({NAMED}(?:(?:, and |, | and ){NAMED})*)", sentence)
    for inside in re.findall(r"`+([^`]+)`+", listed[1]) if listed else ():
        tree = parse(inside)
        node = tree.body[0].value if tree and tree.body and isinstance(tree.body[0], ast.Expr) else None
        node = node.func if isinstance(node, ast.Call) else node
        if isinstance(node, ast.Name):
            yield inside, "", node.id
        elif isinstance(node, ast.Attribute):
            yield inside, (attribute_chain(node) or [""])[0], node.attr


def _says_it_returns(sentence: str, name: str) -> bool:
    """Return whether the function is the subject of "returns", and a value follows."""
    subject = _subject(name)
    own = rf"`*{re.escape(name)}`*:"
    said = re.match(rf"\W*(?:{subject}returns|(?:{own} )?Returns?)\b(.*)", sentence)
    # "It takes a graph and returns its nodes", but not "It calls a helper that counts and returns them".
    later = re.match(
        rf"\W*{subject}(?:(?!\b(?:which|that|who|whose|where)\b).)*,? and returns\b(.*)", sentence
    )
    rest = said or later
    if rest is None or not re.search(r"\w", rest[1]):  # a heading alone
        return False
    return not NO_VALUE_FOLLOWS.match(rest[1]) and not NO_VALUE.search(sentence)
