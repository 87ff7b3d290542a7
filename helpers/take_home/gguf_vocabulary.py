"""Write a tokenizer into GGUF metadata, under the name of the one splitting rule that gives its token ids.

llama.cpp does not read tokenizer.json: it has the vocabulary, the merges, each token's type, and the *name*
of a rule by which text is split. A wrong name cuts text otherwise than in training, which no error shows. So
each rule known here is tried, and one is taken only if its ids agree with the tokenizer's on probes and on
the run's own held-out text.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, Keys
from transformers import PreTrainedTokenizerBase

from helpers.models.gguf.header import GgufHeader
from helpers.models.gguf.token_rules import SPLITS, WHOLE_WORDS_FIRST, build_tokenizer
from helpers.models.infilling import FAMILIES, infill_mark_ids
from helpers.models.saved_tokenizer import PROBES
from helpers.models.tokens import batch_token_ids, turn_end_id
from helpers.take_home.measured_model import ExportError

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # llama.cpp's types of tokens
PROBED_CHARACTERS = 20_000  # of each held-out text
# llama.cpp's key -> the names that families give the token.
FILL_IN = {
    Keys.Tokenizer.FIM_PRE_ID: (*(marks[0] for marks in FAMILIES), "<|fim_begin|>"),
    Keys.Tokenizer.FIM_SUF_ID: (*(marks[1] for marks in FAMILIES), "<|fim_hole|>"),
    Keys.Tokenizer.FIM_MID_ID: (*(marks[2] for marks in FAMILIES), "<|fim_end|>"),
    Keys.Tokenizer.FIM_PAD_ID: ("<|fim_pad|>", "<fim_pad>"),
    Keys.Tokenizer.FIM_REP_ID: ("<|repo_name|>", "<repo_name>", "<reponame>"),
    Keys.Tokenizer.FIM_SEP_ID: ("<|file_sep|>", "<file_sep>"),
}


def vocabulary_fields(
    tokenizer: PreTrainedTokenizerBase, rows: int, ends: Sequence[int], texts: Sequence[str]
) -> dict[str, Any]:
    """Return the `tokenizer.*` keys of a GGUF file for a model whose embedding has `rows` rows.

    Args:
        ends: ids that end a text or turn, the main one first; all of them get a key as far as there are keys.
        texts: held-out text, on which the ids have to agree besides the probes.

    Raises:
        ExportError: if llama.cpp has no such tokenizer, or none of the rules known here gives its ids.
    """
    plan = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {}
    model = plan.get("model", {})
    if model.get("type") != "BPE" or model.get("byte_fallback") or plan.get("normalizer"):
        raise ExportError(
            "the tokenizer of this model is not byte-level BPE without normalisation, the one kind that can "
            "be written to GGUF with the same token ids; export it with --to hf"
        )
    known = {number: token for token, number in model["vocab"].items()}
    added = dict(tokenizer.added_tokens_decoder)
    known |= {number: token.content for number, token in added.items()}
    if max(known) >= rows:
        raise ExportError(f"the tokenizer has the id {max(known)}, and the embedding only {rows} rows")
    named = {token.content: number for number, token in added.items()}  # Qwen2.5-Coder's are not special
    fill_in = {
        key: named[found]
        for key, names in FILL_IN.items()
        if (found := next((name for name in names if name in named), None))
    }

    def type_of(number: int) -> int:
        if number in added:
            return CONTROL if added[number].special else USER_DEFINED
        return NORMAL if number in known else UNUSED

    fields = {
        Keys.Tokenizer.MODEL: "gpt2",
        Keys.Tokenizer.LIST: [known.get(number, f"[PAD{number}]") for number in range(rows)],
        Keys.Tokenizer.TOKEN_TYPE: [type_of(number) for number in range(rows)],
        Keys.Tokenizer.MERGES: [
            " ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]
        ],
        Keys.Tokenizer.ADD_BOS: False,  # as measured: no token is added to a prompt
        Keys.Tokenizer.ADD_EOS: False,
        **_roles(tokenizer, ends, infill_mark_ids(tokenizer) | {*fill_in.values()}),
        **fill_in,
    }
    if tokenizer.chat_template:
        fields[Keys.Tokenizer.CHAT_TEMPLATE] = str(tokenizer.chat_template)
    return fields | {Keys.Tokenizer.PRE: _rule(tokenizer, fields, texts)}


def add_fields(writer: GGUFWriter, fields: dict[str, Any]) -> None:
    """Add keys to a file, each in the type that llama.cpp expects."""
    for key, value in fields.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)


def _roles(
    tokenizer: PreTrainedTokenizerBase, ends: Sequence[int], fill_in: Collection[int]
) -> dict[str, int]:
    """Return the keys of end, begin and pad tokens.

    A file has three keys for tokens that end something. llama.cpp ends at all three, at what it knows by name
    (`<|im_end|>`, `<|endoftext|>` and their like), and at the tokens around files, which have their own keys.
    It cannot be told to end at the marks of fill-in-the-middle.
    """
    turn = turn_end_id(tokenizer)
    known = [end for end in ends if end not in fill_in]
    ordered = list(dict.fromkeys([*known[:1], *([turn] if turn is not None else []), *known[1:]]))
    keys = (Keys.Tokenizer.EOS_ID, Keys.Tokenizer.EOT_ID, Keys.Tokenizer.EOM_ID)
    found = dict(zip(keys, ordered, strict=False))
    # Without the key, llama.cpp takes the token number 11 for one that begins a text, whatever that is.
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else next(iter(found.values()), None)
    if begin is not None:
        found[Keys.Tokenizer.BOS_ID] = begin
    if tokenizer.pad_token_id is not None:
        found[Keys.Tokenizer.PAD_ID] = tokenizer.pad_token_id
    return found


def _rule(tokenizer: PreTrainedTokenizerBase, fields: dict[str, Any], texts: Sequence[str]) -> str:
    """Return the name of a rule whose ids are the tokenizer's on all texts."""
    probes = [*PROBES, *(text[:PROBED_CHARACTERS] for text in texts)]
    wanted = batch_token_ids(tokenizer, probes)
    tried: set[tuple[Any, ...]] = set()
    for name, expressions in SPLITS.items():
        header = GgufHeader(Path("export.gguf"), fields | {Keys.Tokenizer.PRE: name}, (), {})
        form = (expressions, name in WHOLE_WORDS_FIRST)
        if form in tried:
            continue
        tried.add(form)
        if batch_token_ids(build_tokenizer(header)[0], probes) == wanted:
            return name
    raise ExportError(
        "llama.cpp would cut text otherwise than this model's tokenizer: none of the rules of splitting "
        f"known here ({', '.join(SPLITS)}) gives its token ids; export it with --to hf"
    )
