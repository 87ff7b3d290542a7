"""Text to token ids and back, the same way wherever tokens are counted, trained on, scored or written.

*Marks* are the tokens that mean something other than their spelling: every special token, every other
added token that looks like one (`<|file_sep|>`), and those that the chat template writes (`<think>`). Code
about language models spells them, and there they are ordinary characters. The libraries' own switch,
`split_special_tokens`, leaves out tokens that are not declared special, and models whose vocabulary holds
the mark itself (Unigram). Here such a text is encoded by a copy of the tokenizer in which the marks have
other names.

Decoders of Llama-style tokenizers strip one blank from the start of what they are given, so new tokens are
decoded together with those before them, and what stands before is cut off (`continuation`).
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

MARK_SHAPE = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)
QUESTION, ANSWER = "a question that ends nothing", "an answer that no template contains"
NONCE = secrets.token_hex(8)  # no text can spell it


@dataclass(frozen=True)
class _Copies:
    """Copies of a tokenizer whose marks have other names."""

    state: tuple[Any, ...]  # of the tokenizer when the copies were made
    names: Mapping[str, str]  # mark -> its name in the copies
    first: Tokenizer  # for the beginning of a text
    later: Tokenizer  # for what goes on after other text: puts no blank before it


_copies: WeakKeyDictionary[PreTrainedTokenizerBase, _Copies] = WeakKeyDictionary()
_blanks: WeakKeyDictionary[PreTrainedTokenizerBase, bool] = WeakKeyDictionary()


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of plain text: no token is added, and nothing in it is read as a mark."""
    return batch_token_ids(tokenizer, [text])[0]


def batch_token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return `token_ids` of each text, computed together."""
    if not texts:
        return []
    found = _plain_call(tokenizer, list(texts)).input_ids
    marks = mark_ids(tokenizer)
    return [
        ids if marks.isdisjoint(ids) else _plain_encoding(tokenizer, text, ids)
        for text, ids in zip(texts, found, strict=True)
    ]


def token_offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, int]]:
    """Return where in `text` each of its `token_ids` begins and ends, in characters; fast tokenizers only."""
    found = _plain_call(tokenizer, text, return_offsets_mapping=True)
    if mark_ids(tokenizer).isdisjoint(found.input_ids):
        return found.offset_mapping
    return _encode(_copies_of(tokenizer).first, text).offsets


def last_ids(tokenizer: PreTrainedTokenizerBase, text: str, most: int) -> list[int]:
    """Return the last `most` ids of plain text: as a prompt, a text that is too long loses its start."""
    return token_ids(tokenizer, text)[-most:]


def continuing_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of plain text that goes on after other text.

    They differ from `token_ids` where a tokenizer puts a blank before whatever it is given, so that the
    blank would end up in the middle of the text.
    """
    if not _puts_blank(tokenizer):
        return token_ids(tokenizer, text)
    return _encode(_copies_of(tokenizer).later, text).ids


def template_ids(tokenizer: PreTrainedTokenizerBase, before: str, text: str, after: str) -> list[int]:
    """Return the ids of `before + text + after`, where `text` is plain and the rest a template."""
    return mixed_ids(tokenizer, [(before, True), (text, False), (after, True)])


def mixed_ids(tokenizer: PreTrainedTokenizerBase, parts: Sequence[tuple[str, bool]]) -> list[int]:
    """Return the ids of texts one after the other, each either a template (True) or plain.

    A mark in a template is the token it names. The texts are encoded as one, because a tokenizer may join
    characters across their borders.
    """
    marks = mark_ids(tokenizer)
    whole = "".join(text for text, _ in parts)
    plain = [text for text, is_template in parts if text and not is_template]
    spelt = tokenizer(plain, add_special_tokens=False, verbose=False).input_ids if plain else []
    if not tokenizer.is_fast or all(marks.isdisjoint(ids) for ids in spelt):
        return tokenizer(whole, add_special_tokens=False, verbose=False).input_ids
    copies = _copies_of(tokenizer)
    longest_first = sorted(copies.names, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))

    def renamed(part: str) -> str:
        return pattern.sub(lambda mark: copies.names[mark.group()], part)

    texts = [renamed(text) if is_template else text for text, is_template in parts]
    return _encode(copies.first, "".join(texts)).ids


def separated_ids(tokenizer: PreTrainedTokenizerBase, text: str, separator: str) -> list[int]:
    """Return the ids of `text`, in which `separator` is the token it names and all the rest is plain."""
    return separated_by_marks(tokenizer, text, [separator])


def separated_by_marks(tokenizer: PreTrainedTokenizerBase, text: str, marks: Sequence[str]) -> list[int]:
    """Return the ids of `text`, in which `marks` of the vocabulary are the tokens they name.

    All the rest is plain.
    """
    vocabulary = tokenizer.get_vocab()
    known = [mark for mark in marks if mark in vocabulary]
    parts = re.split(f"({'|'.join(map(re.escape, known))})", text) if known else [text]
    plain = iter(batch_token_ids(tokenizer, parts[::2]))
    ids = list(next(plain))
    for mark, others in zip(parts[1::2], plain, strict=True):
        ids += [vocabulary[mark], *others]
    return ids


def in_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two texts have in common at their start."""
    for number, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return number
    return min(len(one), len(other))


def continuation(
    tokenizer: PreTrainedTokenizerBase, before: Sequence[int], new: Sequence[int], *, marks: bool = False
) -> str:
    """Return the text that the tokens `new` add after the tokens `before`.

    Args:
        marks: also write special tokens among `new`; otherwise they are left out.
    """
    if not marks:
        special = set(tokenizer.all_special_ids)
        new = [token for token in new if token not in special]
    known, whole = (
        tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for ids in ([*before], [*before, *new])
    )
    if not whole.startswith(known):  # `before` ends within a character
        known = os.path.commonprefix([known, whole])  # noqa: RUF071 (these are no paths)
    return whole[len(known) :]


def mark_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids of all marks (see above)."""
    return frozenset(_marks(tokenizer))


def turn_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id of the mark that the chat template writes after an answer: `<|im_end|>`, `<end_of_turn>`.

    None if there is no template, or it writes none. A mark that only follows an answer at the end of a
    conversation begins the next turn, and ends nothing.
    """
    first = _mark_after_answer(tokenizer, [])
    later = _mark_after_answer(tokenizer, [("user", QUESTION)])
    return first if first == later else None


def _mark_after_answer(tokenizer: PreTrainedTokenizerBase, more: list[tuple[str, str]]) -> int | None:
    """Return the first mark after the answer of a conversation that goes on with `more` (role, content)."""
    said = [("user", QUESTION), ("assistant", ANSWER), *more]
    for as_list in (False, True) if tokenizer.chat_template else ():  # templates want either form
        turns = [
            {"role": role, "content": [{"type": "text", "text": text}] if as_list else text}
            for role, text in said
        ]
        try:
            text = str(tokenizer.apply_chat_template(turns, tokenize=False))
        except Exception:  # a template is a program of its own, and may raise anything
            continue
        after = text.partition(ANSWER)[2]
        ids = tokenizer(after, add_special_tokens=False, verbose=False).input_ids if after else []
        marks = mark_ids(tokenizer)
        if ANSWER in text:
            return next((number for number in ids if number in marks), None)
    return None


def _marks(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    template = str(tokenizer.chat_template or "")
    return {
        number: token.content
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special or MARK_SHAPE.fullmatch(token.content)
        or (token.content.strip() and not token.content.isalnum() and token.content in template)
    }  # fmt: skip


def _plain_call(tokenizer: PreTrainedTokenizerBase, text: Any, **options: Any) -> Any:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False, **options)


def _plain_encoding(tokenizer: PreTrainedTokenizerBase, text: str, ids: list[int]) -> list[int]:
    return _encode(_copies_of(tokenizer).first, text).ids if tokenizer.is_fast else ids


def _encode(copy: Tokenizer, text: str) -> Encoding:
    return copy.encode(text, add_special_tokens=False)


def _puts_blank(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a tokenizer puts a blank before a text; a slow one counts as not doing so."""
    if not tokenizer.is_fast:
        return False
    if tokenizer not in _blanks:
        backend = tokenizer.backend_tokenizer
        parts = {"normalizer": backend.normalizer, "pre_tokenizer": backend.pre_tokenizer}
        plan = {name: part and json.loads(part.__getstate__()) for name, part in parts.items()}
        _blanks[tokenizer] = _without_blank(plan) is not None
    return _blanks[tokenizer]


def _copies_of(tokenizer: PreTrainedTokenizerBase) -> _Copies:
    """Return the copies of a fast tokenizer, made again when it got other marks."""
    marks = _marks(tokenizer)
    state = (len(tokenizer), tuple(sorted(marks.items())))
    kept = _copies.get(tokenizer)
    if kept is None or kept.state != state:
        first, names = renamed_copy(tokenizer.backend_tokenizer, marks.values())
        plan = _without_blank(json.loads(first.to_str()))
        later = first if plan is None else Tokenizer.from_str(json.dumps(plan))
        kept = _copies[tokenizer] = _Copies(state, names, first, later)
    return kept


def renamed_copy(tokenizer: Tokenizer, marks: Sequence[str]) -> tuple[Tokenizer, dict[str, str]]:
    """Return a copy of `tokenizer` in which `marks` keep their ids and get names that no text can spell.

    A mark that the model puts together from smaller pieces keeps its name: it is ordinary text as well.

    Returns:
        The copy, and mark -> name in the copy.
    """
    plan = json.loads(tokenizer.to_str())
    plan["truncation"] = plan["padding"] = None
    model = plan["model"]
    merged = {"".join(pair) if isinstance(pair, list) else pair.replace(" ", "")
              for pair in model.get("merges", ())}  # fmt: skip
    names = {
        mark: f"{NONCE}{number:06d}"
        for number, mark in enumerate(marks)
        if mark not in merged and len(mark) > 1
    }
    if isinstance(model.get("vocab"), dict):
        model["vocab"] = {names.get(piece, piece): number for piece, number in model["vocab"].items()}
    elif "vocab" in model:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token"):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    for token in plan["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    plan["post_processor"] = _without_template(plan["post_processor"])
    return Tokenizer.from_str(json.dumps(plan)), names


def _without_template(part: Any) -> Any:
    """Drop post-processors that name special tokens; the others only adjust offsets."""
    return part if part and part["type"] == "ByteLevel" else None


def _without_blank(part: Any) -> Any:
    """Return a tokenizer's plan, or a part of it, that puts no blank before a text; None if it puts none."""
    before = json.dumps(part)
    after = _drop_blank(json.loads(before))
    return None if json.dumps(after) == before else after


def _drop_blank(part: Any) -> Any:
    for name in ("normalizer", "pre_tokenizer"):
        step = part[name]
        if step is None:
            continue
        lists = [step[key] for key in ("normalizers", "pretokenizers") if key in step] or [[step]]
        kept = [one for one in lists[0] if one["type"] != "Prepend"]
        for one in kept:
            if one["type"] == "Metaspace":
                one.pop("add_prefix_space", None)
                one["prepend_scheme"] = "never"
            elif one["type"] == "ByteLevel":
                one["add_prefix_space"] = False
        if step["type"] == "Sequence":
            step["normalizers" if name == "normalizer" else "pretokenizers"] = kept
        else:
            part[name] = kept[0] if kept else None
    return part
