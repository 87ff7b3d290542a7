"""Near-duplicate search shared by cleaning and splitting: token shingles, MinHash, true Jaccard.

Candidates come from MinHash signatures in locality-sensitive buckets (datasketch); each is then
confirmed by the exact Jaccard similarity |A ∩ B| / |A ∪ B| of the two shingle sets, so a pair is
never reported on an estimate. 32 bands of 4 rows miss a pair of similarity s with probability
(1 - s⁴)³²: 6e-11 at 0.85, 4e-4 at 0.7. Cost grows with the number of sets, not of pairs.
"""

from __future__ import annotations

import io
import re
import tokenize
import zlib
from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH

BANDS, ROWS = 32, 4
SHINGLE_TOKENS = 5
WORDS = re.compile(r"\w+|[^\w\s]")
LAYOUT_TOKENS = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER, tokenize.ENCODING,
}  # fmt: skip


def near_duplicate_pairs(
    sets: Sequence[frozenset[int]], threshold: float, *, seed: int = 1
) -> list[tuple[int, int, float]]:
    """Pairs (i, j, similarity) with i < j and Jaccard similarity at or above `threshold`, sorted.

    Args:
        sets: shingle sets; an empty one is like nothing, not even another empty one.
        threshold: in (0, 1]; the bands are laid out for 0.7 and above.
        seed: of the hash permutations; a second seed gives an independent search.
    """
    filled = [index for index, members in enumerate(sets) if members]
    buckets = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    pairs = []
    signatures = MinHash.generator(
        ([b"%d" % member for member in sets[index]] for index in filled),
        num_perm=BANDS * ROWS, seed=seed, hashfunc=zlib.crc32,
    )  # fmt: skip
    for index, signature in zip(filled, signatures, strict=True):
        for other in buckets.query(signature):
            similarity = jaccard(sets[index], sets[other])
            if similarity >= threshold:
                pairs.append((other, index, similarity))
        buckets.insert(index, signature, check_duplication=False)
    return sorted(pairs)


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """|A ∩ B| / |A ∪ B|; 0 for two empty sets."""
    union = len(a | b)
    return len(a & b) / union if union else 0.0


def shingles(tokens: Sequence[str], size: int = SHINGLE_TOKENS) -> frozenset[int]:
    """CRC-32 of each run of `size` tokens; a shorter sequence is one shingle of its own."""
    if not tokens:
        return frozenset()
    runs = max(1, len(tokens) - size + 1)
    return frozenset(zlib.crc32("\n".join(tokens[i : i + size]).encode()) for i in range(runs))


def file_tokens(text: str) -> list[str]:
    """Words and punctuation of a whole file, comments and docstrings included."""
    return WORDS.findall(text)


def code_tokens(code: str) -> list[str]:
    """Python tokens of code that parses, without comments, line ends and indentation."""
    stream = tokenize.generate_tokens(io.StringIO(code).readline)
    return [token.string for token in stream if token.type not in LAYOUT_TOKENS]
