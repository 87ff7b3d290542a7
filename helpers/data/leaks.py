"""Check that nothing leaks between the splits, by other means than those that made them."""

from __future__ import annotations

import dataclasses
import hashlib
import keyword
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from helpers.code.near_duplicates import file_tokens, near_duplicates, shingles
from helpers.data.splits import RANK, files_of, functions_of
from helpers.data.twins import MIN_TOKENS, blanked, docstring_start, equal_groups, function_tokens
from helpers.errors import SuiteError
from helpers.machine.progress import progress
from helpers.records import Corpus, Function, Splits
from helpers.settings import CorpusSettings

CHECK_SEED = 2  # of the check's MinHash permutations; the split uses seed 1


class LeakError(SuiteError, ValueError):
    """Code occurs in two splits; `leaks` maps the name of a check to pairs of offending ids."""

    def __init__(self, leaks: dict[str, list[tuple[str, str]]]) -> None:
        self.leaks = leaks
        shown = [f"  {check}: {a}  <->  {b}" for check, pairs in leaks.items() for a, b in pairs[:20]]
        total = sum(map(len, leaks.values()))
        head = f"{total} leaks between splits; make the splits anew with split_corpus:"
        super().__init__("\n".join([head, *shown]))


@dataclass(frozen=True)
class LeakReport:
    """What was compared and found clean, and what had been left out before."""

    files: dict[str, int]  # split -> files
    functions: dict[str, int]  # split -> functions that may be used
    compared: dict[str, int]  # check -> items compared across splits, none of which leaks
    excluded: dict[str, int]  # reason -> functions left out of evaluation
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)  # function or file -> leak found


def check_splits(
    corpus: Corpus, functions: Sequence[Function], splits: Splits, settings: CorpusSettings
) -> LeakReport:
    """Compare everything across splits again, by other means than `split_corpus`.

    Texts are compared by hash, names are blanked in the token stream instead of the tree, near duplicates
    are found with other permutations and confirmed by their true similarity, and whole files are compared
    too. Excluded functions are not compared.

    Raises:
        LeakError: with the ids of every pair found in two splits.
        ValueError: if a file is in no split, or a split has an unknown name.
    """
    unassigned = sorted({file.path for file in corpus.files}.symmetric_difference(splits.split_of))
    if unassigned or not set(splits.split_of.values()) <= set(RANK):
        what = unassigned[:5] or "the split names"
        raise ValueError(f"splits and corpus disagree about {what}: split anew")
    used = [function for function in functions if function.id not in splits.excluded_functions]
    sides = [splits.split_of[function.path] for function in used]
    tokens = [function_tokens(function) for function in progress(used, "checking splits")]
    keys: dict[str, list[Hashable]] = {
        "exact": [_sha256(function.code) for function in used],
        "exact with docstring": [_sha256(function.source) for function in used],
        "whitespace": ["".join(function.code.split()) for function in used],
        "identifiers": [_blanked_again(f, row) for f, row in zip(used, tokens, strict=True)],
        "docstring start": [docstring_start(function) for function in used],
    }
    ids = [function.id for function in used]
    groups = {check: equal_groups(values) for check, values in keys.items()}
    compared = {check: sum(value is not None for value in values) for check, values in keys.items()}
    threshold = settings.near_duplicate_threshold
    groups["near duplicate"] = near_duplicates([shingles(row) for row in tokens], threshold, seed=CHECK_SEED)
    compared["near duplicate"] = len(used)
    leaks = {check: _cross(some, sides, ids) for check, some in groups.items()}
    files = [file for file in corpus.files if file.path not in splits.excluded_files]
    near = near_duplicates([shingles(file_tokens(file.text)) for file in files], threshold, seed=CHECK_SEED)
    paths = [file.path for file in files]
    leaks["files"] = _cross(near, [splits.split_of[path] for path in paths], paths)
    compared["files"] = len(paths)
    if any(leaks.values()):
        raise LeakError({check: pairs for check, pairs in leaks.items() if pairs})
    reasons = sorted(reason.partition(":")[0] for reason in splits.excluded_functions.values())
    return LeakReport(
        files={name: len(files_of(corpus, splits, name)) for name in RANK},
        functions={name: len(functions_of(functions, splits, name)) for name in RANK},
        compared=compared,
        excluded=dict(Counter(reasons)),
    )


def without_leaks(
    corpus: Corpus, functions: Sequence[Function], splits: Splits, settings: CorpusSettings
) -> tuple[Splits, LeakReport]:
    """Run `check_splits`, leave out what it finds in the less important split, and check again.

    A function is left out of evaluation, a nearly equal file with all its functions. Both are named in
    `LeakReport.left_out`.
    """
    left_out: dict[str, str] = {}
    while True:  # ends because every round leaves something out
        try:
            report = check_splits(corpus, functions, splits, settings)
            return splits, dataclasses.replace(report, left_out=left_out)
        except LeakError as found:
            gone = _giving_way(found.leaks, functions, splits)
        left_out |= gone
        files = {name: why for name, why in gone.items() if name in splits.split_of}
        names = {name: why for name, why in gone.items() if name not in files}
        names |= {f.id: files[f.path] for f in functions if f.path in files}
        excluded = dict(sorted((names | splits.excluded_functions).items()))
        splits = Splits(splits.split_of, excluded, splits.excluded_files | files)


def _blanked_again(function: Function, tokens: Sequence[str]) -> str | None:
    """Return the same for the check, for Python from the token stream: keywords and literals are kept."""
    if function.language != "python" or len(tokens) < MIN_TOKENS:
        return blanked(function, tokens)
    return " ".join("_" if t.isidentifier() and not keyword.iskeyword(t) else t for t in tokens)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _cross(
    groups: Iterable[Sequence[int]], sides: Sequence[str], ids: Sequence[str]
) -> list[tuple[str, str]]:
    """Pair each group's first member with every member of it that is in another split."""
    pairs = ((group[0], other) for group in groups for other in group)
    return [(ids[one], ids[other]) for one, other in pairs if sides[other] != sides[one]]


def _giving_way(
    leaks: dict[str, list[tuple[str, str]]], functions: Sequence[Function], splits: Splits
) -> dict[str, str]:
    """Return the member of each leaking pair in the less important split, and why it is left out."""
    path_of = {function.id: function.path for function in functions}
    gone: dict[str, str] = {}
    for check, pairs in leaks.items():
        for pair in pairs:
            sides = [splits.split_of[name if check == "files" else path_of[name]] for name in pair]
            kept, other = sorted((0, 1), key=lambda i: RANK[sides[i]])
            why = f"found by the leak check, {check}: {pair[kept]} in {sides[kept]}"
            gone.setdefault(pair[other], why)
    return gone
