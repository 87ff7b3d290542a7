"""Build the tokenizer that a GGUF file describes, with the token ids that llama.cpp gives.

A GGUF file names the rule by which text is split before the merges, and does not spell it out. `SPLITS`
spells out those rules whose ids were compared with llama.cpp's (`scripts/llama_cpp_ids.py`); a file with
another rule is refused, since its text would be cut otherwise than in the model's training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from helpers.models.gguf.header import GgufError, GgufHeader

CONTROL, USER_DEFINED = 3, 4  # token types
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
WORDS_AND_DIGITS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%s}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Name of the rule -> the expressions that split a text, each applied to what the one before it left.
SPLITS = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion"), (WORDS,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), (r"\p{N}", WORDS)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez"), (WORDS_AND_DIGITS % 1,)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), (WORDS_AND_DIGITS % 3,)),
}
WHOLE_WORDS_FIRST = ("llama-bpe", "llama3", "llama-v3")  # a word in the vocabulary needs no merges
# Tokens after which a text or a turn is over, whatever the file gives as its one end token.
ENDS = (
    "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>",
    "<end_of_turn>", "<|end_of_sentence|>", "</s>",
)  # fmt: skip
PADS = ("<|fim_pad|>", "<pad>", "[PAD]", "<|pad|>")
ONE_TOKEN_KEYS = ("eos", "eot", "eom")


@dataclass(frozen=True)
class Specials:
    """Token ids with a role. `ends` holds the file's own end token first."""

    ends: tuple[int, ...]
    pad: int | None
    begin: int | None
    repaired: tuple[str, ...]  # what differs from the file, in words


def build_tokenizer(header: GgufHeader) -> tuple[PreTrainedTokenizerFast, Specials]:
    """Return a tokenizer with llama.cpp's ids, and the tokens that have a role.

    Raises:
        GgufError: if the file's vocabulary is of a kind, or split by a rule, that is not known here.
    """
    kind, rule = header.fields.get("tokenizer.ggml.model"), header.fields.get("tokenizer.ggml.pre")
    if kind != "gpt2" or rule not in SPLITS:
        raise GgufError(
            f"{header.path.name} cuts text by the rule {rule or kind!r}, which is not known here (known: "
            f"{', '.join(sorted(SPLITS))}); take the model's safetensors folder or hub name"
        )
    tokens: list[str] = header.fields["tokenizer.ggml.tokens"]
    types: list[int] = header.fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    merges = [tuple(pair.split(" ", 1)) for pair in header.fields["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=rule in WHOLE_WORDS_FIRST))
    splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in SPLITS[rule]]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    raw.decoder = decoders.ByteLevel()
    special, own = (
        [token for token, role in zip(tokens, types, strict=True) if role == wanted]
        for wanted in (CONTROL, USER_DEFINED)
    )
    raw.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    raw.add_tokens([AddedToken(token, normalized=False, special=False) for token in own])
    roles = _roles(header, tokens, special)
    if header.fields.get("tokenizer.ggml.add_bos_token") and roles.begin is not None:
        begin = tokens[roles.begin]
        raw.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, roles.begin)]
        )
    named = {"eos_token": roles.ends[0] if roles.ends else None, "bos_token": roles.begin,
             "pad_token": roles.pad}  # fmt: skip
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        **{role: tokens[number] for role, number in named.items() if number is not None},
        clean_up_tokenization_spaces=False,
        model_max_length=int(header.get("context_length", 2048)),
    )
    made.chat_template = header.fields.get("tokenizer.chat_template")
    return made, roles


def _roles(header: GgufHeader, tokens: Sequence[str], special: Sequence[str]) -> Specials:
    """Choose end, begin and pad tokens; a file's pad is kept only if nothing ends with it."""
    number = {token: place for place, token in enumerate(tokens)}

    def given(role: str) -> int | None:
        found = header.fields.get(f"tokenizer.ggml.{role}_token_id")
        return found if found is not None and 0 <= found < len(tokens) else None

    stated = [found for key in ONE_TOKEN_KEYS if (found := given(key)) is not None]
    known = [number[token] for token in ENDS if token in special]
    ends = tuple(dict.fromkeys([*stated, *known]))
    repaired = []
    if added := [tokens[end] for end in ends if end not in stated]:
        repaired.append(f"also ends at {', '.join(added)}")
    begin, pad = given("bos"), given("padding")
    if pad is None or pad in ends:
        template = header.fields.get("tokenizer.chat_template") or ""
        free = [t for t in special if number[t] not in (*ends, begin) and t not in template]
        chosen = next((t for t in PADS if t in special and number[t] not in ends), free[-1] if free else None)
        was = "no pad token" if pad is None else f"pad token {tokens[pad]} also ends a text"
        pad = None if chosen is None else number[chosen]
        repaired.append(f"{was}: {chosen or 'one is added when the model is loaded'} pads")
    return Specials(ends, pad, begin, tuple(repaired))
