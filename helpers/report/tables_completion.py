"""Tables and sentences on completion, worded from the section `completion` of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from helpers.escaping import inline
from helpers.eval.completion_comparison import ARMS, COPY, NEAREST, PRIMARY, cost_in_words, reach_in_words
from helpers.report.tables import change_text, estimate_text, number, p_text

TITLE = "Completion · tune, retrieve, or both?"
QUESTION = (
    "Does completion of held-out lines get better by tuning the model, by putting retrieved code into its "
    "prompt, or by both?"
)
PRIMARY_NAME = "exact match"
ARM_NAMES = {
    "base": "untouched",
    "base+retrieved": "untouched + retrieved code",
    "adapted": "adapted",
    "adapted+retrieved": "adapted + retrieved code",
    "base+nearest_file": "untouched + nearest file",
    "chat": "Track B's model, untouched",
    "chat+retrieved": "Track B's model, untouched + retrieved code",
    "chat_tuned": "Track B's model, tuned on chats",
    "chat_tuned+retrieved": "Track B's model, tuned on chats + retrieved code",
    "copy": "most frequent next line",
}
BASELINES = (NEAREST, COPY)
SHORT_NAMES = {"base": "untouched", "base+retrieved": "retrieved", "adapted": "adapted",
               "adapted+retrieved": "both"}  # fmt: skip
GROUP_NAMES = {
    "seen": "seen (they stand word for word in the training files)",
    "cross-file": "cross-file (they name code of another file)",
    "other": "neither",
}
RETRIEVERS = {
    "bm25": "BM25",
    "embedder_before": "Track C's embedder before its training",
    "embedder_after": "Track C's embedder after its training",
}
VERDICTS = {
    "improved": "use {arm}",
    "no_detectable_difference": "no detectable difference: use the untouched model",
    "regressed": "nothing is better: use the untouched model",
    "not_run": "not run",
}
MEASURES = {
    PRIMARY: PRIMARY_NAME,
    "edit_similarity": "edit similarity",
    "identifier_f1": "identifier F1",
    "parses": "parses in place",
    "stops": "stops by itself",
    "first_token": "first token",
    "accepted_characters": "accepted characters",
}


def kind_name(kind: str) -> str:
    """Return a kind of place in words."""
    return kind.replace("_", " ")


def arm_table(section: Mapping[str, Any]) -> pd.DataFrame:
    """Show every measure of every arm and baseline with its interval, and the seconds of one completion."""
    rows = []
    for arm, measured in section["arms"].items():
        row = {"Arm": ARM_NAMES.get(arm, arm)}
        row |= {title: estimate_text(measured[name]) for name, title in MEASURES.items()}
        took = section["seconds_per_completion"].get(arm)
        rows.append(row | {"seconds": "–" if took is None else f"{took:.2f}"})
    return pd.DataFrame(rows).set_index("Arm")


def difference_table(section: Mapping[str, Any]) -> pd.DataFrame:
    """Show the differences of exact match between all pairs of arms."""
    rows = [
        {
            "Compared": f"{ARM_NAMES[row['second']]} − {ARM_NAMES[row['first']]}",
            "Change [95% interval]": change_text(row),
            "p": p_text(row["p_value"]).removeprefix("p ").removeprefix("= "),
            "p after Holm": p_text(row["p_holm"]).removeprefix("p ").removeprefix("= "),
            "Reading": row["verdict"].replace("_", " "),
        }
        for row in section["differences"] if row["measure"] == PRIMARY
    ]  # fmt: skip
    return pd.DataFrame(rows).set_index("Compared")


def completion_sentences(section: Mapping[str, Any]) -> str:
    """Say which arm to use, what it costs and how the code was retrieved (Markdown)."""
    if section["verdict"] == "not_run":
        return f"Not run: {inline(section['reason'].rstrip('.'))}."
    return "\n\n".join(
        [inline(section["answer"]), inline(completion_cost(section)), method_sentence(section)]
    )


def completion_cost(section: Mapping[str, Any]) -> str:
    """Say what a completion costs in each arm, and what training cost."""
    return cost_in_words(section["seconds_per_completion"], section["training_seconds"])


def method_sentence(section: Mapping[str, Any]) -> str:
    """Say on how many places the arms were compared, and how code was retrieved for them (Markdown)."""
    places, context = section["places"], section["context"]
    kinds = ", ".join(f"{kind_name(kind)}: {n}" for kind, n in places["kinds"].items())
    reach = places.get("with_code", {}).get("base+retrieved")
    found = "" if reach is None else f"; prompts had room for some at {reach} of {places['all']} places"
    named = RETRIEVERS.get(context["retriever"], context["retriever"])
    heads = {
        "marks": "under the model family's own marks",
        "comments": "under comments with the path",
        "none": "without a heading",
    }[context["heads"]]
    return (
        f"{places['all']} places in {places['files']} held-out files ({kinds}), completed greedily. Code "
        f"was retrieved by {inline(named)} from the training files alone "
        f"and takes at most {context['share']:.0%} of a prompt, {heads}{found}. That form was the best of "
        f"{len(context['tried'])} on {context['places']} places in validation files. A completion is right "
        "if it equals what stands there, white space at its ends aside."
    )


def completion_doubt(section: Mapping[str, Any]) -> str:
    """Say what the baselines reach and what the comparison cannot tell (Markdown)."""
    beside = {arm: one for arm, one in section["arms"].items() if arm in BASELINES}
    listed = ", ".join(
        f"{ARM_NAMES.get(arm, arm)} {estimate_text(one[PRIMARY])}" for arm, one in beside.items()
    )
    groups = section["places"]["groups"]
    known = ", ".join(
        f"{n} {'is' if n == 1 else 'are'} {GROUP_NAMES[group]}" for group in GROUP_NAMES
        if (n := groups.get(group))
    )  # fmt: skip
    near = section["places"].get("with_code", {}).get(NEAREST, section["places"]["all"])
    said = [
        f"Baselines without tuning or an index: {listed}." if listed else "",
        reach_in_words(near, section["places"]["all"], "the nearest file"),
        section.get("chat", {}).get("answer", ""),
        f"Of the targets, {known}.",
        "Other right answers count as wrong, for every arm alike. "
        + (
            "Prompts are in the form of fill-in-the-middle: models see what stands behind the place, too."
            if section["context"].get("infill")
            else "The model sees only what stands before a place: it has no fill-in-the-middle."
        ),
    ]
    return "\n\n".join(filter(None, said))


def completion_verdict(section: Mapping[str, Any]) -> str:
    """Return the verdict in words; it names the arm to use."""
    return VERDICTS[section["verdict"]].format(arm=ARM_NAMES.get(section.get("arm_to_use", ""), ""))


def summary_cells(section: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of the final table's row on completion; an arm a line, the untouched model first."""
    first = f"completion\n{PRIMARY_NAME}\n{section.get('model', '')}".rstrip()
    verdict = completion_verdict(section)
    if section["verdict"] == "not_run":
        return first, "–", "–", "–", verdict
    arms = [arm for arm in ARMS if arm in section["arms"]]
    changes = {
        row["second"]: f"{number(row['value'], signed=True)}, p {p_text(row['p_holm']).lstrip('p =')}"
        for row in section["differences"] if row["measure"] == PRIMARY and row["first"] == "base"
    }  # fmt: skip
    values = [f"{number(section['arms'][arm][PRIMARY]['value'])} {SHORT_NAMES[arm]}" for arm in arms]
    moved = "\n".join(changes.get(arm, "") for arm in arms)
    return first, "\n".join(values), moved, str(section["places"]["all"]), verdict
