"""Text to token ids, the same way wherever tokens are counted, trained on or scored."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of plain text: no token is added, and nothing in it is read as a special token."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids
