"""Words of any alphabet: what counts as a letter, and how names and unspaced scripts fall into words.

A word is a run of letters and digits of any alphabet with the marks on them. Chinese, Japanese, Thai, Lao,
Khmer and Burmese put no blanks between words; there every two neighbouring characters count as a word, as
in Lucene's CJKAnalyzer ("二分木" gives "二分" and "分木"; one character alone is a word). Text is compared in
the form NFKC, in which Python compares names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

LAST_MARK = 0x20000  # no script has combining marks above


def _class_of(codes: Iterator[int]) -> str:
    """Return code points as the inside of a character class."""
    return "".join(map(chr, codes))


MARKS = _class_of(c for c in range(0x300, LAST_MARK) if unicodedata.category(chr(c)).startswith("M"))
# Letters, marks and digits of the scripts that are written without blanks.
UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0edf"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17dd"  # Burmese, Khmer
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # Japanese syllables
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Chinese characters
)
WORD = rf"(?:[^\W_]|[{MARKS}])+"  # letters, marks and digits
LETTERS = rf"(?:[^\W\d]|[{MARKS}])"  # one of an identifier's characters other than digits
NAME = re.compile(rf"[^\W\d](?:\w|[{MARKS}])*|\d+")
_RUN = re.compile(rf"[{UNSPACED}]+|[^{UNSPACED}]+")
_IS_UNSPACED = re.compile(rf"[{UNSPACED}]")
_IS_MARK = re.compile(rf"[{MARKS}]")
_ASCII_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_PART = re.compile(r"U+(?=Ul)|U?l+|U+|d+|o+|c+")


def same_form(text: str) -> str:
    """Return `text` in the form in which words are compared, NFKC."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def separate(word: str) -> list[str]:
    """Return `word` as it is, or the pairs of characters of its parts in unspaced scripts.

    >>> separate("größe"), separate("二分木"), separate("x木")
    (['größe'], ['二分', '分木'], ['x', '木'])
    """
    if word.isascii() or not _IS_UNSPACED.search(word):
        return [word]
    runs = _RUN.findall(word)
    return [part for run in runs for part in (_pairs(run) if is_unspaced(run) else [run])]


def is_unspaced(word: str) -> bool:
    """Return whether `word` begins in a script that is written without blanks."""
    return bool(_IS_UNSPACED.match(word))


def name_parts(name: str) -> list[str]:
    """Return the lower-case parts of a snake_case or CamelCase name in any alphabet.

    >>> name_parts("HTTPServer_größeÄndern2")
    ['http', 'server', 'größe', 'ändern', '2']
    """
    if name.isascii():
        return [part.lower() for part in _ASCII_PART.findall(name)]
    name = same_form(name)
    shape = "".join(map(_shape, name))
    while "m" in shape:  # a mark belongs to the letter before it
        shape = re.sub(r"(?:^|(.))m", lambda match: (match.group(1) or "o") * len(match.group()), shape)
    found = []
    for match in _PART.finditer(shape):
        part = name[match.start() : match.end()].lower()
        found += _pairs(part) if shape[match.start()] == "c" else [part]
    return found


def is_letter(character: str) -> bool:
    """Return whether a character is a letter, or a mark on one."""
    return character.isalpha() or bool(_IS_MARK.match(character))


def _pairs(run: str) -> list[str]:
    return [one + other for one, other in pairwise(run)] or [run]


def _shape(character: str) -> str:
    """Return the kind: U upper, l lower case, o caseless, c unspaced, m mark, d digit, _ other."""
    if _IS_UNSPACED.match(character):
        return "c"
    if _IS_MARK.match(character):
        return "m"
    if character.isdecimal():
        return "d"
    if not character.isalnum():
        return "_"
    return "l" if character.islower() else "U" if character.isupper() or character.istitle() else "o"
