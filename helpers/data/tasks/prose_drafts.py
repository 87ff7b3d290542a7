"""Make explanations and docstrings into drafts, and put training pairs into a generator's own words.

`documented_drafts` restates the source (`SourceFacts`). Held-out tasks use nothing else, so that runs with
different generators stay comparable. For training pairs, `reworded` also asks a `LanguageGenerator`; an
answer that fails the filters falls back to the deterministic text. Rejects are counted by reason.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from helpers.code.docstrings import (
    docstring_of,
    read_docstring,
    returns_a_value,
    same_code,
    undescribed,
    with_docstring,
)
from helpers.code.edits import SourceEditError
from helpers.code.extraction import extract_code
from helpers.data.tasks.draft import Draft, phrased
from helpers.data.tasks.execution import strip_decorators
from helpers.data.tasks.filters import LANGUAGE, PARAPHRASE, Filters
from helpers.data.tasks.phrasings import LINE_REPAIR, PHRASINGS, fenced_python
from helpers.data.tasks.prose import LanguageGenerator, LanguageRequest, SourceFacts
from helpers.lines import lines_of
from helpers.records import Function, TaskKind

SPARE = 2  # undocumented functions asked about per missing pair
MIN_LINES = 3  # of an undocumented function
WORDS = (3, 40)  # of a paraphrased instruction
NUMBERING = re.compile(r"^\s*(?:[-*•]|\(?\d+[.):])\s*")


def documented_drafts(functions: Sequence[Function], *, seed: int) -> list[Draft]:
    """Return explanations and docstrings, for every function whose docstring says enough."""
    documented = [f for f in functions if f.docstring and not f.is_nested]
    requests = [LanguageRequest(kind, function) for function in documented for kind in LANGUAGE]
    answered = zip(requests, SourceFacts().write(requests), strict=True)
    drafts = [draft_of(request, text, SourceFacts.name, seed=seed) for request, text in answered if text]
    return [draft for draft in drafts if isinstance(draft, Draft)]


def draft_of(request: LanguageRequest, answer: str, author: str, *, seed: int) -> Draft | str:
    """Return the draft that `answer` makes, or why it makes none."""
    function = request.function
    code = strip_decorators(function.code)
    if request.kind == "explain":
        return phrased(Draft("explain", function, code, answer.strip(), (author,)), seed)
    body = docstring_body(answer)
    if not body:
        return "no docstring"
    try:
        documented = with_docstring(code, body)
        written = docstring_of(documented)
    except (SourceEditError, ValueError):
        return "does not parse"
    if not same_code(documented, code):
        return "the code itself was changed"
    if undescribed(written, function.parameters):
        return "a parameter is not described"
    if returns_a_value(code) and read_docstring(written).returns is None:
        return "the return value is not described"
    checks = (author, "code unchanged", f"parameters: {len(function.parameters)}")
    return phrased(Draft("docstring", function, code, fenced_python(documented), checks), seed)


def docstring_body(answer: str) -> str:
    """Return the text of the docstring in an answer, be it bare, quoted, fenced or in a function."""
    code = extract_code(answer)
    if code and re.search(r"^\s*(?:async )?def ", code, re.MULTILINE):
        try:
            return docstring_of(code)
        except SourceEditError:
            return ""
    text = re.sub(r"^\s*```\w*\n|\n```\s*$", "", answer.strip())
    quoted = re.fullmatch(r"\s*[rR]?(\"\"\"|''')(.*?)\1\s*", text, re.DOTALL)
    return (quoted.group(2) if quoted else text).strip()


def reworded(
    chosen: Sequence[Draft],
    generator: LanguageGenerator,
    check: Filters,
    *,
    finish: Callable[[Draft], Draft],
    seed: int,
) -> list[Draft]:
    """Return `chosen` with explanations and docstrings in the generator's words, if they pass the filters.

    `finish` is applied to each new draft before it is filtered, to take off its fences where wanted.
    """
    places = [i for i, draft in enumerate(chosen) if draft.kind in LANGUAGE]
    requests = [LanguageRequest(chosen[i].kind, chosen[i].function) for i in places]
    answers = _accepted(requests, generator, check, finish, seed)
    drafts = list(chosen)
    for place, draft in zip(places, answers, strict=True):
        if draft is not None:  # keeps the instruction of the draft that it replaces
            old = drafts[place]
            drafts[place] = replace(draft, instruction=old.instruction, phrasing=old.phrasing)
    return drafts


def undocumented_drafts(
    functions: Sequence[Function],
    kept: Sequence[Draft],
    wanted: Mapping[TaskKind, int],
    generator: LanguageGenerator,
    check: Filters,
    *,
    finish: Callable[[Draft], Draft],
    seed: int,
) -> list[Draft]:
    """Return explanations and docstrings of poorly documented functions, for the pairs still missing.

    A function is poorly documented if its own docstring gave no accepted draft of the kind.
    """
    requests: list[LanguageRequest] = []
    for kind in LANGUAGE:
        have = {draft.function.id for draft in kept if draft.kind == kind}
        lacking = max(0, wanted.get(kind, 0) - len(have))
        able = [
            f for f in functions
            if f.id not in have and not f.is_nested and len(lines_of(f.code)) >= MIN_LINES
        ]  # fmt: skip
        random.Random(f"{seed}:undocumented:{kind}").shuffle(able)
        requests += [LanguageRequest(kind, function) for function in able[: SPARE * lacking]]
    return [draft for draft in _accepted(requests, generator, check, finish, seed) if draft is not None]


def _accepted(
    requests: Sequence[LanguageRequest],
    generator: LanguageGenerator,
    check: Filters,
    finish: Callable[[Draft], Draft],
    seed: int,
) -> list[Draft | None]:
    """Return the draft that each request's answer makes; None where it fails a filter."""
    made: list[Draft | str] = []
    answers = generator.write(requests)
    for request, answer in zip(requests, answers, strict=True):
        draft = draft_of(request, answer, generator.name, seed=seed) if answer else "no answer"
        made.append(finish(draft) if isinstance(draft, Draft) else draft)
    drafts = [draft for draft in made if isinstance(draft, Draft)]
    passed = {id(draft) for draft in check.keep(drafts, author=generator.name)}
    for request, answer, draft in zip(requests, answers, made, strict=True):
        if isinstance(draft, str):
            what = f"{request.kind} of {request.function.id}"
            check.reject(f"{request.kind} by {generator.name}", draft, what, answer or "")
    return [draft if isinstance(draft, Draft) and id(draft) in passed else None for draft in made]


# --- paraphrased instructions ----------------------------------------------------------------------


def paraphrases(generator: LanguageGenerator, check: Filters, *, by_line: bool) -> dict[str, tuple[str, ...]]:
    """Return template -> its accepted paraphrases, both without the code at the end."""
    tables = {**PHRASINGS, "fix_bug": LINE_REPAIR if by_line else PHRASINGS["fix_bug"]}
    heads = [_head(template) for templates in tables.values() for template in templates]
    answers = generator.write([LanguageRequest("paraphrase", text=head) for head in heads])
    seen = {_plain(head) for head in heads}
    found: dict[str, tuple[str, ...]] = {}
    name = f"{PARAPHRASE} by {generator.name}"
    for head, answer in zip(heads, answers, strict=True):
        lines = [NUMBERING.sub("", line).strip() for line in (answer or "").splitlines()]
        for line in [line for line in lines if line] or ([""] if generator.name != SourceFacts.name else []):
            if reason := _unfit(line, head, seen):
                check.reject(name, reason, head, line)
            else:
                check.accept(name)
                seen.add(_plain(line))
                found[head] = (*found.get(head, ()), line)
    return found


def in_other_words(draft: Draft, wordings: Mapping[str, tuple[str, ...]], *, seed: int) -> Draft:
    """Return the draft worded as its template or as one of the paraphrases, drawn by `seed`."""
    by_line = draft.detail.get("form") == "line"
    templates = LINE_REPAIR if by_line else PHRASINGS[draft.kind]
    head = _head(templates[draft.phrasing % len(templates)])
    rng = random.Random(f"{seed}:wording:{draft.kind}:{draft.function.id}:{draft.given}")
    worded = rng.choice((head, *wordings.get(head, ())))
    old = head.format(name=draft.function.name)
    if not draft.instruction.startswith(old):
        return draft
    new = worded.replace("{name}", draft.function.name)
    return replace(draft, instruction=new + draft.instruction[len(old) :])


def _head(template: str) -> str:
    return template.partition("\n\n{code}")[0]


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _unfit(line: str, head: str, seen: set[str]) -> str:
    """Return why a paraphrase is not used; "" if it is."""
    words = len(line.split())
    if not line:
        return "no answer"
    if line.count("{name}") != head.count("{name}") or re.search(r"[{}]", line.replace("{name}", "")):
        return "placeholder lost or made up"
    if "```" in line or line.endswith(":") or not WORDS[0] <= words <= WORDS[1]:
        return "no instruction of a fitting length"
    if ("line" in head.lower()) != ("line" in line.lower()):
        return "another meaning"
    return "copy of a template or of another wording" if _plain(line) in seen else ""
