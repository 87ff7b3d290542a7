"""Places in held-out files at which a model is asked to go on, of three kinds.

    rest_of_line   what follows some token of a line
    next_line      a line on which a statement begins, after the line before it
    block          a statement of 2 to 8 lines, after the line before it

A place lies in code: its target holds no comment, no import and no string over several lines, and is not
bare punctuation. A block is one whose end can be told from its lines alone, as completions are cut. The left
context is all of the file before it. Functions with a twin in the training side are passed over, as
everywhere in evaluation.

Places are drawn in turns, so that kinds get equal shares and every file gives one place of a kind before any
gives a second. At most `MOST` places of a kind come from a file, and they do not overlap.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import get_args

from helpers.code.definitions import defined_names
from helpers.code.first_statement import first_statement
from helpers.code.literals import COMMENT, NAME, OTHER, STRING, Lexeme, lexemes
from helpers.code.statements import Statement, reserved_words, statements_of
from helpers.lines import lines_of
from helpers.records import CompletionItem, CompletionKind, SourceFile

KINDS: tuple[CompletionKind, ...] = get_args(CompletionKind)
MOST = 3  # places of one kind in a file
BLOCK_LINES = range(2, 9)
LEAST_LEFT = 3  # lines that are not blank before a place
# Words that import something wherever they stand in code, and what follows them if they can mean more.
IMPORTING = {
    "python": {"import": ""}, "javascript": {"import": "", "require": "("}, "go": {"import": ""},
    "java": {"import": ""}, "rust": {"use": ""}, "c": {"include": ""}, "cpp": {"include": ""},
}  # fmt: skip
IMPORTING |= {"typescript": IMPORTING["javascript"], "tsx": IMPORTING["javascript"]}
LONGEST = {"rest_of_line": 100, "next_line": 100, "block": 320}  # characters of a target


END = Lexeme(OTHER, "", 0, 0)


@dataclass(frozen=True)
class _Text:
    """A file as the rules look at it."""

    file: SourceFile
    lines: Sequence[str]
    starts: Sequence[int]  # where each line begins, and the end of the text
    lexemes: Sequence[Lexeme]
    lexeme_starts: Sequence[int]
    statements: Mapping[int, Sequence[Statement]]  # by first line

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Return where lines `first` to `last` begin and end, without the last line's end."""
        without_end = self.lines[last - 1].rstrip("\r\n")
        return self.starts[first - 1], self.starts[last - 1] + len(without_end)

    def between(self, start: int, end: int) -> list[Lexeme]:
        """Return the tokens that touch the characters from `start` to `end`, without line breaks."""
        first = max(0, bisect_left(self.lexeme_starts, start) - 1)  # a string may have begun before
        some = self.lexemes[first : bisect_right(self.lexeme_starts, end)]
        opened = [x for x in some if x.start - (x.kind == STRING) < end]  # its quote stands before
        return [x for x in opened if x.end > start and x.text != "\n"]


def completion_items(
    held_out: Sequence[SourceFile],
    training: Sequence[SourceFile],
    *,
    count: int,
    seed: int,
    own_names: Collection[str] = (),
    passed_over: Mapping[str, Sequence[tuple[int, int]]] | None = None,
) -> list[CompletionItem]:
    """Draw up to `count` places, the kinds in equal shares, in order of path and place.

    Args:
        held_out: the files to draw from.
        training: the files that the model is tuned on, for the flag `seen`.
        own_names: names that the repository defines, for the flag `cross_file`.
        passed_over: path -> first and last lines of functions that are not evaluated.

    Returns:
        Fewer than `count` items where the files have no more places.
    """
    texts = [_read(file) for file in sorted(held_out, key=lambda file: file.path)]
    known = _Known(training)
    drawn: list[CompletionItem] = []
    taken: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, kind in enumerate(reversed(KINDS)):  # blocks first: there are fewest
        wanted = (count - len(drawn)) // (len(KINDS) - number)
        places = _places_in_turn(texts, kind, seed, passed_over or {})
        most: Counter[str] = Counter()
        for text, start, end in places:
            path = text.file.path
            apart = all(end <= first or start >= last for first, last in taken[path])
            if wanted and most[path] < MOST and apart:
                wanted, most[path] = wanted - 1, most[path] + 1
                taken[path].append((start, end))
                drawn.append(_item(text, kind, start, end, known, own_names))
    return sorted(drawn, key=lambda item: (item.path, item.start))


def names_in(code: str, language: str) -> list[str]:
    """Return the identifiers of a piece of code in order, without keywords; strings hold none."""
    reserved = reserved_words(language)
    return [x.text for x in lexemes(code, language) if x.kind == NAME and x.text not in reserved]


def _read(file: SourceFile) -> _Text:
    lines = lines_of(file.text)
    found = lexemes(file.text, file.language)
    statements: dict[int, list[Statement]] = defaultdict(list)
    for statement in statements_of(file.text, file.language):
        statements[statement.start].append(statement)
    starts = [0, *accumulate(map(len, lines))]
    return _Text(file, lines, starts, found, [x.start for x in found], statements)


def _places_in_turn(
    texts: Sequence[_Text],
    kind: CompletionKind,
    seed: int,
    passed_over: Mapping[str, Sequence[tuple[int, int]]],
) -> list[tuple[_Text, int, int]]:
    """Return every place of a kind: one of each file, then another of each, in seeded order."""
    turns: list[tuple[int, int, _Text, int, int]] = []
    order = list(range(len(texts)))
    random.Random(f"{seed}:completion:{kind}").shuffle(order)
    for rank, text in zip(order, texts, strict=True):
        draw = random.Random(f"{seed}:completion:{kind}:{text.file.path}")
        found = _places(text, kind, draw, passed_over.get(text.file.path, ()))
        draw.shuffle(found)
        turns += [(turn, rank, text, start, end) for turn, (start, end) in enumerate(found)]
    return [(text, start, end) for _, _, text, start, end in sorted(turns, key=lambda row: row[:2])]


def _places(
    text: _Text, kind: CompletionKind, draw: random.Random, passed_over: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return start and end of every place of a kind; of each line, one place."""
    found = []
    left_lines = [0, *accumulate(bool(line.strip()) for line in text.lines)]  # before each line
    imports = [s.start for several in text.statements.values() for s in several if s.is_import]
    for first, several in text.statements.items():
        last = first
        if kind == "block":
            last = max((s.end for s in several if s.end - first + 1 in BLOCK_LINES), default=0)
        is_passed_over = any(a <= last and first <= b for a, b in passed_over)
        has_import = any(first <= line <= last for line in imports)
        if last == 0 or is_passed_over or has_import or left_lines[first - 1] < LEAST_LEFT:
            continue
        spans = [text.span(first, last)]
        if kind == "rest_of_line":
            spans = _rest(text, *spans[0], draw)
        elif not text.lines[first - 2].strip():  # what comes next there is the blank line
            continue
        if kind == "block" and not _ends_there(text, first, last):
            continue
        found += [span for span in spans if _is_fit(text, kind, *span)]
    return found


def _ends_there(text: _Text, first: int, last: int) -> bool:
    """Return whether a completion that is all right and goes on would be cut at the end of these lines."""
    after = next((n for n in range(last, len(text.lines)) if text.lines[n].strip()), len(text.lines))
    block = "".join(text.lines[first - 1 : last]).rstrip("\r\n")
    return first_statement("".join(text.lines[first - 1 : after + 1]), text.file.language) == block


def _rest(text: _Text, start: int, end: int, draw: random.Random) -> list[tuple[int, int]]:
    """Return one place within a line: after a token, with one more at least behind it."""
    inside = text.between(start, end)
    cuts = [x.end for x, after in pairwise(inside) if {x.kind, after.kind} <= {NAME, OTHER}]
    return [(draw.choice(cuts), end)] if cuts else []


def _is_fit(text: _Text, kind: CompletionKind, start: int, end: int) -> bool:
    """Return whether a target is code: of a fit length, with a name or value and without comments."""
    target, inside = text.file.text[start:end], text.between(start, end)
    is_plain = not any(
        x.kind == COMMENT or (x.kind == STRING and "\n" in text.file.text[x.start : x.end]) for x in inside
    )
    importing = IMPORTING[text.file.language]
    has_import = any(
        x.kind == NAME and importing.get(x.text) in ("", after.text) for x, after in pairwise([*inside, END])
    )
    says_something = any(x.kind in (NAME, STRING) or x.text[:1].isdigit() for x in inside)
    return is_plain and not has_import and says_something and len(target.strip()) <= LONGEST[kind]


def _item(
    text: _Text, kind: CompletionKind, start: int, end: int, known: _Known, own_names: Collection[str]
) -> CompletionItem:
    file, target = text.file, text.file.text[start:end]
    line = bisect_right(text.starts, start)
    foreign = set(names_in(target, file.language)) & set(own_names) - defined_names(file.text, file.language)
    return CompletionItem(
        f"{file.path}:{line}:{kind}", kind, file.path, file.language, line, start, end, target,
        seen=target in known, cross_file=bool(foreign),
    )  # fmt: skip


class _Known:
    """The training side's code, in which targets are looked up word for word."""

    def __init__(self, files: Sequence[SourceFile]) -> None:
        self.text = "\n".join(" ".join(file.text.split()) for file in files)

    def __contains__(self, target: str) -> bool:
        words = " ".join(target.split())
        at = self.text.find(words)
        while at >= 0:
            joined_before = at > 0 and _is_word(self.text[at - 1]) and _is_word(words[0])
            after = self.text[at + len(words) : at + len(words) + 1]
            if not joined_before and not (after and _is_word(after) and _is_word(words[-1])):
                return True
            at = self.text.find(words, at + 1)
        return False


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
