"""Chat models learn the token that ends a turn, and generation stops at it."""

import pytest
import tiny_models
import torch

from helpers.models.causal_lm import chat_prompt, generate, load_causal_lm
from helpers.models.token_loss import IGNORED
from helpers.records import InstructPair
from helpers.train.instruct import collator, encode_pair, end_token_id, show_supervised

RUNTIME = tiny_models.CPU_FP32
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PAIRS = [
    InstructPair("0", "explain", "f0", "a.py", "first", "return first + second", 0, ()),
    InstructPair("1", "explain", "f1", "a.py", "class", "wert = 1", 0, ()),
]


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    """A small Qwen2 with ChatML, built on the spot; its end of text is another token, as in Qwen's base."""
    tok = tiny_models.tokenizer(extra=("<|im_start|>", "<|im_end|>"))
    tok.chat_template = CHATML
    return str(tiny_models.save(tmp_path_factory.mktemp("chat") / "qwen2", "qwen2", tok))


def ids_after(model, tok, prompt, steps):
    """Decode greedily, one token at a time, without stopping."""
    ids = tok(prompt, add_special_tokens=False).input_ids
    for _ in range(steps):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-steps:]


def test_the_end_of_the_turn_is_supervised_and_nothing_of_the_prompt_is(chat_model):
    _, tok = load_causal_lm(chat_model, RUNTIME)
    end = tok.convert_tokens_to_ids("<|im_end|>")
    assert end_token_id(tok) == end != tok.eos_token_id != tok.pad_token_id
    for pair in PAIRS:
        example = encode_pair(pair, tok)
        assert show_supervised(example, tok) == f"{pair.response}<|im_end|>"
        assert example.labels[-1] == end
        assert [label for label in example.labels if label == end] == [end]  # the user's turn ends unlearnt
        assert example.input_ids.count(end) == 2
    batch = collator(tok)([encode_pair(pair, tok) for pair in PAIRS])
    for row, pair in zip(batch["labels"], PAIRS, strict=True):
        kept = [int(label) for label in row if label != IGNORED]
        assert tok.decode(kept, skip_special_tokens=False) == f"{pair.response}<|im_end|>"


def test_an_overfitted_model_says_im_end_and_generation_stops_there(chat_model):
    model, tok = load_causal_lm(chat_model, RUNTIME)
    end = end_token_id(tok)
    prompts = [chat_prompt(tok, pair.instruction) for pair in PAIRS]
    wanted = [[*tok(pair.response, add_special_tokens=False).input_ids, end] for pair in PAIRS]
    for prompt, ids in zip(prompts, wanted, strict=True):
        assert ids_after(model, tok, prompt, len(ids)) != ids

    batch = collator(tok)([encode_pair(pair, tok) for pair in PAIRS])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for prompt, ids in zip(prompts, wanted, strict=True):
        assert ids_after(model, tok, prompt, len(ids)) == ids
    reads = []
    hook = model.register_forward_hook(lambda *args: reads.append(1))
    texts = generate(model, tok, prompts, RUNTIME, max_new_tokens=40)
    hook.remove()
    assert texts == [[pair.response] for pair in PAIRS]
    assert len(reads) == max(map(len, wanted))  # the prompt and each token but <|im_end|>: nothing after it


def test_a_template_whose_end_is_no_token_ends_with_the_end_of_text():
    tok = tiny_models.tokenizer()
    tok.chat_template = CHATML
    assert end_token_id(tok) == tok.eos_token_id
