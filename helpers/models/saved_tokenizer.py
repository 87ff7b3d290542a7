"""Load a tokenizer that gives the ids of its saved `tokenizer.json`: those that the model was trained on.

`AutoTokenizer` chooses a class by the model's family and rebuilds the tokenizer in that class' form. A
tokenizer of one's own beside a Qwen2 configuration comes back with Qwen2's splitting and its normalisation
to NFC, without a word: other ids than in training, and text that does not come back as it was.
"""

from __future__ import annotations

import functools
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from helpers.errors import SuiteError

SAVED = "tokenizer.json"
# One for each thing on which tokenizers were seen to differ, and plain code.
PROBES = (
    "def add_item(self, value: int = 10, *args) -> None:\n    return self._items[-1] + value\n",
    "for (int i = 0; i < 128; ++i) {\r\n\tsum += a[i] * 0x1F;\r\n}\r\n",
    "1234567890 3.14159 2024-01-31 1_000_000",
    "   three\n\n\n      blanks   \t\t tabs\t\n",
    "x" * 40 + " " * 20 + "y",
    "e\u0301 \u00e9 \u1e9b\u0323 \ufb01 \u2460 \u212b \uff21",  # what NFC and NFKC change
    "größe naïve Ελληνικά файл 漢字かな 한국어 हिन्दी עברית عربى",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \u200b\u00a0\u2028",
    "don't WE'LL I'm they've",
    "HTTPServerErrorCode camelCase snake_case kebab-case",
    "!!!???...;;;==>>= != -> => :: && || ///",
    "\"'`\\\\n\\t\\x00",
    " leading",
    "trailing ",
    "\n",
    "a",
    "\u0000\u0007",
    "<b>&amp;</b> ${x} #{y} %s",
)


class SavedTokenizerError(SuiteError, RuntimeError):
    """The installed transformers cannot give the ids of a model's own tokenizer.json."""


def load_saved_tokenizer(source: str, *, offline: bool) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder or hub name, with the ids of its tokenizer.json where it has one.

    `AutoTokenizer` is asked first; if it gives other ids, the file is loaded as it is.

    Raises:
        SavedTokenizerError: if that gives other ids, too.
        Exception: whatever the library raises if there is no tokenizer.
    """
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=offline)
    return exact_tokenizer(tokenizer, source, offline=offline)


def exact_tokenizer(
    tokenizer: PreTrainedTokenizerBase, source: str, *, offline: bool, subfolder: str = ""
) -> PreTrainedTokenizerBase:
    """Return `tokenizer`, loaded from `source`, or the file itself loaded where their ids differ.

    Args:
        subfolder: of `source` in which the tokenizer lies.

    Raises:
        SavedTokenizerError: as `load_saved_tokenizer`.
    """
    saved = saved_file(source, subfolder)
    if saved is None or not other_ids(tokenizer, saved):
        return tokenizer
    exact = PreTrainedTokenizerFast.from_pretrained(source, local_files_only=offline, subfolder=subfolder)
    if differing := other_ids(exact, saved):
        raise SavedTokenizerError(
            f"the tokenizer of {source!r} gives other ids than its {SAVED}, e.g. for {differing[0]!r}: "
            "the model would read another text than in its training. Save the tokenizer again with the "
            "installed transformers, or choose another model"
        )
    return exact


def saved_file(source: str, subfolder: str = "") -> Path | None:
    """Return the tokenizer.json of a folder or of a hub name in the cache; None if there is none."""
    if Path(source).is_dir():
        file = Path(source) / subfolder / SAVED
        return file if file.is_file() else None
    found = try_to_load_from_cache(source, f"{subfolder}/{SAVED}" if subfolder else SAVED)
    return Path(found) if isinstance(found, str) else None


def other_ids(tokenizer: PreTrainedTokenizerBase, saved: Path) -> list[str]:
    """Return the probe texts for which `tokenizer` gives other ids than the file; [] is as it should be."""
    facts = saved.stat()
    wanted = _saved_ids(str(saved), facts.st_mtime_ns, facts.st_size)
    got = tokenizer(list(PROBES), add_special_tokens=False, verbose=False).input_ids
    return [text for text, one, other in zip(PROBES, wanted, got, strict=True) if one != list(other)]


@functools.lru_cache(maxsize=8)
def _saved_ids(file: str, changed_ns: int, n_bytes: int) -> list[list[int]]:
    """Return the ids of the probes by the file itself; a large vocabulary takes a second to read."""
    tokenizer = Tokenizer.from_file(file)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return [encoded.ids for encoded in tokenizer.encode_batch(list(PROBES), add_special_tokens=False)]
