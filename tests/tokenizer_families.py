"""Tokenizers of four families, trained on the spot, each with an end token, a pad and ChatML's marks."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CODE = (
    "def add(first, second):\n    if first:\n        return  first + second\n    return None\n\n\n"
    "class Box:\n    def get(self, key='a b'):\n\treturn self[key]  # a tab\n"
)
FAMILIES = ("byte-level BPE", "Metaspace BPE", "Llama's older form", "Unigram", "WordPiece")
LOSSLESS = FAMILIES[:4]  # WordPiece drops white space
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
MARKS = ["</s>", "<|im_end|>", "<|im_start|>", "<|file_sep|>", "<unk>", "<|pad|>"]


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Train a tokenizer of `family` on code that also spells every character of the marks."""
    text = [
        CODE,
        *("".join(sorted(set("".join(MARKS)))) for _ in range(2)),
        "s > < / | _ im end unk file sep pad start é ö",
    ]
    common = {"special_tokens": SPECIALS, "show_progress": False, "vocab_size": 400}
    if family == "byte-level BPE":
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        raw.train_from_iterator(text, trainers.BpeTrainer(
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **common))  # fmt: skip
    elif family == "Metaspace BPE":
        raw = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        raw.decoder = decoders.Metaspace(prepend_scheme="first")
        raw.train_from_iterator(text, trainers.BpeTrainer(**common))
    elif family == "Llama's older form":
        raw = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                         decoders.Strip(" ", 1, 0)])  # fmt: skip
        raw.train_from_iterator(
            [line for one in text for line in one.split(" ")], trainers.BpeTrainer(**common)
        )
    elif family == "Unigram":
        raw = Tokenizer(models.Unigram())
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        raw.decoder = decoders.Metaspace(prepend_scheme="always")
        raw.train_from_iterator(text, trainers.UnigramTrainer(unk_token="<unk>", **common))
    else:
        raw = Tokenizer(models.WordPiece(unk_token="<unk>"))
        raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        raw.decoder = decoders.WordPiece(cleanup=False)
        raw.train_from_iterator(text, trainers.WordPieceTrainer(**common))
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="</s>", bos_token="<s>", unk_token="<unk>", pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    made.add_tokens(["<|file_sep|>"])  # as in Qwen2.5-Coder: an end of text, though not declared special
    return made
