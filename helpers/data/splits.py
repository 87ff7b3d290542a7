"""Split files into train, validation and test, and check that nothing leaks between them.

Each file lies in one split. Files that share much of their code go to the same split. A function that
still has a twin in a more important split is left out of evaluation and listed with the reason: train
outranks test (what was trained on cannot be tested), and test outranks validation. Kinds of twins, by what
is compared (without docstrings, but for the last):

    same code             equal text once all whitespace is removed
    same but for names    equal syntax once every identifier is blanked, from MIN_TOKENS tokens on
                          (in languages other than Python: equal tokens)
    near duplicate        Jaccard similarity of 5-token shingles at or above the corpus's threshold
    same docstring start  equal first paragraph of at least MIN_WORDS words (it is a search query)

Below MIN_TOKENS every getter looks like every other (`def a(self): return self._b` has 10 tokens), so
blanked names prove nothing there. The other three comparisons are made at any size.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import itertools
import keyword
import operator
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import networkx as nx

from helpers.code.languages import tokens_of
from helpers.code.near_duplicates import file_tokens, near_duplicates, python_tokens, shingles
from helpers.code.python_text import parse_or_reason
from helpers.errors import SuiteError
from helpers.machine.progress import progress
from helpers.records import Corpus, Function, SourceFile, SplitName, Splits
from helpers.settings import CorpusSettings

MIN_TOKENS = 20
MIN_WORDS = 5
OWN_WEIGHT = 0.25  # part of a group that counts as dealt already (see `_deal`); 0.5 biases the sizes
BOILERPLATE_FILES = 6  # code found in more files than this does not relate any two of them
SHARED_SHARE = 0.3  # share of the smaller file's functions with a twin in the other file
RANK: dict[SplitName, int] = {"train": 0, "test": 1, "validation": 2}  # the higher rank is left out
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


def split_corpus(
    corpus: Corpus, functions: Sequence[Function], settings: CorpusSettings, seed: int
) -> Splits:
    """Assign every file to a split and list the functions that evaluation must not use.

    Bytes, functions, documented functions and functions with doctests all follow the fractions in the
    settings, as closely as whole files allow. Order depends only on `seed` and the paths. With three groups
    of files or more no split is empty; two groups give train and test, one gives train.
    """
    twins = _twins(functions, settings.near_duplicate_threshold)
    split_of = _deal(_groups(corpus, functions, twins), functions, corpus, settings, seed)
    excluded: dict[str, str] = {}
    for reason, members in twins:
        ranks = [RANK[split_of[functions[index].path]] for index in members]
        kept = functions[members[ranks.index(min(ranks))]]
        for index, rank in zip(members, ranks, strict=True):
            if rank > min(ranks):
                excluded.setdefault(functions[index].id, f"{reason}: {kept.id} in {split_of[kept.path]}")
    return Splits(split_of, dict(sorted(excluded.items())))


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
    tokens = [_tokens(function) for function in progress(used, "checking splits")]
    keys: dict[str, list[Hashable]] = {
        "exact": [_sha256(function.code) for function in used],
        "exact with docstring": [_sha256(function.source) for function in used],
        "whitespace": ["".join(function.code.split()) for function in used],
        "identifiers": [_blanked_again(f, row) for f, row in zip(used, tokens, strict=True)],
        "docstring start": [_docstring_start(function) for function in used],
    }
    ids = [function.id for function in used]
    groups = {check: _equals(values) for check, values in keys.items()}
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


def files_of(corpus: Corpus, splits: Splits, name: SplitName) -> list[SourceFile]:
    """Return the files of one split, sorted by path."""
    inside = (file for file in corpus.files if splits.split_of[file.path] == name)
    return [file for file in inside if file.path not in splits.excluded_files]


def functions_of(functions: Iterable[Function], splits: Splits, name: SplitName) -> list[Function]:
    """Return the functions of one split in their given order, without the excluded ones."""
    inside = (function for function in functions if splits.split_of[function.path] == name)
    return [function for function in inside if function.id not in splits.excluded_functions]


# --- twins ---------------------------------------------------------------------------------------


def _twins(functions: Sequence[Function], threshold: float) -> list[tuple[str, Sequence[int]]]:
    """Return (reason, indices) of functions that are twins of each other, the plainest reason first."""
    tokens = [_tokens(function) for function in functions]
    shown = zip(progress(functions, "comparing functions"), tokens, strict=True)
    groups = {
        "same code": _equals(["".join(function.code.split()) for function in functions]),
        "same but for names": _equals([_blanked(function, row) for function, row in shown]),
        "near duplicate": near_duplicates([shingles(row) for row in tokens], threshold),
        "same docstring start": _equals([_docstring_start(function) for function in functions]),
    }
    return [(reason, members) for reason, found in groups.items() for members in found]


def _equals(keys: Sequence[Hashable | None]) -> list[list[int]]:
    """Return the indices that share a key, where there are at least two; None equals nothing."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        if key is not None:
            members[key].append(index)
    return [group for group in members.values() if len(group) > 1]


def _tokens(function: Function) -> list[str]:
    """Return the tokens of a function's code without comments."""
    if function.language == "python":
        return python_tokens(function.code)
    return [token.text for token in tokens_of(function.code, function.language)]


def _blanked(function: Function, tokens: Sequence[str]) -> str | None:
    """Return the syntax (or tokens) with every identifier blanked; None for tiny functions."""
    if len(tokens) < MIN_TOKENS:
        return None
    if function.language == "python":
        return blank_syntax(function.code)
    typed = tokens_of(function.code, function.language)
    return " ".join("_" if token.is_name else token.text for token in typed)


def _blanked_again(function: Function, tokens: Sequence[str]) -> str | None:
    """Return the same for the check, for Python from the token stream: keywords and literals are kept."""
    if function.language != "python" or len(tokens) < MIN_TOKENS:
        return _blanked(function, tokens)
    return " ".join("_" if t.isidentifier() and not keyword.iskeyword(t) else t for t in tokens)


def blank_syntax(code: str) -> str | None:
    """Return the syntax tree as text, without layout and comments, with every identifier blanked."""
    tree = parse_or_reason(code)
    if isinstance(tree, str):
        return None
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr", "name", "asname", "module", "rest"):
            if isinstance(getattr(node, field, None), str):
                setattr(node, field, "_")
        for field in ("names", "kwd_attrs"):
            values = getattr(node, field, None)
            if values and isinstance(values[0], str):
                setattr(node, field, ["_"] * len(values))
    return ast.dump(tree)


def _docstring_start(function: Function) -> str | None:
    """Return the first paragraph in lower case with single spaces; None where it is too short."""
    words = function.docstring.partition("\n\n")[0].lower().split()
    return " ".join(words) if len(words) >= MIN_WORDS else None


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


# --- dealing -------------------------------------------------------------------------------------


def _groups(
    corpus: Corpus, functions: Sequence[Function], twins: Sequence[tuple[str, Sequence[int]]]
) -> list[list[str]]:
    """Return files that stay together: SHARED_SHARE of the smaller one's functions have twins in the other.

    Code that occurs in more than BOILERPLATE_FILES files ties no two of them, which also keeps the cost
    linear.
    """
    sizes = Counter(function.path for function in functions)
    shared: dict[tuple[str, str], tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
    for reason, members in twins:
        by_file: dict[str, list[int]] = defaultdict(list)
        for index in members:
            by_file[functions[index].path].append(index)
        if reason != "same docstring start" and len(by_file) <= BOILERPLATE_FILES:
            for a, b in itertools.combinations(sorted(by_file), 2):
                shared[a, b][0].update(by_file[a])
                shared[a, b][1].update(by_file[b])
    graph = nx.Graph()
    graph.add_nodes_from(file.path for file in corpus.files)
    for (a, b), (in_a, in_b) in sorted(shared.items()):
        small, count = (a, len(in_a)) if sizes[a] <= sizes[b] else (b, len(in_b))
        if count >= SHARED_SHARE * sizes[small]:
            graph.add_edge(a, b)
    return sorted(sorted(component) for component in nx.connected_components(graph))


def _deal(
    groups: list[list[str]],
    functions: Sequence[Function],
    corpus: Corpus,
    settings: CorpusSettings,
    seed: int,
) -> dict[str, SplitName]:
    """Give each group to the split furthest behind its fraction, groups rich in doctests first.

    "Behind" is relative to the fraction and weighted by how much of each measure the group has. Part of
    the group itself counts as dealt already: with none of it, one big file would overfill a small split;
    with all of it, that split would get small files only. Groups with about as many doctests are dealt in
    the order of a hash of seed and path.
    """
    fractions: dict[SplitName, float] = {
        "train": settings.train_fraction,
        "test": 1.0 - settings.train_fraction - settings.validation_fraction,
        "validation": settings.validation_fraction,
    }
    weights = _weights(corpus, functions)

    def turn(group: list[str]) -> tuple[int, str]:
        doctests = sum(weights[path][3] for path in group)
        return -int(1000 * doctests).bit_length(), _sha256(f"{seed}:{group[0]}")

    filled = {name: [0.0] * 4 for name in fractions}
    dealt: dict[SplitName, list[list[str]]] = {name: [] for name in fractions}
    for group in sorted(groups, key=turn):
        size = [sum(weights[path][measure] for path in group) for measure in range(4)]
        behind: dict[SplitName, float] = {}
        for name, fraction in fractions.items():
            have = zip(size, filled[name], strict=True)
            lacking = sum(own * (fraction - before - OWN_WEIGHT * own) for own, before in have)
            behind[name] = lacking / max(fraction, 1e-9)
        best = max(behind, key=behind.get)
        dealt[best].append(group)
        filled[best] = list(map(operator.add, filled[best], size))
    for name in ("test", "validation"):
        if not dealt[name] and fractions[name] > 0 and len(dealt["train"]) > 1:
            dealt[name].append(dealt["train"].pop())
    return {path: name for name in dealt for group in dealt[name] for path in group}


def _weights(corpus: Corpus, functions: Sequence[Function]) -> dict[str, tuple[float, ...]]:
    """Return path -> share of the corpus's bytes, functions, documented and doctested functions."""
    counts = {file.path: [file.n_bytes, 0, 0, 0] for file in corpus.files}
    for function in functions:
        counts[function.path][1] += 1
        counts[function.path][2] += bool(function.docstring)
        counts[function.path][3] += bool(function.doctests)
    totals = [max(1, sum(row[measure] for row in counts.values())) for measure in range(4)]
    return {path: tuple(map(operator.truediv, row, totals)) for path, row in counts.items()}
