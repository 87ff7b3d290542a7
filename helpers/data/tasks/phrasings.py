"""Hold every instruction template of Track B, by task kind; the data card shows them all.

`LINE_REPAIR` takes the place of `PHRASINGS["fix_bug"]` where a profile asks for the repaired line alone
(`track_b.repair_form=line`, as `smoke` does).

`{code}` is the function that is shown, `{name}` its name. In bug repairs the faulty line is marked: finding
the fault is not part of the task, so that repairing it can be measured on a model this small. `BUG_MARK`
ends the line where that line alone is asked for. Where the whole function is, `NEXT_LINE_MARK` stands above
it: a model that copies the function token by token sees nothing of a mark that comes later.
"""

from __future__ import annotations

from helpers.lines import bare_lines
from helpers.records import TaskKind

BUG_MARK = "  # bug"
NEXT_LINE_MARK = "# The next line is wrong:"
FENCE = "```python\n"  # opens a block of code

PHRASINGS: dict[TaskKind, tuple[str, ...]] = {
    "fix_bug": (
        "Fix the bug in this function. The faulty line is marked.\n\n{code}",
        "One line of this function is wrong; it is marked. Write the corrected function.\n\n{code}",
        "Repair the marked line and return the whole function.\n\n{code}",
    ),
    "improve": (
        "Improve this function without changing what it does.\n\n{code}",
        "Write this function better; its behaviour must stay the same.\n\n{code}",
        "Refactor this function: same results, cleaner code.\n\n{code}",
    ),
    "docstring": (
        "Write a docstring for this function.\n\n{code}",
        "Add a docstring that describes every parameter and the return value.\n\n{code}",
        "Document this function.\n\n{code}",
    ),
    "explain": (
        "Explain what this function does.\n\n{code}",
        "What does `{name}` do?\n\n{code}",
        "Describe this function, its parameters and what it returns.\n\n{code}",
    ),
    "unit_tests": (
        "Write assert statements that test this function.\n\n{code}",
        "Write unit tests for `{name}`.\n\n{code}",
        "Which asserts would catch a mistake in this function?\n\n{code}",
    ),
    "implement": (
        "Implement this function.\n\n{code}",
        "Complete the function from its signature and docstring.\n\n{code}",
        "Write the body of `{name}`.\n\n{code}",
    ),
}

LINE_REPAIR: tuple[str, ...] = (
    "One line of this function is wrong; it is marked. Write the corrected line.\n\n{code}",
    "Fix the marked line of this function. Answer with that line alone.\n\n{code}",
    "What should the marked line be?\n\n{code}",
)


def spliced(given: str, line: int, answer: str) -> str:
    """Return `given` with its 1-based `line` replaced by the first code line of `answer`, indented alike."""
    lines = bare_lines(given)
    indent = lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]
    code = (text.strip() for text in bare_lines(answer) if text.strip() and "```" not in text)
    lines[line - 1] = indent + next(code, "").removesuffix(BUG_MARK.strip()).rstrip()
    return "\n".join(lines) + "\n"


def fenced_python(code: str) -> str:
    """Return `code` as a Markdown block."""
    return f"{FENCE}{code.rstrip()}\n```"


def unfenced(text: str) -> str:
    """Return `text` with the marks of `fenced_python` taken off its code."""
    return text.replace(FENCE, "").replace("\n```", "")


def phrase(kind: TaskKind, index: int, *, code: str, name: str, by_line: bool = False) -> str:
    """Return the whole user turn: template `index` (modulo their number) of `kind`, filled in."""
    templates = LINE_REPAIR if by_line else PHRASINGS[kind]
    return templates[index % len(templates)].format(code=fenced_python(code), name=name)


def mark_line(code: str, line: int, *, above: bool = False) -> str:
    """Return `code` with its 1-based `line` marked: at its end, or `above` it, indented alike."""
    lines = bare_lines(code)
    if above:
        text = lines[line - 1]
        lines.insert(line - 1, text[: len(text) - len(text.lstrip())] + NEXT_LINE_MARK)
    else:
        lines[line - 1] += BUG_MARK
    return "\n".join(lines)
