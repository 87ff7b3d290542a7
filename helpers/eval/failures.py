"""Error analysis: choose which failures to show, and say what was measured on each.

Nothing is picked by hand. `track_*_failures` (Track B's is in `failures_b`) turn every failed item into a
candidate; `select_failures` draws from the candidates by a fixed seeded rule. Category and diagnosis state
what was measured on the item. They claim nothing about what happened inside the model.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from helpers.errors import SuiteError
from helpers.eval.lexical import STOPWORDS, search_terms
from helpers.lines import bare_lines
from helpers.records import Document, Failure
from helpers.settings import FAILURE_CASES

SHOWN_CHARS = 900  # of each input, expected and got; of the rest only the length is given
RANK_CUT = 10  # a query fails if its answer ranks lower than this
LEAST_SHARE = 0.01  # a feature that covers less of a file than this explains nothing
SELECTION_RULE = (
    "Every track that has failures gets an equal share. Within a track, the categories take turns, most "
    "frequent first; within a category, items are drawn at random with the run's seed. If a track or a "
    f"category runs out, the others fill its places. Texts are cut after {SHOWN_CHARS} characters."
)


class FailureError(SuiteError, ValueError):
    """A number of failure cases outside the allowed range."""


def select_failures(candidates: Sequence[Failure], total: int, seed: int) -> tuple[Failure, ...]:
    """Draw `total` cases by `SELECTION_RULE`, or take all if there are fewer.

    The result does not depend on the order of `candidates`.

    Raises:
        FailureError: if `total` is not one of `FAILURE_CASES`.
    """
    if total not in FAILURE_CASES:
        least, most = FAILURE_CASES[0], FAILURE_CASES[-1]
        raise FailureError(f"the report shows {least} to {most} failure cases, not {total}")
    queues = []
    for track in sorted({failure.track for failure in candidates}):
        categories: dict[str, list[Failure]] = defaultdict(list)
        for failure in sorted((f for f in candidates if f.track == track), key=lambda f: f.item_id):
            categories[failure.category].append(failure)
        for name, items in categories.items():
            random.Random(f"{seed}:failures:{track}:{name}").shuffle(items)
        most_frequent_first = sorted(categories, key=lambda name: (-len(categories[name]), name))
        queues.append(_take_turns([categories[name] for name in most_frequent_first]))
    drawn = set(map(id, _take_turns(queues)[:total]))
    return tuple(failure for queue in queues for failure in queue if id(failure) in drawn)


def clip(text: str, limit: int = SHOWN_CHARS) -> str:
    """Cut `text` at a line end within `limit` characters and append how many are missing."""
    if len(text) <= limit:
        return text
    kept = text[:limit]
    if "\n" in kept[limit // 2 :]:
        kept = kept[: kept.rindex("\n")]
    return f"{kept}\n… ({len(text) - len(kept):,} more characters)"


# --- Track A -----------------------------------------------------------------------------------


def track_a_failures(
    rows: Sequence[Mapping[str, Any]], texts: Mapping[str, str], train_texts: Sequence[str]
) -> list[Failure]:
    """Find the files that got worse, and those still in the costliest quarter after training.

    "Worse" means more bits per byte than before training. The category names the measured feature in
    which the file ranks highest among the held-out files, if that rank is in the upper quarter; otherwise
    it says "nothing measured stands out".

    Args:
        rows: rows of `track_a/files`.
        texts: path -> text of these files.
        train_texts: the training texts; words that do not occur in them count as unseen.
    """
    known = {word for text in train_texts for word in re.findall(r"[^\W\d]\w+", text)}
    bits = {
        r["path"]: [r[k] / math.log(2) / max(r["n_bytes"], 1) for k in ("nll_before", "nll_after")]
        for r in rows
    }
    if not bits:
        return []
    features = {path: _text_features(texts[path], known) for path in bits}
    names = list(next(iter(features.values())))
    ranked = {name: sorted(f[name] for f in features.values()) for name in names}
    dear = float(np.quantile([after for _, after in bits.values()], 0.75))
    median = float(np.median([after - before for before, after in bits.values()]))
    failures = []
    for path, (before, after) in sorted(bits.items()):
        if after <= before and after < dear:
            continue
        outcome = "got worse" if after > before else "still high"
        standing = {n: np.searchsorted(ranked[n], features[path][n], "left") / len(bits) for n in names}
        cause = max(names, key=lambda n: (standing[n], n))
        if standing[cause] < 0.75 or features[path][cause] < LEAST_SHARE:
            cause = "nothing measured stands out"
        measured = ", ".join(f"{n} {features[path][n]:.0%}" for n in names)
        middle = ", ".join(f"{n} {np.median(ranked[n]):.0%}" for n in names)
        expected = (
            f"at most {dear:.3f} bits per byte (three quarters of the held-out files), "
            f"and a change like the median file's, {median:+.3f}"
        )
        got = f"{before:.3f} before, {after:.3f} after ({after - before:+.3f})"
        evidence = f"Measured on this file: {measured}. Median of the held-out files: {middle}."
        part = clip(_strangest_part(texts[path], known))
        failures.append(Failure("track_a", f"{outcome}: {cause}", path, part, expected, got, evidence))
    return failures


def _text_features(text: str, known: set[str]) -> dict[str, float]:
    """Return what can make a file costly, as shares of its characters (unseen names: of its words)."""
    size = max(len(text), 1)
    words = re.findall(r"[^\W\d]\w+", text)
    prose = sum(len(m) for m in re.findall(r'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|#[^\n]*', text))
    tables = sum(
        len(line)
        for line in bare_lines(text)
        if len(line.strip()) > 4 and sum(c.isdigit() for c in line) >= 0.25 * len(line.strip())
    )
    return {
        "names unseen in training": sum(word not in known for word in words) / max(len(words), 1),
        "prose": prose / size,
        "number tables": tables / size,
        "non-ASCII characters": sum(ord(c) > 127 for c in text) / size,
    }


def _strangest_part(text: str, known: set[str]) -> str:
    """Return the first 16 consecutive lines that hold the most words unseen in training."""
    lines = 16
    rows = bare_lines(text)
    unseen = [sum(w not in known for w in re.findall(r"[^\W\d]\w+", row)) for row in rows]
    sums = [sum(unseen[i : i + lines]) for i in range(max(1, len(rows) - lines + 1))]
    start = int(np.argmax(sums))
    return f"# from line {start + 1}\n" + "\n".join(rows[start : start + lines])


# --- Track C -----------------------------------------------------------------------------------


def track_c_failures(rows: Sequence[Mapping[str, Any]], documents: Sequence[Document]) -> list[Failure]:
    """Find the queries whose right function ranks lower than tenth after tuning.

    Args:
        rows: rows of `track_c/queries` (`relevant`, `top3_after`, `rank_before`, `rank_after`, ...).
        documents: the whole index.
    """
    by_id = {document.id: document for document in documents}
    spread = Counter(word for document in documents for word in set(search_terms(document.text)))
    common = {word for word, n in spread.items() if n > 0.2 * len(documents)} | STOPWORDS
    failures = []
    for row in sorted(rows, key=lambda r: r["id"]):
        rank = row["rank_after"]
        if (rank is not None and rank <= RANK_CUT) or not row["top3_after"]:
            continue
        right = max((d for d in row["relevant"] if d in by_id), default=None, key=row["relevant"].get)
        if right is None:
            continue
        first = row["top3_after"][0]
        category, evidence = _diagnose_query(row, by_id[right], by_id[first], common)
        evidence += f" Right function: rank {row['rank_before'] or 'none'} before, {rank or 'none'} after."
        question = f"{row['text']}\n(query kind: {row['kind'].replace('_', ' ')})"
        expected, got = (clip(f"{name}\n{by_id[name].text}") for name in (right, first))
        failures.append(Failure("track_c", category, row["id"], question, expected, got, evidence))
    return failures


def _diagnose_query(
    row: Mapping[str, Any], right: Document, first: Document, common: set[str]
) -> tuple[str, str]:
    """Return category and evidence, judged by names, paths and shared words other than `common`."""
    asked = {w for w in search_terms(row["text"]) if len(w) > 1} - common
    in_right, in_first = (len(asked & set(search_terms(d.text))) for d in (right, first))
    words = (
        f"Distinctive words of the query: {len(asked)}; of these in the right function {in_right}, "
        f"in the one ranked first {in_first}."
    )
    name_right, name_first = (re.split(r"[.:]", d.id)[-1] for d in (right, first))
    if name_right == name_first:
        return "same name elsewhere", f"Both functions are called `{name_right}`. {words}"
    if right.path == first.path:
        return "sibling in the same module", f"Both stand in {right.path}. {words}"
    if not in_right:
        return "lexical gap", words
    if in_first >= in_right:
        return "ambiguous wording", f"The words fit the wrong function at least as well. {words}"
    return "outranked despite its words", words


def _take_turns(queues: Sequence[Sequence[Failure]]) -> list[Failure]:
    """Return the first items of all queues, then the second ones, and so on."""
    return [failure for turn in zip_longest(*queues) for failure in turn if failure is not None]
