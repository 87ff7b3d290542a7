"""Count what the data card says about the corpus itself, from the records of this run.

Facts are plain values (str, int, float, list, dict), so that they can be saved as JSON and rendered by
`helpers.data.card.page`. None of them names a folder of the machine.
"""

from __future__ import annotations

import doctest
import hashlib
import itertools
import re
import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from helpers.code.functions import functions_left_out
from helpers.code.languages import settings_language
from helpers.data.card.data_sets import DATA_SETS
from helpers.data.cleaning import rule_rows
from helpers.data.corpus import corpus_warnings, secret_counts, summary_line
from helpers.data.leaks import LeakReport
from helpers.data.splits import RANK, files_of
from helpers.lines import lines_of
from helpers.records import CompletionItem, Corpus, Function, Splits
from helpers.settings import CorpusSettings

PLACE_RULES = (
    "Places lie in files of the test split. The kinds get equal shares: the rest of a line, the next line, a "
    "block of 2 to 8 lines that ends with its statement.",
    "No target holds a comment, an import or a string over several lines, and none is bare punctuation.",
    "At most three places of a kind come from a file, and every file gives one before any gives a second.",
    "Functions with a twin in the training files are passed over.",
    "A target is seen if it stands word for word in the training files, and cross-file if it names a "
    "function or class of the code base that its own file does not define.",
)
EXAMPLES = 5  # paths shown per reason
LINE_BINS = (1, 3, 6, 11, 21, 41, 81, 161)  # lower bounds of the histogram of function lengths


def corpus_facts(
    corpus: Corpus,
    functions: Sequence[Function],
    splits: Splits,
    *,
    settings: CorpusSettings | None = None,
    leaks: LeakReport | None = None,
) -> dict[str, Any]:
    """Return the `corpus` entry of `DataCardFacts`.

    Args:
        settings: limits to print the rules with; default `CorpusSettings()`.
        leaks: the report of `check_splits`, from which the card says what was compared.
    """
    languages = Counter(settings_language(file.language) for file in corpus.files)
    reasons = Counter(file.reason for file in corpus.rejected)
    rules = rule_rows(settings or CorpusSettings())
    return {
        "source": {
            "name": corpus.name,
            "spec": _without_folders(corpus.spec),
            "version": corpus.version or "none stated",
            "licence": corpus.licence,
            "files": len(corpus.files),
            "languages": ", ".join(f"{name} {count}" for name, count in languages.most_common()),
            "bytes": sum(file.n_bytes for file in corpus.files),
            "functions": len(functions),
            "sha256": corpus.sha256,
        },
        "summary": summary_line(corpus),
        "warnings": corpus_warnings(corpus),
        "licence_files": dict(corpus.licence_files),
        "secrets": secret_counts(corpus),
        "rules": _rule_rows(rules, reasons, len(corpus.files) + len(corpus.rejected)),
        "rejected_examples": _rejected_examples(corpus, [row["reason"] for row in rules]),
        "functions_left_out": _left_out_rows(corpus),
        "splits": [_split_row(name, corpus, functions, splits) for name in RANK],
        "excluded": _excluded_rows(splits),
        "compared": dict(leaks.compared) if leaks else {},
        "distributions": _distributions(corpus, functions),
        "edge_cases": _edge_cases(corpus, functions),
    }


def completion_report(items: Sequence[CompletionItem]) -> dict[str, Any]:
    """Return the `completion` entry of `DataCardFacts`: the rules of the places, and how many there are."""
    kinds = list(dict.fromkeys(item.kind for item in items))
    targets = {kind: [item.target for item in items if item.kind == kind] for kind in kinds}
    return {
        "places": len(items),
        "files": len({item.path for item in items}),
        "rules": list(PLACE_RULES),
        "by kind": {
            kind.replace("_", " "): {
                "places": len(some),
                "files": len({item.path for item in items if item.kind == kind}),
                "seen in training files": sum(item.seen for item in items if item.kind == kind),
                "cross-file": sum(item.cross_file for item in items if item.kind == kind),
                "median characters": int(statistics.median(map(len, some))),
            }
            for kind, some in targets.items()
        },
        "languages": dict(Counter(settings_language(item.language) for item in items)),
    }


def data_hashes(run_folder: Path) -> dict[str, str]:
    """Return file -> SHA-256 of every file of a run's data sets, paths relative to its folder."""
    return {
        path: hashlib.sha256((run_folder / path).read_bytes()).hexdigest()
        for data_set in DATA_SETS.values()
        for path in data_set.files.values()
        if (run_folder / path).is_file()
    }


def bias_rows(functions: Sequence[Function], chosen: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
    """Return how the functions behind each data set differ from those of the whole code base.

    Args:
        chosen: name of a data set -> ids of the functions that its items are about.
    """
    by_id = {function.id: function for function in functions}
    groups = {"all functions": list(functions)} | {
        name: [by_id[i] for i in sorted(set(ids)) if i in by_id] for name, ids in chosen.items()
    }
    return [{"functions of": name, **_traits(group)} for name, group in groups.items() if group]


def _traits(group: Sequence[Function]) -> dict[str, Any]:
    """Return count, share with each trait in percent, and median length of some functions."""
    traits = {
        "methods, %": [f.is_method for f in group],
        "with docstring, %": [bool(f.docstring) for f in group],
        "with doctests, %": [bool(f.doctests) for f in group],
        "name begins with _, %": [f.name.startswith("_") for f in group],
    }
    shares = {name: round(100 * sum(found) / len(group), 1) for name, found in traits.items()}
    lines = statistics.median(len(lines_of(f.code)) for f in group)
    return {"n": len(group), "median lines": lines, **shares}


def regenerating_command(profile: str, spec: str, seed: int, changed: Sequence[str]) -> str:
    """Return the command that makes the same data again; folders above the corpus are left out of `spec`.

    Args:
        changed: settings changed by hand, NAME=VALUE each.
    """
    given = ["--profile", profile, "--corpus", _without_folders(spec), "--seed", str(seed)]
    given += [word for change in changed for word in ("--set", change)]
    return shlex.join(["python", "-m", "helpers", "run", *given])


def quantiles(values: Iterable[float]) -> dict[str, float]:
    """Return n, minimum, quartiles, maximum and mean of the values; only n if there are none."""
    ordered = sorted(values)
    if not ordered:
        return {"n": 0}
    several = len(ordered) > 1
    first, median, third = statistics.quantiles(ordered, method="inclusive") if several else ordered * 3
    return {
        "n": len(ordered), "min": ordered[0], "25%": round(first, 1), "median": round(median, 1),
        "75%": round(third, 1), "max": ordered[-1], "mean": round(statistics.fmean(ordered), 1),
    }  # fmt: skip


def _without_folders(spec: str) -> str:
    """Return a spec, in the case of `path:` and `zip:` without the folders above, which are the machine's."""
    if spec.startswith(("installed:", "git:")):
        return spec
    kind, _, place = spec.partition(":")
    return f"{kind}:{PurePosixPath(place.replace(chr(92), '/')).name or '.'}"


def _rule_rows(
    rules: Sequence[Mapping[str, str]], rejected: Mapping[str, int], entries: int
) -> list[dict[str, Any]]:
    """Return each rule with the entries that came to it, that it rejected, and that it let pass."""
    rows = []
    for rule in rules:
        count = rejected.get(rule["reason"], 0)
        rows.append({**rule, "in": entries, "rejected": count, "out": entries - count})
        entries -= count
    return rows


def _rejected_examples(corpus: Corpus, order: Sequence[str]) -> dict[str, list[str]]:
    """Return reason -> the first rejected paths, reasons in the order of the rules."""
    found: dict[str, list[str]] = {reason: [] for reason in order}
    for file in corpus.rejected:
        shown = found.setdefault(file.reason, [])
        if len(shown) < EXAMPLES:
            shown.append(f"{file.path} ({file.detail})" if file.detail else file.path)
    return {reason: paths for reason, paths in found.items() if paths}


def _split_row(name: str, corpus: Corpus, functions: Sequence[Function], splits: Splits) -> dict[str, Any]:
    files = files_of(corpus, splits, name)
    inside = [function for function in functions if splits.split_of[function.path] == name]
    used = [function for function in inside if function.id not in splits.excluded_functions]
    return {
        "split": name,
        "files": len(files),
        "bytes": sum(file.n_bytes for file in files),
        "functions": len(used),
        "with docstring": sum(bool(function.docstring) for function in used),
        "with doctests": sum(bool(function.doctests) for function in used),
        "left out as twins": len(inside) - len(used),
    }


def _left_out_rows(corpus: Corpus) -> list[dict[str, Any]]:
    """Return the functions of accepted files that were not cut out: reason, count and some examples."""
    by_reason: dict[str, list[str]] = {}
    for one in functions_left_out(corpus):
        by_reason.setdefault(one.reason, []).append(f"{one.id} ({one.detail})")
    return [
        {"reason": reason, "functions": len(found), "examples": found[:EXAMPLES]}
        for reason, found in sorted(by_reason.items())
    ]


def _excluded_rows(splits: Splits) -> list[dict[str, Any]]:
    """Return the functions left out of evaluation: reason, count and some examples."""
    by_reason: dict[str, list[str]] = {}
    for identifier, reason in splits.excluded_functions.items():
        phrase, _, twin = reason.partition(": ")
        by_reason.setdefault(phrase, []).append(f"{identifier} (like {twin})")
    return [
        {"reason": phrase, "functions": len(found), "examples": found[:EXAMPLES]}
        for phrase, found in sorted(by_reason.items())
    ]


def _distributions(corpus: Corpus, functions: Sequence[Function]) -> dict[str, Any]:
    lengths = [len(lines_of(function.code)) for function in functions]
    doctests = [function.doctests for function in functions]
    histogram = []
    for low, high in itertools.pairwise([*LINE_BINS, sys.maxsize]):
        label = f"{low}+" if high == sys.maxsize else f"{low}-{high - 1}"
        histogram.append({"lines of code": label, "functions": sum(low <= n < high for n in lengths)})
    folders = Counter("/".join(PurePosixPath(function.path).parts[:-1]) or "." for function in functions)
    return {
        "sizes": {
            "bytes per file": quantiles(file.n_bytes for file in corpus.files),
            "functions per file": quantiles(Counter(function.path for function in functions).values()),
            "lines per function, docstring aside": quantiles(lengths),
            "words per docstring": quantiles(len(f.docstring.split()) for f in functions if f.docstring),
            "doctest examples per function that has any": quantiles(filter(None, doctests)),
            "parameters per function": quantiles(len(f.parameters) for f in functions),
        },
        "function lengths": histogram,
        "functions by folder (the 15 with most)": [
            {"folder": folder, "functions": count}
            for folder, count in sorted(folders.items(), key=lambda item: (-item[1], item[0]))[:15]
        ],
    }


def _edge_cases(corpus: Corpus, functions: Sequence[Function]) -> dict[str, int]:
    """Count unusual cases among the accepted files and functions."""
    texts = [file.text for file in corpus.files]
    return {
        "files with \\r\\n or \\r line ends": sum("\r" in text for text in texts),
        "files with characters beyond ASCII": sum(not text.isascii() for text in texts),
        "files indented with tabs": sum(bool(re.search(r"^\t", text, re.MULTILINE)) for text in texts),
        "files without a function": len(corpus.files) - len({function.path for function in functions}),
        "functions without docstring": sum(not function.docstring for function in functions),
        "methods": sum(function.is_method for function in functions),
        "nested functions": sum(function.is_nested for function in functions),
        "async functions": sum(function.is_async for function in functions),
        "names defined more than once in a file": sum("#" in function.id for function in functions),
        "docstrings whose examples doctest refuses": sum(map(_is_refused, functions)),
        "functions whose body is only a docstring": sum(
            bool(f.docstring) and f.code.rstrip().endswith("pass") and "pass" not in f.source
            for f in functions
        ),
    }


def _is_refused(function: Function) -> bool:
    if ">>>" not in function.docstring:
        return False
    try:
        doctest.DocTestParser().get_examples(function.docstring)
    except ValueError:
        return True
    return False
