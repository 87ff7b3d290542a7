"""Try a model on a few tokens: does it fit what a run does with it?

Libraries load many models that do not fit without a word: an encoder as a causal language model, a folder
without a tokenizer, a causal model as an embedder. Figures would come out all the same. Each function here
returns problems, each in one line that says what is wrong and what to do; none if the model fits.
"""

from __future__ import annotations

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import ModelError, chat_ids
from helpers.models.embedder import EmbedderError, encode, is_declared, is_static
from helpers.models.generation import context_tokens
from helpers.models.structure import hidden_states, output_head
from helpers.models.tokens import continuation, continuing_ids, token_ids

CODE = (
    "def total(prices, rate=0.5):\n    if not prices:\n        return None\n"
    "    return [price * rate for price in prices]\n"
)
ASKED = (
    f"{CODE}\nprint(\"a\" < 'b' and total([1]) >= 2 & 3)  # caf\u00e9 {{{{ x }}}}\n"  # what templates escape
)
FIRST_LINE, REST = CODE[: CODE.index("\n") + 1], CODE[CODE.index("\n") + 1 :]
LIKENESS = 0.02  # of the largest value: half precision differs by less, another computation by more
LAYERS_OF_ROUNDING = 12  # bfloat16: .02 in the embedded model, where files that see each other give .34
EQUAL = 1e-5  # of the largest value, for the same computation on rows of the same shape
FAMILIES = "choose a model of the GPT-2, Llama or Qwen2 family"
NO_TOKENS = (
    "its tokenizer makes no tokens of code, as if its files were missing: put tokenizer.json beside the "
    "weights"
)
TOKENS = 16  # that a model is tried on


def causal_problems(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Try a causal language model: its tokenizer, that it sees no later token, how its loss is computed."""
    found = tokenizer_problems(model, tokenizer)
    if found:
        return found
    ids = torch.tensor([token_ids(tokenizer, CODE)[:TOKENS]], device=model.device)
    other = ids.clone()
    other[0, -1] = ids[0, -1] - 1 if ids[0, -1] else 1
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits.float()
        changed = model(input_ids=other, use_cache=False).logits.float()
        rounding = max(EQUAL, 2 * torch.finfo(model.dtype).eps)
        if not _alike(logits[:, :-1], changed[:, :-1], rounding):
            return [
                "it sees the token that it is to predict, so it is an encoder and no causal language model; "
                "choose one such as Qwen/Qwen2.5-Coder-0.5B"
            ]
        try:
            head, hidden = output_head(model), hidden_states(model, ids)
            if not _alike(logits, head(hidden).float()):
                found.append(
                    f"its logits are not what its output head gives, and losses would be wrong; {FAMILIES}"
                )
            first = ids.shape[1] // 2
            restarted = torch.tensor([[*range(first), *range(ids.shape[1] - first)]], device=model.device)
            packed = hidden_states(model, ids, position_ids=restarted)[:, first:].float()
            rounded = max(LIKENESS, LAYERS_OF_ROUNDING * torch.finfo(model.dtype).eps)
            if not _alike(packed, hidden_states(model, ids[:, first:]).float(), rounded):
                found.append(f"files packed into one row would see each other; {FAMILIES}")
        except (AttributeError, TypeError) as error:
            found.append(f"its layers cannot be reached ({error}); {FAMILIES}")
    return found


def tokenizer_problems(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Try a tokenizer on Python: its ids must be the model's, and give the text back."""
    ids = token_ids(tokenizer, CODE)
    rows = model.get_input_embeddings().num_embeddings
    if len(ids) < 2:
        return [NO_TOKENS]
    if max(ids) >= rows:
        return [f"its tokenizer gives the id {max(ids)}, but the model has {rows} tokens: the two do not "
                "belong together; save both from one checkpoint"]  # fmt: skip
    before = token_ids(tokenizer, FIRST_LINE)
    if continuation(tokenizer, before, continuing_ids(tokenizer, REST)) != REST:
        return ["its tokenizer does not give Python back (indentation or characters are lost): choose a "
                "model made for code"]  # fmt: skip
    return []


def chat_problems(tokenizer: PreTrainedTokenizerBase, end_id: int | None) -> list[str]:
    """Try a chat template: the instruction must come back; and there must be a token that ends an answer."""
    found = []
    try:
        ids = chat_ids(tokenizer, ASKED)
        if ASKED.strip() not in continuation(tokenizer, [], ids, marks=True):
            found.append("its prompts lose the instruction; choose another chat model")
    except ModelError as error:
        found.append(f"{error}; mend chat_template in its tokenizer's files, or choose another chat model")
    if end_id is None:
        found.append(
            "it has no end token, so that no answer would end: name one as eos_token in tokenizer_config.json"
        )
    return found


def context_problems(model: PreTrainedModel, tokens: int, setting: str) -> list[str]:
    """Compare the model's context with the `tokens` that a run feeds at once, set by `setting`."""
    context = context_tokens(model.config)
    if context is None or tokens <= context:
        return []
    return [f"it sees {context} tokens at once, but {setting} {tokens}: lower that, or choose another model"]


def layer_problems(model: PreTrainedModel, layers: int, setting: str) -> list[str]:
    """Compare the model's blocks with the topmost `layers` that get adapters, set by `setting`."""
    if not layers or layers <= (blocks := model.config.num_hidden_layers):
        return []
    return [f"{setting} is {layers}, but it has {blocks} layers: lower that, or choose another model"]


def embedder_problems(model: SentenceTransformer, spec: str, runtime: Runtime, max_tokens: int) -> list[str]:
    """Try an embedder: its kind, its limit, and that different texts get different finite vectors."""
    if not len(model.tokenizer.encode(CODE)):
        return [NO_TOKENS]
    if not is_static(model) and not is_declared(spec) and _is_causal(model):
        return ["it is a causal language model, not a sentence embedder: choose one with a modules.json, "
                "such as intfloat/e5-small-v2"]  # fmt: skip
    found = []
    limit = model.max_seq_length or max_tokens
    if max_tokens > limit:
        found.append(f"it reads {limit} tokens of a text, but track_c.max_tokens is {max_tokens}: --set "
                     f"track_c.max_tokens={limit}")  # fmt: skip
    try:
        vectors = encode(model, [FIRST_LINE, REST], kind="document", runtime=runtime, max_tokens=max_tokens)
    except EmbedderError as error:
        return [*found, str(error)]
    if np.allclose(vectors[0], vectors[1]):
        found.append("it gives different texts the same vector: its weights or its vocabulary are not what "
                     "its tokenizer needs; choose another embedder")  # fmt: skip
    return found


@torch.inference_mode()
def _is_causal(model: SentenceTransformer) -> bool:
    """Return whether the first token's state does not depend on the last token."""
    features = dict(model.tokenizer([CODE], return_tensors="pt").to(model.device))
    encoder = model[0].auto_model
    first = encoder(**features).last_hidden_state[:, 0]
    ids = features["input_ids"].clone()
    ids[0, -1] = ids[0, -1] - 1 if ids[0, -1] else 1
    return _alike(first, encoder(**{**features, "input_ids": ids}).last_hidden_state[:, 0], EQUAL)


def _alike(one: torch.Tensor, other: torch.Tensor, share: float = LIKENESS) -> bool:
    """Return whether two tensors differ by no more than `share` of their largest value."""
    return bool((one - other).abs().max() <= share * one.abs().max())
