"""The failure gallery: a table of all failures by class, and the drawn cases to look into.

Each case is a `<details>` with an anchor, so all of it can be read without scripts; where they run,
`gallery.js` adds a filter. Style and script travel with the cell's output, so the open notebook and
Colab's own export look the same. Texts of models and repositories are escaped, token by token.
"""

from __future__ import annotations

import difflib
import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython.display import HTML
from pygments.lexer import Lexer
from pygments.lexers import PythonLexer, TextLexer, get_lexer_for_filename
from pygments.token import Token
from pygments.util import ClassNotFound

from helpers.escaping import visible
from helpers.records import CompletionItem, Failure, ResponseScore, Task
from helpers.report.figure_style import NO_FORMULAS
from helpers.report.tables import TRACK_NAMES, number
from helpers.report.tables_completion import TITLE as COMPLETION_TITLE
from helpers.report.tables_completion import kind_name

FOLDER = Path(__file__).parent
COLOURED = (  # token type, class in gallery.css; the first that holds a token's type counts
    (Token.Comment, "c"),
    (Token.Literal.String, "s"),
    (Token.Literal.Number, "m"),
    (Token.Keyword, "k"),
    (Token.Operator.Word, "k"),
    (Token.Name.Function, "f"),
    (Token.Name.Class, "f"),
)
SPAN = re.compile(
    r"(?<!`)(`+)(?!`)(?P<code>.+?)(?<!`)\1(?!`)", re.DOTALL
)  # code between equal runs of backticks
WORD = re.compile(r"\w+|\s+|[^\w\s]")
LEAST_ALIKE = 0.5  # share of common words from which two lines are compared word by word
Line = list[tuple[str, str]]  # (class or "", text) of the pieces of one line


@dataclass(frozen=True)
class Evidence:
    """What is known of a failed item besides its `Failure`."""

    title: str = ""  # what a reader knows the item by, besides its id
    is_code: bool = False  # expected and got are code, of the language of `path` if that is given
    path: str = ""  # file whose language the texts have, if not Python
    tests: str = ""  # all tests of the task
    output: str = ""  # what the scorer reported of the failing one
    results: tuple[tuple[str, float | None, bool], ...] = ()  # document, score, whether it is right


def answer_evidence(
    scores: Iterable[ResponseScore], tasks: Iterable[Task]
) -> dict[tuple[str, str], Evidence]:
    """Return (track, item id) -> the task of Track B, its tests, and their report on the greedy answer."""
    by_id = {task.id: task for task in tasks}
    return {
        ("track_b", score.task_id): Evidence(
            title=f"{score.kind.replace('_', ' ')}: {score.function_id}",
            is_code=by_id[score.task_id].kind != "explain",
            tests=by_id[score.task_id].tests,
            output=score.detail,
        )
        for score in scores
        if score.sample == 0 and score.task_id in by_id
    }


def query_evidence(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Evidence]:
    """Return (track, item id) -> the first three documents of a query of Track C, with scores if kept."""
    found = {}
    for row in rows:
        top = row.get("top3_after") or []
        scores = row.get("top3_scores_after") or [None] * len(top)
        right = row.get("relevant", {})
        results = tuple((d, s, right.get(d, 0) > 0) for d, s in zip(top, scores, strict=False))
        found["track_c", row["id"]] = Evidence(
            title=row.get("text", ""), path=row.get("path", ""), results=results
        )
    return found


def place_evidence(items: Iterable[CompletionItem]) -> dict[tuple[str, str], Evidence]:
    """Return (track, item id) -> the kind of a place for completions, and the file it lies in."""
    return {
        ("completion", item.id): Evidence(kind_name(item.kind), is_code=True, path=item.path)
        for item in items
    }


def gallery(
    cases: Sequence[Failure],
    everything: Sequence[Failure],
    evidence: Mapping[tuple[str, str], Evidence] | None = None,
) -> HTML | str:
    """Show the classes of all failures with their counts, then the drawn cases by track and class.

    Args:
        cases: the drawn ones, from `select_failures`.
        everything: all failures of the run, classified by the same rules.
        evidence: (track, item id) -> what more is known; a case without it shows its own texts alone.
    """
    if not everything:
        return "No item failed: there is nothing to show."
    known = evidence or {}
    style, script = ((FOLDER / f"gallery.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    groups: dict[tuple[str, str], list[Failure]] = {}
    for case in cases:
        groups.setdefault((case.track, case.category), []).append(case)
    counts = Counter((failure.track, failure.category) for failure in everything)
    parts = [f"<style>{style}</style>", _class_table(counts, groups), _controls(groups)]
    place = 0
    for track in sorted({track for track, _ in groups}):
        classes = sorted((key for key in groups if key[0] == track), key=lambda key: (-counts[key], key))
        parts.append(
            f'<section data-track="{_text(track)}"><h3 id="failures-{track[-1:]}">{_title(track)}</h3>'
        )
        for key in classes:
            heading = f"{key[1]}: {len(groups[key])} of {counts[key]} shown"
            parts.append(f'<div class="class"><h4>{_text(heading)}</h4>')
            for case in groups[key]:
                place += 1
                parts.append(_case(case, place, known.get((case.track, case.item_id), Evidence())))
            parts.append("</div>")
        parts.append("</section>")
    body = "\n".join(parts)
    return HTML(f'<div class="gallery {NO_FORMULAS}">\n{body}\n<script>{script}</script>\n</div>')


def _class_table(
    counts: Mapping[tuple[str, str], int], groups: Mapping[tuple[str, str], Sequence[Failure]]
) -> str:
    """Return a table of classes with counts, a part for each track."""
    names = ("What was found", "Failures", "Shown")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    parts = []
    for track in sorted({track for track, _ in counts}):
        classes = sorted((key for key in counts if key[0] == track), key=lambda key: (-counts[key], key))
        rows = [_row(key[1], counts[key], len(groups.get(key, ()))) for key in classes]
        title = f'<tr><th colspan="3" scope="rowgroup">{_title(track)}</th></tr>'
        parts.append(f"<tbody>{title}{''.join(rows)}</tbody>")
    total = _row("all", sum(counts.values()), sum(map(len, groups.values())))
    return (
        f'<table class="classes"><thead><tr>{head}</tr></thead>{"".join(parts)}<tfoot>{total}</tfoot></table>'
    )


def _row(name: str, failures: int, shown: int) -> str:
    numbers = "".join(f'<td class="number">{n}</td>' for n in (failures, shown))
    return f"<tr><td>{_text(name)}</td>{numbers}</tr>"


def _controls(groups: Iterable[tuple[str, str]]) -> str:
    """Return the filter, hidden until the script shows it."""
    options = "".join(
        f'<option value="{_text(track)}">{_title(track)}</option>' for track in sorted({t for t, _ in groups})
    )
    return (
        '<p class="controls" hidden><label>Search the cases <input type="search"></label> '
        f'<label>Track <select><option value="">all</option>{options}</select></label> '
        '<output aria-live="polite"></output></p>'
    )


def _case(case: Failure, place: int, known: Evidence) -> str:
    item = re.sub(r"[^a-z0-9]+", "-", case.item_id.lower()).strip("-")
    anchor = f"failure-{case.track.removeprefix('track_')}-{item}"
    lexer = _lexer(case, known)
    parts = [f"<p><strong>Diagnosis.</strong> {_prose(case.diagnosis)}</p>"]
    reads = {"track_a": PythonLexer(), "completion": lexer}.get(case.track, TextLexer())
    parts.append(_panel("Input", _lines(case.input, reads), "", set()))
    parts.append(_comparison(case, lexer, aligned=known.is_code))
    if known.output:
        parts.append(_panel("What the failing test reported", _lines(known.output, TextLexer()), "", set()))
    if known.tests:
        tests = _panel("", _lines(known.tests.strip(), PythonLexer()), "", set())
        parts.append(f"<details><summary>All tests of this task</summary>{tests}</details>")
    if known.results:
        rows = "".join(
            f"<li><code>{_text(name)}</code>{'' if score is None else f', cosine {number(score)}'}"
            f"{' (right)' if right else ''}</li>"
            for name, score, right in known.results
        )
        parts.append(f"<p><strong>First three after training</strong></p><ol>{rows}</ol>")
    parts.append(f'<p><a href="#{anchor}">Link to this case</a></p>')
    summary = f"{place}. <code>{_text(case.item_id)}</code> {_text(known.title)}".rstrip()
    return f'<details class="case" id="{anchor}"><summary>{summary}</summary>{"".join(parts)}</details>'


def _comparison(case: Failure, lexer: Lexer, *, aligned: bool) -> str:
    """Show expected and got side by side; if `aligned`, with the lines and words that differ marked."""
    texts = _lines(case.expected, lexer), _lines(case.got, lexer)
    differs: tuple[set[int], set[int]] = (set(), set())
    if aligned:
        plain = [["".join(text for _, text in line).rstrip() for line in lines] for lines in texts]
        matcher = difflib.SequenceMatcher(None, plain[0], plain[1], autojunk=False)
        for kind, a, b, c, d in matcher.get_opcodes():
            if kind == "equal":
                continue
            differs[0].update(range(a, b))
            differs[1].update(range(c, d))
            for one, other in zip(range(a, b), range(c, d), strict=False):
                texts[0][one], texts[1][other] = _marked(texts[0][one], texts[1][other])
    panels = [
        _panel(name, lines, sign if aligned else "", off)
        for name, lines, sign, off in zip(("Expected", "Got"), texts, "−+", differs, strict=True)
    ]
    return f'<div class="beside">{"".join(panels)}</div>'


def _marked(one: Line, other: Line) -> tuple[Line, Line]:
    """Split two lines into words; in lines that are alike, add the class "d" to those the other lacks."""
    split = [[(name, word) for name, text in line for word in WORD.findall(text)] for line in (one, other)]
    words = [[word for _, word in line] for line in split]
    matcher = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes() if matcher.ratio() >= LEAST_ALIKE else ():
        if kind != "equal":
            for line, places in zip(split, (range(a, b), range(c, d)), strict=True):
                for place in places:
                    name, word = line[place]
                    line[place] = (f"{name} d".strip(), word)
    return split[0], split[1]


def _panel(name: str, lines: Sequence[Line], sign: str, differs: set[int]) -> str:
    """Show lines of code under a name; those of `differs` carry `sign`, as a diff does."""
    shown = []
    for place, line in enumerate(lines):
        text = "".join(f'<span class="{c}">{_text(t)}</span>' if c else _text(t) for c, t in line)
        tag = ("del" if sign == "−" else "ins") if place in differs else "span"
        mark = f'<i aria-hidden="true">{sign if place in differs else " "}</i>' if sign else ""
        shown.append(f'<{tag} class="line">{mark}{text}</{tag}>')
    heading = f"<p><strong>{_text(name)}</strong></p>" if name else ""
    return f'<div class="panel">{heading}<pre>{"".join(shown)}</pre></div>'


def _lines(text: str, lexer: Lexer) -> list[Line]:
    """Return the coloured pieces of `text`, line by line."""
    lines: list[Line] = [[]]
    body = visible(text.replace("\r\n", "\n").replace("\r", "\n"))
    lexer.stripnl = lexer.ensurenl = False
    for kind, piece in lexer.get_tokens(body):
        name = next((css for of, css in COLOURED if kind in of), "")
        for number_, part in enumerate(piece.split("\n")):
            if number_:
                lines.append([])
            if part:
                lines[-1].append((name, part))
    while len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def _lexer(case: Failure, known: Evidence) -> Lexer:
    """Return the lexer of the expected and the got text: prose, Python, or the language of a file."""
    if known.is_code and not known.path:
        return PythonLexer()
    if case.track in ("track_c", "completion") and known.path:
        try:
            return get_lexer_for_filename(Path(known.path).name)
        except ClassNotFound:
            return TextLexer()
    return TextLexer()


def _prose(text: str) -> str:
    """Escape a diagnosis; what stands between backticks becomes code."""
    parts, end = [], 0
    for span in SPAN.finditer(visible(text)):
        parts.append(html.escape(span.string[end : span.start()]))
        parts.append(f"<code>{html.escape(span['code'])}</code>")
        end = span.end()
    return "".join(parts) + html.escape(visible(text)[end:])


def _title(track: str) -> str:
    return _text({**TRACK_NAMES, "completion": COMPLETION_TITLE}.get(track, track))


def _text(text: str) -> str:
    return html.escape(visible(text))
