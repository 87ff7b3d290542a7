"""Failure cases of completion: what was measured on a completion that is not what stands there.

The failures of one arm are shown. A category says how far the completion is right, or
where the names that it lacks could have been read: in the file before the place, in the retrieved code, or
nowhere. Other right answers count as failures too, which the categories cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helpers.data.completion_items import names_in
from helpers.eval.failures import clip
from helpers.lines import lines_of
from helpers.records import CompletionItem, CompletionScore, Document, Failure

SHOWN_LINES = 12  # of the file before a place


def completion_failures(
    items: Sequence[CompletionItem],
    scores: Mapping[str, Sequence[CompletionScore]],
    texts: Mapping[str, str],
    units: Mapping[str, Document],
    arm: str,
) -> list[Failure]:
    """Return the places at which the arm did not write exactly what stands there.

    Args:
        items: the places.
        scores: arm -> its scores, in the order of the items.
        texts: path -> text of the files of the items.
        units: what could be retrieved, by id.
        arm: whose failures are shown.
    """
    failures = []
    for place, (item, score) in enumerate(zip(items, scores[arm], strict=True)):
        if score.exact_match:
            continue
        left = texts[item.path][: item.start]
        retrieved = "\n".join(units[unit].text for unit in score.context if unit in units)
        category, evidence = _diagnosis(item, score, left, retrieved)
        others = [name for name, some in scores.items() if name != arm and some[place].exact_match]
        evidence += f" Exactly right here: {', '.join(others) or 'no other arm or baseline'}."
        if score.context:
            evidence += f" Retrieved: {', '.join(f'`{unit}`' for unit in score.context)}."
        # The text that breaks off at the place; in a begun line, the target goes on right there.
        shown = "".join(lines_of(left)[-SHOWN_LINES:])
        expected, got = clip(item.target.strip("\n")), clip(score.text.strip("\n"))
        failures.append(Failure("completion", category, item.id, shown, expected, got, evidence))
    return failures


def _diagnosis(item: CompletionItem, score: CompletionScore, left: str, retrieved: str) -> tuple[str, str]:
    """Return the category and what it rests on."""
    wanted, text = item.target.strip(), score.text.strip()
    names = list(dict.fromkeys(names_in(wanted, item.language)))
    written = set(names_in(text, item.language))
    lacking = [name for name in names if name not in written]
    invented = sorted(written - set(names) - set(names_in(left, item.language)))
    in_file = set(names_in(left, item.language))
    in_code = set(names_in(retrieved, item.language))
    sources = {
        name: "in the file before" if name in in_file
        else "in the retrieved code" if name in in_code else "nowhere before the place"
        for name in lacking
    }  # fmt: skip
    evidence = (
        f"{score.accepted_characters} of {len(wanted)} characters are right from the start; "
        f"{len(names) - len(lacking)} of {len(names)} names of the target were written."
    )
    if lacking:
        evidence += f" Lacking: {', '.join(f'`{name}` (stands {where})' for name, where in sources.items())}."
    if invented:
        evidence += f" Neither in the target nor in the file before: {', '.join(f'`{n}`' for n in invented)}."
    if not score.parses:
        evidence += " With the completion in place, the file no longer parses."
    return _category(wanted, text, names, sources), evidence


def _category(wanted: str, text: str, names: Sequence[str], sources: Mapping[str, str]) -> str:
    if not text:
        return "nothing was written"
    if wanted.startswith(text):
        return "right, but breaks off too early"
    if text.startswith(wanted):
        return "right, but does not stop"
    if not names:
        return "wrong, with no name to tell it by"
    if not sources:
        return "has the right names, in another form"
    where = set(sources.values())
    if "nowhere before the place" in where:
        return "needs a name that stood nowhere before"
    if "in the retrieved code" in where:
        return "did not take a name from the retrieved code"
    return "did not take a name from the file"
