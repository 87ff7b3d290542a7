"""Ends of prompts that a tokenizer would join with what comes next.

Many tokenizers join a line's end, or the last of some blanks, with what stands behind it. A prompt cut there
ends in tokens that stand so in no text, and the model goes on as if something unusual came: SmolLM2 completed
0 of 67 next lines exactly. So such an end is held back from the prompt. The model writes it itself, as a part
of whatever token it likes best, and may write nothing else first ("token healing").
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from helpers.models.tokens import continuing_ids

BLANKS = " \t\r\n"  # other white space takes several tokens, none of which is white space alone
PROBES = ("x", "    x", "\tx")  # what may come next: code at the line's start, or indented
TAIL = 64  # characters before the end that are encoded to see whether it would be joined

_blank_tokens: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[tuple[int, str], ...]] = WeakKeyDictionary()


def held_back(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Return the white space at the end of `text` that `tokenizer` may join with what comes next, or "".

    It is "" too where tokens alone do not spell what they do in a text, as in Llama's first tokenizers.
    """
    bare = text.rstrip(BLANKS)
    if not bare or bare == text:
        return ""
    tail = text[-(len(text) - len(bare)) - TAIL :]
    known = continuing_ids(tokenizer, tail)
    joined = (continuing_ids(tokenizer, tail + probe)[: len(known)] != known for probe in PROBES)
    held = text[len(bare) :]
    pieces = tokenizer.batch_decode(
        [[token] for token in continuing_ids(tokenizer, f"{held}x")], clean_up_tokenization_spaces=False
    )
    return held if "".join(pieces) == f"{held}x" and any(joined) else ""


def next_tokens(tokenizer: PreTrainedTokenizerBase, held: str, written: Sequence[int]) -> list[int] | None:
    """Return the tokens that may follow `written` in a text that begins with the white space `held`.

    None: all, since `held` is written.
    """
    if len(written) >= len(held):  # no token is empty
        return None
    text = tokenizer.decode(written, clean_up_tokenization_spaces=False) if written else ""
    left = held[len(text) :]
    if not left:
        return None
    if tokenizer not in _blank_tokens:
        ids = range(len(tokenizer))
        texts = tokenizer.batch_decode([[token] for token in ids], clean_up_tokenization_spaces=False)
        _blank_tokens[tokenizer] = tuple(
            (token, text) for token, text in zip(ids, texts, strict=True) if text[:1].isspace()
        )
    return [
        token for token, text in _blank_tokens[tokenizer] if text.startswith(left) or left.startswith(text)
    ]
