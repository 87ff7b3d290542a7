"""Docstrings read into facts and written back in one normal form.

`read_docstring` understands numpydoc, Google and reST sections (through docstring_parser).
`normal_docstring` writes a short numpydoc docstring from such facts. `with_docstring` inserts it into
a function's text and changes no other character.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import docstring_parser
from docstring_parser import DocstringStyle

from helpers.code.edits import SourceText
from helpers.code.functions import without_docstring
from helpers.escaping import storable
from helpers.lines import bare_lines, indented, lines_of

SENTENCE = re.compile(r"(.+?(?:[.!?](?=\s|$)|[。！？।]))", re.DOTALL)
UNDERLINE = re.compile(r"\s*([-=~^*+#\"'_])\1{2,}\s*")
EXAMPLE = re.compile(r"\s*(?:>>>|In \[\d+\]:|```|\.\.(?:\s|$))")  # doctest, IPython, fence, directive
RST_ROLE = re.compile(r":[a-z:]+:`~?([^`<]+?)(?:\s*<[^`>]*>)?`")
NUMPYDOC_SECTION = re.compile(r"(?:Other )?Parameters|Returns|Yields|Raises|Attributes")
GOOGLE_SECTION = re.compile(r"(?:Args|Arguments|Returns|Yields|Raises|Attributes):")
FIELD = re.compile(
    rf"{GOOGLE_SECTION.pattern}\s*$|:\w+[^:]*:\s", re.MULTILINE
)  # of Google's style, or reST's
UNWRITABLE = re.compile("[\\0\\ud800-\\udfff]")  # in source code, other than as escapes


@dataclass(frozen=True)
class DescribedValue:
    """A parameter or return value as a docstring describes it; what it omits is an empty string."""

    name: str
    type: str
    description: str


@dataclass(frozen=True)
class DocstringFacts:
    """What a docstring says about its function."""

    summary: str  # first sentence, one line
    parameters: tuple[DescribedValue, ...]
    returns: DescribedValue | None
    raises: tuple[str, ...]  # exception names, in order


def read_docstring(docstring: str) -> DocstringFacts:
    """Parse a docstring in any of the usual styles; what it lacks is left empty."""
    try:
        parsed = docstring_parser.parse(docstring, _style(docstring))
    except docstring_parser.ParseError:
        first = docstring.strip().partition("\n\n")[0]
        return DocstringFacts(_first_sentence(first), (), None, ())
    parameters = []
    for item in parsed.params:
        if item.args and item.args[0] in ("param", "other_param", "parameter", "argument", "arg"):
            for name in re.split(r"\s*,\s*", item.arg_name):
                parameters.append(_described(name.lstrip("*"), item))
    returns = parsed.returns and _described(_one_line(parsed.returns.return_name), parsed.returns)
    raises = dict.fromkeys(_above_headings([_one_line(item.type_name) for item in parsed.raises]))
    summary = "\n".join(filter(None, (parsed.short_description, parsed.long_description)))
    if parsed.short_description and parsed.short_description.rstrip().endswith("."):
        summary = parsed.short_description
    return DocstringFacts(_first_sentence(summary), tuple(parameters), returns, tuple(raises))


def _style(docstring: str) -> DocstringStyle:
    """Return the style that the docstring's sections show; AUTO lets docstring_parser guess.

    It guesses by the number of facts found, and so takes numpydoc or Google sections for reST where a line
    of the prose begins with a colon: parameters and returns are lost, and the summary is cut.

    Defaults are not read from docstrings at all: docstring_parser takes "default value is x" for "value".
    """
    lines = bare_lines(inspect.cleandoc(docstring))
    for line, below in itertools.pairwise(lines):
        if NUMPYDOC_SECTION.fullmatch(line) and re.fullmatch(r"-{3,}\s*", below):
            return DocstringStyle.NUMPYDOC
        if GOOGLE_SECTION.fullmatch(line) and below.startswith(("    ", "\t")):
            return DocstringStyle.GOOGLE
    return DocstringStyle.AUTO


def prose_lines(text: str) -> list[str]:
    """Return the lines of `text` before its first example, directive or underline.

    An underline also takes away the heading above it, unless that is the first line. A line above the first
    heading is dropped.
    """
    lines = bare_lines(text)
    while lines and (not lines[0].strip() or UNDERLINE.fullmatch(lines[0])):
        lines = lines[1:]
    for at, line in enumerate(lines):
        if EXAMPLE.match(line):
            return lines[:at]
        if at and UNDERLINE.fullmatch(line):
            return lines[: max(1, at - 1)]
    return lines


def beyond_summary(docstring: str, limit: int) -> str:
    """Return what `docstring` says beyond its summary, one paragraph each, in at most `limit` characters.

    The paragraphs are its prose before the first section or example, parameters, result and exceptions. What
    says what the function does goes before what lists its arguments: prose is cut at a sentence, and of the
    others each is there whole or not at all.

    >>> beyond_summary("Return a + b.\\n\\nBoth are lengths in m.\\n\\nReturns\\n-------\\nfloat\\n", 99)
    'Both are lengths in m.\\n\\nReturns: float.'
    """
    facts = read_docstring(docstring)
    lines = itertools.takewhile(lambda line: not FIELD.match(line), prose_lines(inspect.cleandoc(docstring)))
    prose = _one_line("\n".join(lines)).removeprefix(facts.summary)
    listed = "; ".join(f"`{item.name}`: {_told(item)}" for item in facts.parameters if _says_something(item))
    result = _told(facts.returns) if facts.returns and _says_something(facts.returns) else ""
    parts = [_sentences(prose, limit), listed, result, ", ".join(f"`{name}`" for name in facts.raises)]
    left, whole = limit, [""] * len(parts)
    for place in (0, 2, 3, 1):
        heading = ("", "Parameters: ", "Returns: ", "Raises: ")[place]
        text = f"{heading}{parts[place].rstrip('.')}." if parts[place] else ""
        if text and len(text) + 2 <= left:
            left, whole[place] = left - len(text) - 2, text
    return "\n\n".join(filter(None, whole))


def _told(value: DescribedValue) -> str:
    return ", ".join(filter(None, (value.type, value.description.rstrip("."))))


def _sentences(text: str, limit: int) -> str:
    """Return the first sentences of one line of text that fit into `limit` characters."""
    kept = ""
    for sentence in SENTENCE.findall(text):
        if len(kept) + len(sentence) > limit - 2:
            break
        kept += sentence
    return kept.strip()


def _above_headings(names: Sequence[str]) -> list[str]:
    """Return `names` up to the heading that docstring_parser took for one of them ("See also", "----")."""
    underlined = (at for at, name in enumerate(names) if UNDERLINE.fullmatch(name))
    return [name for name in names[: max(0, next(underlined, len(names) + 1) - 1)] if name]


def _described(name: str, item: docstring_parser.common.DocstringMeta) -> DescribedValue:
    return DescribedValue(name, _one_line(item.type_name), _first_sentence(item.description))


def normal_docstring(facts: DocstringFacts, parameters: tuple[str, ...]) -> str | None:
    """Write a short numpydoc docstring for exactly `parameters`; None if a fact is missing.

    A fact is missing if there is no summary or a parameter is not described. The summary and each
    description are one sentence, wrapped at 88 characters.
    """
    described = {item.name: item for item in facts.parameters}
    if not facts.summary or any(not _says_something(described.get(name)) for name in parameters):
        return None
    parts = [textwrap.fill(facts.summary, 88)]
    if parameters:
        entries = [line for name in parameters for line in _entry(described[name], name)]
        parts.append("\n".join(["Parameters", "----------", *entries]))
    if facts.returns is not None and _says_something(facts.returns):
        heading = facts.returns.name if facts.returns.name.isidentifier() else ""
        parts.append("\n".join(["Returns", "-------", *_entry(facts.returns, heading)]))
    return "\n\n".join(parts)


def with_docstring(code: str, docstring: str) -> str:
    """Insert `docstring`, indented to fit, into `code`, a function without one."""
    text = SourceText(code)
    first = text.function.body[0]
    lines = lines_of(code)
    start, _ = text.span(first)
    before = text.data[:start].rpartition(b"\n")[2].decode()
    is_on_signature = bool(before.strip())  # def f(): return 1
    indent = "    " if is_on_signature else before
    quoted = docstring.replace("\\", "\\\\").replace('"""', "'''")
    quoted = UNWRITABLE.sub(lambda sign: sign.group().encode("unicode_escape").decode(), quoted)
    if quoted.endswith('"') and "\n" not in quoted:
        quoted = f'{quoted[:-1]}\\"'
    block = indented(f'"""{quoted}{chr(10) if chr(10) in quoted else ""}"""', indent)
    if is_on_signature:
        head = text.data[:start].decode().rstrip()
        return f"{head}\n{block}\n{indent}{text.data[start:].decode()}"
    at = _header_end(code, text.function)
    return "".join(lines[:at]) + block + "\n" + "".join(lines[at:])


def stub(code: str, docstring: str) -> str:
    """Return signature and `docstring` of `code`, a function without one, as a person would begin it.

    >>> print(stub("def f(a):\\n    return a\\n", "Return a."))
    def f(a):
        \"""Return a.\"""
    <BLANKLINE>

    Raises:
        SourceEditError: if `code` does not parse or holds no function.
    """
    text = SourceText(code)
    first = text.function.body[0]
    decorated = getattr(first, "decorator_list", [])
    start = min(text.span(node)[0] for node in (first, *decorated))
    header = text.data[:start].decode()
    if decorated:  # a node begins behind the @ and any opening bracket
        header = header[: header.rindex("@")]
    header = header.rstrip()
    return with_docstring(f"{header}\n    pass\n", docstring).removesuffix("    pass\n")


def docstring_of(source: str) -> str:
    """Return the cleaned docstring of the function in `source`, or ""."""
    return storable(ast.get_docstring(SourceText(source).function) or "")


def same_code(one: str, other: str) -> bool:
    """Return whether two functions differ at most in their docstrings and formatting."""
    try:
        trees = [SourceText(without_docstring(text)).function for text in (one, other)]
    except ValueError:
        return False
    return ast.dump(trees[0]) == ast.dump(trees[1])


def undescribed(docstring: str, parameters: tuple[str, ...]) -> tuple[str, ...]:
    """Return the parameters that `docstring` does not describe in a parameter section."""
    described = {item.name for item in read_docstring(docstring).parameters if _says_something(item)}
    return tuple(name for name in parameters if name not in described)


def described_names(docstring: str) -> tuple[str, ...]:
    """Return all parameter names that the docstring's sections list."""
    return tuple(item.name for item in read_docstring(docstring).parameters)


def returns_a_value(source: str) -> bool:
    """Return whether the function itself returns or yields a value other than None."""
    stack: list[ast.AST] = list(SourceText(source).function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        value = node.value if isinstance(node, ast.Return) else None
        if value is not None and not (isinstance(value, ast.Constant) and value.value is None):
            return True
        stack.extend(ast.iter_child_nodes(node))
    return False


def returns_nothing(source: str) -> bool:
    """Return whether a function ends without a value, whoever calls it.

    Of one that only raises or passes nothing is known: subclasses do what its documentation says.
    """

    def does_nothing(node: ast.stmt) -> bool:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        return is_text or isinstance(node, ast.Raise | ast.Pass)

    return not returns_a_value(source) and not all(map(does_nothing, SourceText(source).function.body))


def _header_end(code: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines up to and including the colon that ends the signature."""
    signature = [function.args, *([function.returns] if function.returns else [])]
    last = max(getattr(part, "end_lineno", 0) for node in signature for part in ast.walk(node))
    line = max(last, function.lineno)
    lines = bare_lines(code)
    while line < len(lines) and not re.search(r":\s*(#.*)?$", lines[line - 1]):
        line += 1
    return line


def _entry(value: DescribedValue, name: str) -> list[str]:
    head = " : ".join(filter(None, (name, value.type))) or "value"
    body = textwrap.fill(value.description, 84) if value.description else ""
    return [head, *bare_lines(indented(body, "    "))]


def _says_something(value: DescribedValue | None) -> bool:
    return value is not None and bool(value.type or value.description)


def _one_line(text: str | None) -> str:
    return " ".join(RST_ROLE.sub(r"\1", text or "").split())


def _first_sentence(text: str | None) -> str:
    """Return the first sentence on one line, without reST roles; "" if there is none."""
    prose = "\n".join(prose_lines(inspect.cleandoc(text or "")))
    plain = _one_line(prose.partition("\n\n")[0])
    # An abbreviation's full stop does not end a sentence.
    guarded = re.sub(r"\b(i\.e|e\.g|etc|vs|cf)\.", lambda m: m.group().replace(".", "\0"), plain)
    match = SENTENCE.match(guarded)
    return (match.group(1) if match else guarded).replace("\0", ".").strip()
