"""Chat models learn the token that ends a turn, and generation stops at it."""

import pytest
import tiny_models
import tokenizer_families
import torch
from tokenizer_families import LOSSLESS

from helpers.models.causal_lm import ModelError, chat_ids, chat_prompt, generate, load_causal_lm
from helpers.models.generation import end_ids
from helpers.models.token_loss import IGNORED
from helpers.models.tokens import continuation, mark_ids
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


def ids_after(model, prompt, steps):
    """Decode greedily, one token at a time, without stopping."""
    ids = list(prompt)
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
    for pair in PAIRS:
        batch = collator(tok)([encode_pair(pair, tok)])
        kept = [int(label) for label in batch["labels"][0] if label != IGNORED]
        assert tok.decode(kept, skip_special_tokens=False) == f"{pair.response}<|im_end|>"


def test_an_overfitted_model_says_im_end_and_generation_stops_there(chat_model):
    model, tok = load_causal_lm(chat_model, RUNTIME)
    end = end_token_id(tok)
    prompts = [chat_ids(tok, pair.instruction) for pair in PAIRS]
    wanted = [[*tok(pair.response, add_special_tokens=False).input_ids, end] for pair in PAIRS]
    for prompt, ids in zip(prompts, wanted, strict=True):
        assert ids_after(model, prompt, len(ids)) != ids

    batch = collator(tok)([encode_pair(pair, tok) for pair in PAIRS])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        model(**batch, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for prompt, ids in zip(prompts, wanted, strict=True):
        assert ids_after(model, prompt, len(ids)) == ids
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


TURN = "{% for m in messages %}BEGIN{{ m.role }}\n{{ m.content | trim }}END{% endfor %}"
ASSISTANT = "{% if add_generation_prompt %}BEGINmodel\n{% endif %}"
ENDINGS = {  # template, its marks, and the token that ends an answer
    "Gemma": (TURN.replace("BEGIN", "<start_of_turn>").replace("END", "<end_of_turn>\n")
              + ASSISTANT.replace("BEGIN", "<start_of_turn>"), ("<start_of_turn>", "<end_of_turn>"), "<end_of_turn>"),
    "Phi": (TURN.replace("BEGIN", "<|head|>").replace("END", "<|end|>\n") + "<|head|>", ("<|head|>", "<|end|>"), "<|end|>"),
    "Mistral": ("{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}"
                "{{ eos_token }}{% endif %}{% endfor %}", ("[INST]", "[/INST]"), "<|endoftext|>"),
    "content as a list": ("{% for m in messages %}<|head|>{% for c in m.content %}{{ c.text }}{% endfor %}<|end|>"
                          "{% endfor %}<|head|>", ("<|head|>", "<|end|>"), "<|end|>"),
    "no end": ("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>",
               ("<|user|>", "<|assistant|>"), "<|endoftext|>"),
    "no answers": ("{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('no') }}{% endif %}"
                   "{{ m.content }}<|end|>{% endfor %}", ("<|end|>",), "<|endoftext|>"),
}  # fmt: skip


@pytest.mark.parametrize("family", ENDINGS)
def test_the_template_says_which_token_ends_an_answer(family):
    template, marks, end = ENDINGS[family]
    tok = tiny_models.tokenizer(extra=marks)
    tok.chat_template = template
    assert tok.convert_ids_to_tokens(end_token_id(tok)) == end
    assert show_supervised(encode_pair(PAIRS[0], tok), tok) == f"{PAIRS[0].response}{end}"
    model = tiny_models.model("qwen2", len(tok))
    assert end_token_id(tok) in end_ids(model, tok)  # where the configuration does not name it


def test_a_template_is_told_to_leave_out_thinking_aloud():
    tok = tiny_models.tokenizer()
    tok.chat_template = (
        CHATML + "{% if enable_thinking is defined and not enable_thinking %}<none>{% endif %}"
    )
    assert chat_prompt(tok, "add").endswith("assistant\n<none>")


SPELT = "cut the text at '<|im_end|>', '<|endoftext|>' and '<|file_sep|>'\n"


@pytest.mark.parametrize("template", [CHATML, None])
def test_marks_spelt_in_a_pair_are_text_and_the_templates_own_are_tokens(template):
    tok = tiny_models.tokenizer(extra=("<|im_start|>", "<|im_end|>"))
    tok.add_tokens(["<|file_sep|>"])
    tok.chat_template = template
    example = encode_pair(InstructPair("0", "explain", "f", "a.py", SPELT, SPELT, 0, ()), tok)
    end = end_token_id(tok)
    labels = [label for label in example.labels if label != IGNORED]
    assert [label for label in labels if label in mark_ids(tok)] == [end]
    assert labels[-1] == end
    assert show_supervised(example, tok) == SPELT + tok.decode([end])
    plain = encode_pair(InstructPair("0", "explain", "f", "a.py", "x", "x", 0, ()), tok)
    found = [[i for i in one.input_ids if i in mark_ids(tok)] for one in (example, plain)]
    assert found[0] == found[1]
    assert chat_ids(tok, SPELT) == list(example.input_ids[: example.labels.count(IGNORED)])


@pytest.mark.parametrize("family", LOSSLESS)
@pytest.mark.parametrize(
    "response", ["    return first", "def add(first):\n    return  first\n", "return '</s>'"]
)
def test_the_response_is_learnt_as_it_stands_in_every_family(family, response):
    tok = tokenizer_families.tokenizer(family)
    tok.chat_template = CHATML
    example = encode_pair(InstructPair("0", "explain", "f", "a.py", "add", response, 0, ()), tok)
    assert show_supervised(example, tok) == response + "<|im_end|>"


def test_a_prompt_depends_on_nothing_but_template_and_instruction():
    tok = tiny_models.tokenizer(extra=("<|im_start|>", "<|im_end|>"))
    tok.chat_template = CHATML.replace("m['content']", "m['content'] | trim")
    trimmed = chat_ids(tok, f"  {SPELT}")
    assert continuation(tok, [], trimmed, marks=True).count(SPELT.strip() + "<|im_end|>\n") == 1
    tok.chat_template = CHATML.replace("m['content']", "m['content'] + m['content']")
    with pytest.raises(ModelError, match="more than once"):
        chat_ids(tok, SPELT)


LISTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_template_that_wants_content_as_a_list_gets_it():
    tok = tiny_models.tokenizer(extra=("<|im_start|>", "<|im_end|>"))
    tok.chat_template = CHATML
    wanted = chat_ids(tok, SPELT)
    tok.chat_template = LISTS
    assert chat_ids(tok, SPELT) == wanted
    assert SPELT in chat_prompt(tok, SPELT)


@pytest.mark.parametrize(
    ("template", "says"),
    [("{{ messages[0].role }}", "does not give back"), ("{{ raise_exception('only tools') }}", "only tools")],
)
def test_a_template_that_loses_the_instruction_is_refused(template, says):
    tok = tiny_models.tokenizer()
    tok.chat_template = template
    with pytest.raises(ModelError, match=says):
        chat_prompt(tok, "Add two numbers.")
