"""Compare the four arms of completion on the same items, and say which of them to use.

Intervals resample files. Shares are tested by McNemar's test, means by the paired bootstrap. Every measure
has six differences among four arms; their p-values are adjusted by Holm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from typing import Any

from helpers.data.completion_items import KINDS
from helpers.eval.statistics import (
    Delta,
    Estimate,
    bootstrap_mean,
    holm,
    paired_bootstrap,
    paired_share,
    proportion,
    verdict,
)
from helpers.records import CompletionScore

ARMS = ("base", "base+retrieved", "adapted", "adapted+retrieved")  # the simplest first
NEAREST, COPY = "base+nearest_file", "copy"  # baselines
CHAT, TUNED_CHAT = "chat", "chat_tuned"  # Track B's model before and after its training
IN_WORDS = {
    "base": "the untouched model",
    "base+retrieved": "the untouched model with retrieved code",
    "adapted": "the adapted model",
    "adapted+retrieved": "the adapted model with retrieved code",
}
MEASURES_IN_WORDS = {
    "parses": "the file parses", "stops": "it stops by itself", "first_token": "the first token is right",
    "edit_similarity": "edit similarity", "identifier_f1": "identifier F1",
    "accepted_characters": "accepted characters",
}  # fmt: skip
GROUPS = ("seen", "cross-file", "other")
PRIMARY = "exact_match"
SHARES = (PRIMARY, "parses", "stops", "first_token")
SHOWN_OF_PARTS = (PRIMARY, "edit_similarity")
LEAST_REACH = 0.9  # of the places; below that the answer says where code was retrieved at all
MEANS = ("edit_similarity", "identifier_f1", "accepted_characters")
Scores = Mapping[str, Sequence[CompletionScore]]  # arm or baseline -> its scores


def compare_arms(scores: Scores, *, samples: int, seed: int) -> dict[str, Any]:
    """Return the figures of every arm, and every difference among those of `ARMS` that are there.

    Args:
        scores: of the same items in the same order in every arm; others than `ARMS` are baselines.
        samples, seed: of the bootstrap.

    Returns:
        `arms`: arm -> measure -> estimate; `by_kind` and `by_group`: name -> arm -> estimate of the primary
        measure and of edit similarity; `differences`: rows of first, second (minus first), measure, value,
        ci95, p_value, p_holm, test, verdict; `gains_by_group`: the differences to "base" of each group.

    Raises:
        ValueError: for no items, or arms that do not hold the same items.
    """
    items = [[score.item_id for score in some] for some in scores.values()]
    if not items or not items[0] or any(ids != items[0] for ids in items):
        raise ValueError("every arm must have completed the same items, in the same order, and one at least")
    options: dict[str, Any] = {"samples": samples, "seed": seed}
    arms = {arm: _estimates(some, (*SHARES, *MEANS), **options) for arm, some in scores.items()}
    by_kind = {kind: _part(scores, kind=kind) for kind in KINDS}
    by_group = {group: _part(scores, group=group) for group in GROUPS}
    shown = {
        name: {
            key: {arm: _estimates(rows, SHOWN_OF_PARTS, **options) for arm, rows in some.items()}
            for key, some in parts.items() if some
        }
        for name, parts in (("by_kind", by_kind), ("by_group", by_group))
    }  # fmt: skip
    gains = {
        group: {arm: asdict(_delta(some["base"], some[arm], PRIMARY, **options))
                for arm in ARMS[1:] if arm in some}
        for group, some in by_group.items() if "base" in some
    }  # fmt: skip
    return {"arms": arms, **shown, "differences": differences(scores, **options), "gains_by_group": gains}


def differences(
    scores: Scores, *, samples: int, seed: int, pairs: Sequence[tuple[str, str]] | None = None
) -> list[dict[str, Any]]:
    """Return the differences of pairs of arms, second minus first, p-values adjusted by measure.

    Args:
        pairs: by default all of `ARMS` that are there.
    """
    rows = []
    if pairs is None:
        pairs = list(combinations([arm for arm in ARMS if arm in scores], 2))
    for name in (*SHARES, *MEANS):
        deltas = [_delta(scores[a], scores[b], name, samples=samples, seed=seed) for a, b in pairs]
        adjusted = holm([delta.p_value for delta in deltas])
        for (first, second), delta, p_holm in zip(pairs, deltas, adjusted, strict=True):
            said = verdict(replace(delta, p_value=p_holm), higher_is_better=True)
            rows.append({"first": first, "second": second, "measure": name, **asdict(delta),
                         "p_holm": p_holm, "verdict": said})  # fmt: skip
    return rows


def arm_to_use(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the simplest arm that detectably beats the untouched model and is beaten by no other.

    It is "base" if none beats it. Decided by the primary measure.

    Args:
        rows: from `differences`.
    """
    beats: dict[str, set[str]] = {arm: set() for arm in ARMS}
    for row in rows:
        if row["measure"] == PRIMARY and row["verdict"] != "no_detectable_difference":
            better, worse = row["second"], row["first"]
            if row["verdict"] == "regressed":
                better, worse = worse, better
            beats[better].add(worse)
    good = [arm for arm in ARMS if "base" in beats[arm] and not any(arm in found for found in beats.values())]
    return good[0] if good else "base"


def arms_verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what tuning and retrieval do to the primary metric: "improved" if an arm is to be used instead
    of the untouched model, "regressed" if none is and one is detectably worse.

    Args:
        rows: from `differences`.
    """
    if arm_to_use(rows) != "base":
        return "improved"
    beside = {row["verdict"] for row in rows if row["measure"] == PRIMARY and row["first"] == "base"}
    return "regressed" if "regressed" in beside else "no_detectable_difference"


def answer_in_words(comparison: Mapping[str, Any]) -> str:
    """Say which arm to use, by how much, and how sure that is; `cost_in_words` says what it costs.

    Args:
        comparison: from `compare_arms`, as plain values.
    """
    arms, rows = comparison["arms"], comparison["differences"]
    mine = [row for row in rows if row["measure"] == PRIMARY and row["first"] == "base"]
    n, base = arms["base"][PRIMARY]["n"], arms["base"][PRIMARY]["value"]
    best = arm_to_use(rows)
    if best == "base":
        found = "; ".join(f"{IN_WORDS[row['second']]} {_change(row)}" for row in mine)
        worse = [IN_WORDS[row["second"]] for row in mine if row["verdict"] == "regressed"]
        behind = f" Detectably worse: {', '.join(worse)}." if worse else ""
        return (
            f"Use the untouched model: it completes {base:.1%} of {n} held-out places exactly, and no other "
            f"arm is detectably better. Against it: {found}.{behind}"
        )
    row = next(row for row in mine if row["second"] == best)
    level = [arm for arm in ARMS if arm not in (best, "base") and not _is_apart(rows, best, arm)]
    like = ", ".join(IN_WORDS[arm] for arm in level)
    beside = f" Not detectably different from it: {like}." if level else ""
    return (
        f"Use {IN_WORDS[best]}: it completes {arms[best][PRIMARY]['value']:.1%} of {n} held-out places "
        f"exactly, the untouched model {base:.1%} ({_change(row)}).{beside}"
    )


def chat_in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say whether tuning on chats broke completion, in any measure.

    Args:
        rows: from `differences`, of `chat_pairs`.
    """
    mine = [row for row in rows if row["measure"] == PRIMARY]
    said = "; ".join(f"{_with_or_without(row)} {_change(row)}" for row in mine)
    found = {row["verdict"] for row in mine}
    reading = (
        "Tuning Track B's model on chats makes its completions detectably worse"
        if "regressed" in found
        else "Tuning Track B's model on chats makes its completions detectably better"
        if "improved" in found
        else "Tuning Track B's model on chats does not change its completions detectably"
    )
    besides = "; ".join(
        f"{MEASURES_IN_WORDS[row['measure']]} {_size(row)} {_with_or_without(row)}"
        for row in rows
        if row["measure"] != PRIMARY and row["verdict"] != "no_detectable_difference"
    )
    return f"{reading}: {said}." + (f" Detectable in other measures: {besides}." if besides else "")


def _with_or_without(row: Mapping[str, Any]) -> str:
    return f"{'with' if row['second'].endswith('+retrieved') else 'without'} retrieved code"


def _size(row: Mapping[str, Any]) -> str:
    if row["measure"] in SHARES:
        return f"{_points(row['value'])} points"
    return f"{row['value']:+.2f}".replace("-", "−")


def chat_pairs(arms: Collection[str]) -> list[tuple[str, str]]:
    """Return the pairs that show what tuning on chats does: untouched and tuned, without and with retrieval.

    The untouched model is `CHAT`, or "base" where Track B started from the same model.
    """
    first = CHAT if CHAT in arms else "base"
    pairs = [(first, TUNED_CHAT), (f"{first}+retrieved", f"{TUNED_CHAT}+retrieved")]
    return [pair for pair in pairs if set(pair) <= set(arms)]


def cost_in_words(seconds: Mapping[str, float], training: float) -> str:
    """Say what a completion costs in each arm, and what the training of the adapted ones cost.

    Args:
        seconds: arm -> seconds of one completion at batch size 1.
        training: seconds that adapting the model took.
    """
    each = ", ".join(f"{IN_WORDS[arm]} {seconds[arm]:.2f} s" for arm in ARMS if arm in seconds)
    return (
        f"Cost of one completion at batch size 1: {each}; training the adapted model took {training:.0f} s."
    )


def reach_in_words(with_code: int, places: int, what: str = "retrieved code") -> str:
    """Say at how many places prompts hold `what`; "" if they do at nine of ten or more."""
    if with_code >= LEAST_REACH * places:
        return ""
    return f"Prompts had room for {what} at {with_code} of {places} places only."


def _change(row: Mapping[str, Any]) -> str:
    low, high = map(_points, row["ci95"])
    p = "p < 0.001" if row["p_holm"] < 0.001 else f"p = {row['p_holm']:.2g}"
    return f"{_points(row['value'])} points, 95% interval {low} to {high}, {p} after Holm"


def _points(share: float) -> str:
    """Return a difference of shares in points, with a true minus sign and no sign at zero."""
    text = f"{100 * share:+.1f}"
    return text.replace("-", "−") if float(text) else "0.0"


def _is_apart(rows: Sequence[Mapping[str, Any]], one: str, other: str) -> bool:
    return any(
        row["measure"] == PRIMARY and {row["first"], row["second"]} == {one, other}
        and row["verdict"] != "no_detectable_difference"
        for row in rows
    )  # fmt: skip


def _part(scores: Scores, **wanted: str) -> dict[str, list[CompletionScore]]:
    """Return the scores whose field has the wanted value; nothing if there are none."""
    ((field, value),) = wanted.items()
    found = {arm: [row for row in some if getattr(row, field) == value] for arm, some in scores.items()}
    return found if all(found.values()) else {}


def _estimates(
    rows: Sequence[CompletionScore], measures: Sequence[str], *, samples: int, seed: int
) -> dict[str, Estimate]:
    paths = [row.path for row in rows]
    found = {}
    for name in measures:
        values = [getattr(row, name) for row in rows]
        is_share = name in SHARES
        found[name] = (
            proportion(values) if is_share
            else bootstrap_mean(values, groups=paths, samples=samples, seed=seed)
        )  # fmt: skip
    return found


def _delta(
    first: Sequence[CompletionScore], second: Sequence[CompletionScore], measure: str, **options: Any
) -> Delta:
    paired = paired_share if measure in SHARES else paired_bootstrap
    before, after = ([getattr(row, measure) for row in rows] for rows in (first, second))
    return paired(before, after, groups=[row.path for row in first], **options)
