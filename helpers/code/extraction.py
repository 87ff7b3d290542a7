"""Extraction of the code from a model's answer: fences and chatter are cut off, nothing else changes."""

from __future__ import annotations

import ast
import codeop
import re
from collections.abc import Sequence

from helpers.code.fences import INLINE, fenced_blocks
from helpers.code.python_text import parse, without_margin
from helpers.lines import with_newlines

STARTS = ("def ", "async def ", "class ", "import ", "from ", "@", "assert ", "if ", "for ", "try:", "with ")
MAX_LINES = 2000
MAX_ATTEMPTS = 300  # parses of one answer, which dominate the cost
MAX_MARKS = 12  # of an answer that may end it; each costs a parse
# Marks of an answer's end, of many model families; what follows them is no answer.
SPECIAL = re.compile(
    r"<\|(?:im_end|im_start|endoftext|end_of_text|end_of_turn|eot_id|eom_id|end|eos|EOT|return|file_sep|file_separator"
    r"|repo_name|fim_pad)\|>|</s>|<eos>|<end_of_turn>|<｜end▁of▁sentence｜>"
)
LEAD = re.compile(r"\A\s*<\|im_start\|>[ \t]*(?:assistant)?[ \t]*\n?")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign)
DEFINING = (ast.Import, ast.ImportFrom, *DEFINITIONS)
# Expressions that a line of prose may parse as; as statements they do nothing.
INERT = (ast.Name, ast.Constant, ast.Tuple, ast.Attribute, ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp)


def extract_code(response: str, *, entry_point: str | None = None) -> str | None:
    """Return the Python code in `response`; None if none of it parses.

    Of several fenced blocks, the first that defines `entry_point` is used, or else the longest that
    parses; imports and definitions that it lacks are prepended from other blocks. Without fences, the
    whole answer is used if it is code, or else the longest run of lines that parses, from the first
    line that starts like code. Of a truncated answer, what is complete before the cut is kept, or None.
    """
    text = _plain(response)
    if is_code(without_margin(text)):  # checked before fences, because a docstring may contain one
        return _whole_or_run(text, prose=True)
    blocks = [_unprompted(block.content) for block in fenced_blocks(text) if block.is_python]
    if not blocks:
        blocks = INLINE.findall(text) if "```" in text else []
    codes = [code for code in map(_whole_or_run, blocks) if code]
    chosen = next((code for code in codes if entry_point and defines(code, entry_point)), None)
    if chosen is None and entry_point and "def " in text:
        run = _whole_or_run(text, prose=True)  # bare code whose docstring contains the fence
        if run and defines(run, entry_point):
            return run
    if codes:
        chosen = chosen or max(codes, key=len)
        return _with_missing(chosen, [code for code in codes if code != chosen], entry_point)
    return None if blocks else _whole_or_run(text, prose=True)


def answered_line(response: str) -> str:
    """Return the first line of the first fenced block, or of the text if there is none.

    It answers a request for one line. Chatter before a block and backticks around the line are dropped.
    """
    text = _plain(response)
    blocks = [block.content for block in fenced_blocks(text) if block.is_python and block.content.strip()]
    inside = blocks[0] if blocks else text
    line = next((line.strip() for line in inside.split("\n") if line.strip()), "")
    quoted = re.fullmatch(r"(`+)([^`]+)\1", line)
    return quoted.group(2).strip() if quoted else line


def _plain(response: str) -> str:
    """Return the answer with "\\n" as line ends, without a chat template's marks and what follows them.

    A mark within code that parses, where it can only stand in a string or a comment, belongs to the code.
    """
    text = LEAD.sub("", with_newlines(response))
    if text[:1] == " " and text[1:2].strip() and without_margin(text) == text:
        text = text[1:]  # the blank that Llama's template puts between prompt and answer
    marks = [mark.start() for mark in SPECIAL.finditer(text)]
    if not marks:
        return text
    # From the longest text on: a string that is cut within does not parse, though a later mark may close it.
    for end in (None, *reversed(marks[:MAX_MARKS])):
        if _holds_only_code_marks(text[:end]):
            return text[:end]
    return text[: marks[0]]


def _holds_only_code_marks(text: str) -> bool:
    """Return whether every mark in `text` stands within code that parses, or in a string of its line."""
    marks = list(SPECIAL.finditer(text))
    if not marks or parse(without_margin(text)) is not None:
        return True
    blocks = [
        (block.first_line, block.last_line)
        for block in fenced_blocks(text)
        if block.is_python and parse(block.content) is not None
    ]

    def is_code(mark: re.Match[str]) -> bool:
        line = text.count("\n", 0, mark.start())
        return any(first < line <= last for first, last in blocks) or _is_quoted(text, mark)

    if all(map(is_code, marks)):
        return True
    run = _whole_or_run(text, prose=True) or ""  # code without fences among prose
    return len(SPECIAL.findall(run)) == len(marks)


def _is_quoted(text: str, mark: re.Match[str]) -> bool:
    """Return whether a mark stands in a string literal of its line, which may not parse alone."""
    before = text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()]
    quote = ""
    for character in re.findall(r"\\.|[\"']", before):
        if not quote and character in ("'", '"'):
            quote = character
        elif character == quote:
            quote = ""
    return bool(quote) and quote in text[mark.end() :].partition("\n")[0]


def defines(code: str, name: str) -> bool:
    """Return whether `code` parses and binds `name` at its top level by def, class or assignment."""
    tree = parse(code)
    return tree is not None and name in _bound(tree, DEFINITIONS)


def is_cut_off(response: str, name: str) -> bool:
    """Return whether `response` ends within its definition of the function `name`, as far as can be told."""
    text = _plain(response)
    blocks = [block for block in fenced_blocks(text) if block.is_python]
    if blocks and blocks[-1].closed:
        return False
    lines = without_margin(_unprompted(blocks[-1].content) if blocks else text).split("\n")
    starts = [at for at, line in enumerate(lines) if re.match(rf"(?:async +)?def +{re.escape(name)}\b", line)]
    if not starts:
        return False
    function = "\n".join(lines[starts[-1] :]).rstrip()
    if parse(function) is not None:
        return False
    if _may_go_on(function):
        return True
    above, _, last = function.rpartition("\n")  # the last line may end within a word or a string
    return (not above or last[:1].isspace()) and (parse(above) is not None or _may_go_on(above))


def _may_go_on(code: str) -> bool:
    """Return whether `code` does not parse but could be the beginning of code that does."""
    try:
        return codeop.compile_command(code, symbol="exec") is None
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return False


def is_code(code: str) -> bool:
    """Return whether `code` parses and is more than bare names and strings, which prose can be too."""
    tree = parse(code)
    return tree is not None and any(not _is_inert(node) for node in tree.body)


def _is_inert(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, INERT)


def _whole_or_run(text: str, *, prose: bool = False) -> str | None:
    """Return all of `text` if it is code, else its longest run of lines that is.

    With `prose`, lines around the code that parse as bare names are dropped.
    """
    plain = without_margin(text)
    if is_code(plain):
        return _finished(_without_prose(plain) if prose else plain)
    lines = plain.split("\n")[:MAX_LINES]
    attempts = MAX_ATTEMPTS
    for start, line in enumerate(lines):
        if not line.startswith(STARTS):
            continue
        for end in _ends(lines, start):
            if attempts == 0:
                return None
            attempts -= 1
            if is_code("\n".join(lines[start:end])):
                start = _earlier(lines, start, end)
                return _finished(_without_prose("\n".join(lines[start:end])))
    return None


def _ends(lines: list[str], start: int) -> list[int]:
    """Return where a run from `start` may end, longest run first: before lines that begin at the margin.

    A run cannot extend beyond the line where parsing fails (for a bracket or string that never closes,
    the line that opens it).
    """
    ends = [len(lines)]
    ends += [i for i in range(len(lines) - 1, start, -1) if lines[i] and not lines[i][0].isspace()]
    try:
        ast.parse("\n".join(lines[start:]))
    except SyntaxError as error:
        reached = start + (error.lineno or len(lines))
        ends = [end for end in ends if end <= reached]
    except (ValueError, RecursionError, MemoryError):
        pass
    return ends


def _earlier(lines: list[str], start: int, end: int) -> int:
    """Move `start` up over the comments and assignments before it."""
    above = start
    while above:
        above -= 1
        if not lines[above].strip():
            continue
        tree = parse(lines[above])
        if tree is None or lines[above][0].isspace() or any(_is_inert(node) for node in tree.body):
            break
        if not is_code("\n".join(lines[above:end])):
            break
        start = above
    return start


def _without_prose(code: str) -> str:
    """Drop bare words before and after the code (`Done`), which would raise a NameError."""
    tree = parse(code)
    body = tree.body if tree else []
    useful = [n for n in body if not _is_inert(n) or isinstance(n.value, ast.Constant)]
    if not useful or len(useful) == len(body):
        return code
    first, last = useful[0], useful[-1]
    prose = body[: body.index(first)]
    start = min(first.lineno, prose[-1].end_lineno + 1) if prose else 1  # comments before it stay
    lines = code.split("\n")
    return "\n".join(lines[start - 1 : last.end_lineno if body[-1] is not last else None])


def _unprompted(code: str) -> str:
    """Strip prompts and outputs from an interactive session; return other code unchanged."""
    if not code.lstrip().startswith(">>> "):
        return code
    lines = code.split("\n")  # a bare prompt may lack its space
    return "\n".join(line[4:] for line in lines if f"{line} ".startswith((">>> ", "... ")))


def _with_missing(chosen: str, others: Sequence[str], entry_point: str | None) -> str:
    """Prepend to `chosen` those other blocks that only define things and define something it lacks."""
    tree = parse(chosen)
    if tree is None or not others:
        return chosen
    bound = _bound(tree, DEFINING) | {entry_point}
    read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    before = []
    for other in others:
        body = parse(other)
        if body is not None and all(isinstance(node, DEFINING) for node in body.body):
            given = _bound(body, DEFINING)
            if given & read - bound and not given & bound:
                before.append(other)
    return "\n".join([*before, chosen])


def _bound(tree: ast.Module, kinds: tuple[type, ...]) -> set[str]:
    """Return the names that statements of these kinds bind at the top level."""
    names: set[str] = set()
    for node in (node for node in tree.body if isinstance(node, kinds)):
        if isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        else:
            names.add(node.name)
    return names


def _finished(code: str) -> str | None:
    return code.strip("\n") + "\n" if code.strip() else None
