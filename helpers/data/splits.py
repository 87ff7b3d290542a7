"""Split files into train, validation and test.

Each file lies in one split. Files that share much of their code go to the same split. A function that
still has a twin (`helpers.data.twins`) in a more important split is left out of evaluation and listed with
the reason: train outranks test (what was trained on cannot be tested), and test outranks validation.
`helpers.data.leaks` checks the result by other means.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import networkx as nx

from helpers.data.twins import find_twins
from helpers.records import Corpus, Function, SourceFile, SplitName, Splits
from helpers.settings import CorpusSettings

OWN_WEIGHT = 0.25  # part of a group that counts as dealt already (see `_deal`); 0.5 biases the sizes
BOILERPLATE_FILES = 6  # code found in more files than this does not relate any two of them
SHARED_SHARE = 0.3  # share of the smaller file's functions with a twin in the other file
RANK: dict[SplitName, int] = {"train": 0, "test": 1, "validation": 2}  # the higher rank is left out


def split_corpus(
    corpus: Corpus, functions: Sequence[Function], settings: CorpusSettings, seed: int
) -> Splits:
    """Assign every file to a split and list the functions that evaluation must not use.

    Bytes, functions, documented functions and functions with doctests all follow the fractions in the
    settings, as closely as whole files allow. Order depends only on `seed` and the paths. With three groups
    of files or more no split is empty; two groups give train and test, one gives train.
    """
    twins = find_twins(functions, settings.near_duplicate_threshold)
    split_of = _deal(_groups(corpus, functions, twins), functions, corpus, settings, seed)
    excluded: dict[str, str] = {}
    for reason, members in twins:
        ranks = [RANK[split_of[functions[index].path]] for index in members]
        kept = functions[members[ranks.index(min(ranks))]]
        for index, rank in zip(members, ranks, strict=True):
            if rank > min(ranks):
                excluded.setdefault(functions[index].id, f"{reason}: {kept.id} in {split_of[kept.path]}")
    return Splits(split_of, dict(sorted(excluded.items())))


def files_of(corpus: Corpus, splits: Splits, name: SplitName) -> list[SourceFile]:
    """Return the files of one split, sorted by path."""
    inside = (file for file in corpus.files if splits.split_of[file.path] == name)
    return [file for file in inside if file.path not in splits.excluded_files]


def functions_of(functions: Iterable[Function], splits: Splits, name: SplitName) -> list[Function]:
    """Return the functions of one split in their given order, without the excluded ones."""
    inside = (function for function in functions if splits.split_of[function.path] == name)
    return [function for function in inside if function.id not in splits.excluded_functions]


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
        return -int(1000 * doctests).bit_length(), hashlib.sha256(f"{seed}:{group[0]}".encode()).hexdigest()

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
