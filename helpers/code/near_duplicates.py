"""Near-duplicate search shared by cleaning and splitting: token shingles, MinHash, exact Jaccard.

Candidates come from MinHash signatures in locality-sensitive buckets (datasketch). Each is confirmed
by the exact Jaccard similarity |A ∩ B| / |A ∪ B| of the two shingle sets, so no pair is reported on an
estimate alone. 32 bands of 4 rows miss a pair of similarity s with probability (1 - s⁴)³²: 6e-11 at
0.85, 4e-4 at 0.7. The cost grows with the number of sets, not of pairs.
"""

from __future__ import annotations

import re
import tokenize
import zlib
from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH

from helpers.code.python_text import tokenize_python

BANDS, ROWS = 32, 4
SHINGLE_TOKENS = 5
WORDS = re.compile(r"\w+|[^\w\s]")
LAYOUT_TOKENS = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER, tokenize.ENCODING,
}  # fmt: skip


def near_duplicates(
    sets: Sequence[frozenset[int]], threshold: float, *, seed: int = 1
) -> list[tuple[int, ...]]:
    """Return groups of indices: one for all copies of a set, and one for each pair of similar sets.

    Copies are compared once, so many cost no more than one. If J(A, B) >= `threshold`, one tuple lists
    every index whose set is A or B.

    Args:
        sets: shingle sets; an empty one is similar to nothing, not even to another empty one.
        threshold: in (0, 1]; the bands are designed for 0.7 and above.
        seed: seed of the hash permutations; a second seed gives an independent search.

    Returns:
        Sorted tuples of at least two indices each; an index can occur in several.
    """
    members: dict[frozenset[int], list[int]] = {}
    for index, shingle_set in enumerate(sets):
        if shingle_set:
            members.setdefault(shingle_set, []).append(index)
    different = list(members)
    found = [tuple(group) for group in members.values() if len(group) > 1]
    buckets = _Buckets(threshold, seed)
    for position, (shingle_set, group) in enumerate(members.items()):
        for other in buckets.like(shingle_set):
            found.append(tuple(sorted(members[different[other]] + group)))
        buckets.add(position, shingle_set)
    return sorted(found)


def earlier_duplicates(sets: Sequence[frozenset[int]], threshold: float) -> list[int | None]:
    """Return, for each set, the index of the first earlier original that it nearly duplicates, or None.

    In order, each set is either an original (None) or a near-duplicate of an earlier original. Sets are
    compared with originals only: in a chain of gradual changes, the first set that is unlike the start is
    an original again. The cost grows with the number of sets.
    """
    buckets = _Buckets(threshold, seed=1)
    earlier: list[int | None] = []
    for index, shingle_set in enumerate(sets):
        earlier.append(min(buckets.like(shingle_set), default=None))
        if earlier[-1] is None:
            buckets.add(index, shingle_set)
    return earlier


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """Return |A ∩ B| / |A ∪ B|; 0 for two empty sets."""
    shared = len(a & b)
    union = len(a) + len(b) - shared
    return shared / union if union else 0.0


def shingles(tokens: Sequence[str], size: int = SHINGLE_TOKENS) -> frozenset[int]:
    """Return the CRC-32 of each run of `size` tokens; a shorter sequence is a single shingle."""
    if not tokens:
        return frozenset()
    runs = max(1, len(tokens) - size + 1)
    return frozenset(zlib.crc32("\n".join(tokens[i : i + size]).encode()) for i in range(runs))


def file_tokens(text: str) -> list[str]:
    """Return the words and punctuation of a whole file, including comments and docstrings."""
    return WORDS.findall(text)


def python_tokens(code: str) -> list[str]:
    """Return the Python tokens of code that parses, without comments, line ends and indentation."""
    return [token.string for token in tokenize_python(code) if token.type not in LAYOUT_TOKENS]


class _Buckets:
    """Index of shingle sets by similarity: MinHash buckets give candidates, exact Jaccard confirms them."""

    def __init__(self, threshold: float, seed: int) -> None:
        self.threshold = threshold
        self.blank = MinHash(num_perm=BANDS * ROWS, seed=seed, hashfunc=zlib.crc32)
        self.index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
        self.sets: dict[int, frozenset[int]] = {}
        self.last: tuple[frozenset[int], MinHash] | None = None

    def like(self, shingle_set: frozenset[int]) -> list[int]:
        """Return the sorted keys of the sets whose similarity to this one is at least `threshold`."""
        if not shingle_set:
            return []
        candidates = self.index.query(self._signature(shingle_set))
        return sorted(key for key in candidates if jaccard(self.sets[key], shingle_set) >= self.threshold)

    def add(self, key: int, shingle_set: frozenset[int]) -> None:
        """Add a set to the index; an empty one is ignored."""
        if shingle_set:
            self.index.insert(key, self._signature(shingle_set), check_duplication=False)
            self.sets[key] = shingle_set

    def _signature(self, shingle_set: frozenset[int]) -> MinHash:
        if self.last is None or self.last[0] is not shingle_set:  # `add` follows `like` on one set
            signature = self.blank.copy()
            signature.update_batch([b"%d" % shingle for shingle in shingle_set])
            self.last = (shingle_set, signature)
        return self.last[1]
