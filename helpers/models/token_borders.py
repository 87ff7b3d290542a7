"""Ends of prompts that a tokenizer would join with what comes next.

Many tokenizers join a line's end, or the last of some blanks, with what stands behind it. A prompt cut there
ends in tokens that stand so in no text, and the model goes on as if something unusual came: SmolLM2 completed
0 of 67 next lines exactly. So the tokens that would change are held back from the prompt. The model writes
their white space itself, as a part of whatever token it likes best, and may write nothing else first ("token
healing"). Pieces of that white space it may write only as the tokenizer cuts them: other pieces stand in no
text either, and what follows one of them is often another blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from helpers.models.tokens import continuing_ids, in_common

BLANKS = " \t\r\n"  # other white space takes several tokens, none of which is white space alone
PROBES = ("x", "    x", "\tx")  # what may come next: code at the line's start, or indented
MOST_BEFORE = 8  # tokens that a model may be made to write before its text; usual are one or two
TAIL = 64  # characters before the end that are encoded to see whether it would be joined

_known: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[tuple[int, str], ...]] = WeakKeyDictionary()


def held_back(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Return the white space at the end of `text` that `tokenizer` may join with what comes next, or "".

    It is "" too where tokens alone do not spell what they do in a text, as in Llama's first tokenizers, and
    where writing it would take more than `MOST_BEFORE` tokens.
    """
    bare = text.rstrip(BLANKS)
    if not bare or bare == text:
        return ""
    blanks = text[len(bare) :]
    tail = text[-len(blanks) - TAIL :]
    known = continuing_ids(tokenizer, tail)
    kept = min(in_common(known, continuing_ids(tokenizer, tail + probe)) for probe in PROBES)
    if kept == len(known):
        return ""
    stays = _decoded(tokenizer, known[:kept])
    # Where the token that would change holds more than white space, all of that is held back.
    held = tail[len(stays) :] if tail.startswith(stays) and len(stays) >= len(tail) - len(blanks) else blanks
    is_spelled = "".join(_texts(tokenizer, continuing_ids(tokenizer, f"{held}x"))) == f"{held}x"
    return held if is_spelled and HeldText(tokenizer, held).most_before <= MOST_BEFORE else ""


@dataclass(frozen=True, eq=False)
class HeldText:
    """White space that was held back, which a model has to write before anything else."""

    tokenizer: PreTrainedTokenizerBase
    text: str

    def next_tokens(self, written: Sequence[int]) -> list[int] | None:
        """Return the tokens that may follow `written`; None: all, since the white space is written."""
        if len(written) >= len(self.text):  # no token is empty
            return None
        left = self.text[len(_decoded(self.tokenizer, written)) :]
        if not left:
            return None
        beyond = [token for token, text in _blank_tokens(self.tokenizer) if text.startswith(left)]
        within = [
            tokens[len(written)]
            for tokens in self._pieces
            if len(tokens) > len(written) and tokens[: len(written)] == list(written)
        ]
        return sorted({*beyond, *within})

    def covers(self, written: Sequence[int]) -> bool:
        """Return whether `written` holds nothing but this white space or a part of it."""
        return len(written) <= self.most_before and len(_decoded(self.tokenizer, written)) <= len(self.text)

    def count_before(self, written: Sequence[int]) -> int:
        """Return how many of the first tokens of `written` hold nothing but this white space."""
        return sum(self.covers(written[:n]) for n in range(1, min(self.most_before, len(written)) + 1))

    @cached_property
    def most_before(self) -> int:
        """How many tokens may be written, at most, that hold nothing but this white space."""
        return 1 + max(map(len, self._pieces), default=0)

    @cached_property
    def _pieces(self) -> list[list[int]]:
        """The tokens of a part of the white space without its end, before each of the probes."""
        found = []
        for probe in PROBES:
            tokens = continuing_ids(self.tokenizer, self.text + probe)
            texts = _texts(self.tokenizer, tokens)
            if "".join(texts) == self.text + probe:
                ends = accumulate(map(len, texts))
                found.append(tokens[: sum(end < len(self.text) for end in ends)])
        return found


def _blank_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, str], ...]:
    """Return the tokens that begin with white space, each with its text; special ones are no text."""
    if tokenizer not in _known:
        ids = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
        texts = zip(ids, _texts(tokenizer, ids), strict=True)
        _known[tokenizer] = tuple((token, text) for token, text in texts if text[:1].isspace())
    return _known[tokenizer]


def _texts(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> list[str]:
    """Return the text of each token alone."""
    return tokenizer.batch_decode([[token] for token in tokens], clean_up_tokenization_spaces=False)


def _decoded(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    return tokenizer.decode(tokens, clean_up_tokenization_spaces=False) if tokens else ""
