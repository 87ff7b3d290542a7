import dataclasses
import weakref

import numpy as np
import pytest
import tiny_models
import tokenizer_families
import torch
from tokenizer_families import FAMILIES
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from helpers.models import bfloat16_products, generation, text_writer
from helpers.models.causal_lm import add_lora, generate
from helpers.models.prompt_lookup import Drafts, EarlierText
from helpers.models.ragged_cache import RaggedCache
from helpers.models.text_writer import Decoding, _sample
from helpers.models.tokens import token_ids
from helpers.settings import LoraSettings

RUNTIME = tiny_models.CPU_FP32
PROMPTS = [
    "def add(first",
    "x",
    "class Größe:\n    wert",
    "return first + second\n\n",
    "def",
    "import math as m\n",
]


@pytest.fixture(scope="module")
def tok():
    return tiny_models.tokenizer()


@pytest.fixture(scope="module", params=tiny_models.FAMILIES)
def model(request, tok):
    return tiny_models.model(request.param, len(tok))


def slow_greedy(model, tok, prompt, steps):
    """Decode one sequence greedily without cache or padding."""
    ids = tok(prompt, add_special_tokens=False).input_ids
    new = []
    for _ in range(steps):
        with torch.no_grad():
            token = int(model(torch.tensor([ids + new])).logits[0, -1].argmax())
        if token in (tok.eos_token_id, tok.pad_token_id):
            break
        new.append(token)
    return tok.decode(new, skip_special_tokens=True)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_greedy_equals_the_definition_in_any_batch(model, tok, batch_size):
    got = generate(model, tok, PROMPTS, RUNTIME, max_new_tokens=12, batch_size=batch_size)
    assert got == [[slow_greedy(model, tok, prompt, 12)] for prompt in PROMPTS]


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_a_text_ends_where_it_suffices_and_others_go_on(model, tok, batch_size):
    whole = [text for (text,) in generate(model, tok, PROMPTS, RUNTIME, max_new_tokens=12)]
    got = generate(
        model, tok, PROMPTS, RUNTIME, max_new_tokens=12, batch_size=batch_size,
        suffices=lambda number, text: number == 1 and len(text) >= 3,
    )  # fmt: skip
    assert [text for n, (text,) in enumerate(got) if n != 1] == [t for n, t in enumerate(whole) if n != 1]
    assert 3 <= len(got[1][0]) < len(whole[1])
    assert whole[1].startswith(got[1][0])


def test_samples_depend_on_seed_prompt_number_and_sample_alone(model, tok):
    options = {"n": 3, "temperature": 0.8, "max_new_tokens": 10}
    one = generate(model, tok, PROMPTS, RUNTIME, seed=4, batch_size=64, **options)
    assert one == generate(model, tok, PROMPTS, RUNTIME, seed=4, batch_size=5, **options)
    assert one[:2] == generate(model, tok, PROMPTS[:2], RUNTIME, seed=4, batch_size=1, **options)
    assert one != generate(model, tok, PROMPTS, RUNTIME, seed=5, batch_size=64, **options)
    assert all(len(texts) == 3 for texts in one)
    assert any(len(set(texts)) > 1 for texts in one)
    torch.manual_seed(99)
    assert one == generate(model, tok, PROMPTS, RUNTIME, seed=4, batch_size=64, **options)


def test_samples_follow_the_models_probabilities(tok):
    model = tiny_models.model("qwen2", len(tok))
    ids = tok("x", add_special_tokens=False).input_ids
    with torch.no_grad():
        wanted = torch.softmax(model(torch.tensor([ids])).logits[0, -1] / 0.7, -1)
    texts = generate(model, tok, ["x"], RUNTIME, n=2000, temperature=0.7, max_new_tokens=1, batch_size=500)[0]
    token = int(wanted.argmax())
    share = texts.count(tok.decode([token], skip_special_tokens=True)) / len(texts)
    assert share == pytest.approx(wanted[token].item(), abs=0.04)


def test_a_draw_that_rounds_to_the_end_takes_no_token_that_is_ruled_out():
    logits = torch.tensor([[0.0, 1.0, float("-inf"), float("-inf")]])
    assert _sample(logits, np.array([1 - 2**-53]), Decoding(1, 1.0)).tolist() == [1]


def test_a_low_temperature_is_nearly_greedy(model, tok):
    cold = generate(model, tok, PROMPTS, RUNTIME, n=2, temperature=1e-4, max_new_tokens=6)
    greedy = generate(model, tok, PROMPTS, RUNTIME, max_new_tokens=6)
    assert cold == [[text, text] for [text] in greedy]


def forced(tok, text):
    """Return a model that answers any one-token prompt with `text`."""
    return saying(tok, [0, *tok(text, add_special_tokens=False, split_special_tokens=False).input_ids])


def saying(tok, ids):
    """Return a model whose next token at each position is the one of `ids`."""
    ids = ids[1:]
    width = 128  # enough for directions that do not get into each other's way
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=len(tok), n_positions=128, n_embd=width, n_layer=1, n_head=2, eos_token_id=0, bos_token_id=None
    )).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.transformer.ln_f.weight.fill_(1.0)
    hidden = model.config.n_embd
    model.lm_head = torch.nn.Linear(hidden, len(tok), bias=False)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        for position, token in enumerate(ids):
            direction = torch.randn(hidden, generator=torch.Generator().manual_seed(position))
            direction = (direction - direction.mean()) / direction.std(correction=0)
            model.transformer.wpe.weight[position] = direction
            model.lm_head.weight[token] += direction
    return model


@pytest.mark.parametrize(
    ("said", "stop", "wanted"),
    [
        ("ab<|endoftext|>cd", (), "ab"),
        ("ab<|im_end|>cd", (), "ab"),
        ("abXYcd<|endoftext|>", ("XY",), "ab"),
        ("abXYcd<|endoftext|>", ("cd", "Y"), "abX"),
        ("XY<|endoftext|>", ("XY",), ""),
    ],
)
def test_text_ends_at_end_tokens_and_stop_strings(said, stop, wanted):
    tok = tiny_models.tokenizer(extra=("<|im_end|>",))
    got = generate(forced(tok, said), tok, ["x"], RUNTIME, max_new_tokens=8, stop=stop)
    assert got == [[wanted]]


def test_a_prompt_that_spells_an_end_token_is_text():
    tok = tiny_models.tokenizer(extra=("<|im_end|>",))
    model = tiny_models.model("qwen2", len(tok))
    text = "x = '<|im_end|>'"
    ids = token_ids(tok, text)
    assert tok.convert_tokens_to_ids("<|im_end|>") not in ids
    options = {"max_new_tokens": 8}
    assert generate(model, tok, [text], RUNTIME, **options) == generate(model, tok, [ids], RUNTIME, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_is_what_stands_after_the_prompt_over_all_cuts(family):
    """A prompt of the first tokens of a text, and a model that says the rest, give the rest."""
    tok = tokenizer_families.tokenizer(family)
    text = "def add(first):\n    if first:\n        return  first"
    ids = token_ids(tok, text)
    whole = tok.decode(ids, clean_up_tokenization_spaces=False)
    model = saying(tok, ids)
    for cut in range(1, len(ids)):
        [[said]] = generate(model, tok, [ids[:cut]], RUNTIME, max_new_tokens=len(ids) - cut)
        assert tok.decode(ids[:cut], clean_up_tokenization_spaces=False) + said == whole
    [[stopped]] = generate(model, tok, [ids[:1]], RUNTIME, max_new_tokens=len(ids), stop=(" return",))
    before = tok.decode(ids[:1], clean_up_tokenization_spaces=False)
    assert before + stopped == whole[: whole.index(" return")]


def test_stopping_one_sequence_leaves_the_others_alone():
    tok = tiny_models.tokenizer()
    model = tiny_models.model("qwen2", len(tok))
    alone = [generate(model, tok, [p], RUNTIME, max_new_tokens=20, stop=("e",))[0] for p in PROMPTS]
    assert generate(model, tok, PROMPTS, RUNTIME, max_new_tokens=20, stop=("e",)) == alone
    assert not any("e" in texts[0] for texts in alone)


def test_an_adapted_model_generates_with_its_adapter(tok):
    model = add_lora(tiny_models.model("qwen2", len(tok)), LoraSettings(rank=4, alpha=8))
    before = generate(model, tok, PROMPTS, RUNTIME, max_new_tokens=8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 1.0)
    assert generate(model, tok, PROMPTS, RUNTIME, max_new_tokens=8) != before


def test_a_prompt_longer_than_the_context_keeps_its_end(tok):
    model = tiny_models.model("gpt2", len(tok), context=32)
    long = "first " * 100 + "def add("
    ids = tok(long, add_special_tokens=False).input_ids[-24:]
    got = generate(model, tok, [long], RUNTIME, max_new_tokens=8)
    assert got == generate(model, tok, [tok.decode(ids)], RUNTIME, max_new_tokens=8)
    with pytest.raises(ValueError, match="no room"):
        generate(model, tok, [long], RUNTIME, max_new_tokens=32)


def test_bad_requests_are_refused(tok):
    model = tiny_models.model("qwen2", len(tok))
    for options in ({"n": 0}, {"n": 2, "temperature": 0.0}, {"temperature": -1.0}):
        with pytest.raises(ValueError, match="n > 1 needs a temperature"):
            generate(model, tok, ["x"], RUNTIME, **options)
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        generate(model, tok, ["x", ""], RUNTIME, max_new_tokens=4)
    assert generate(model, tok, [], RUNTIME, max_new_tokens=4) == []


def test_bfloat16_runs(tok, monkeypatch):
    monkeypatch.setattr(bfloat16_products, "LEAST_WEIGHTS", 0)
    mixed = dataclasses.replace(RUNTIME, autocast_dtype=torch.bfloat16)
    model = tiny_models.model("qwen2", len(tok))
    assert len(generate(model, tok, PROMPTS, mixed, max_new_tokens=4)) == len(PROMPTS)


def test_stragglers_of_several_batches_join_and_give_the_same_texts(tok):
    model = tiny_models.model("qwen2", len(tok))
    prompts = [f"{prompt}{number}" for number in range(6) for prompt in PROMPTS]
    options = {"n": 2, "temperature": 0.9, "max_new_tokens": 16, "stop": ("e",)}
    alone = generate(model, tok, prompts, RUNTIME, batch_size=1, **options)
    lengths = {len(text) for texts in alone for text in texts}
    assert len(lengths) > 4  # rows finish at different steps, so that some stay behind
    assert generate(model, tok, prompts, RUNTIME, batch_size=8, **options) == alone


def test_running_out_of_memory_half_way_changes_nothing(tok, monkeypatch):
    model = tiny_models.model("qwen2", len(tok))
    options = {"n": 2, "temperature": 0.9, "max_new_tokens": 12, "stop": ("e",)}
    wanted = generate(model, tok, PROMPTS, RUNTIME, batch_size=64, **options)
    read, calls = RaggedCache.read, []

    def short_of_memory(cache, fed):
        calls.append(len(fed))
        if len(calls) > 5 and len(fed) > 4:
            raise torch.OutOfMemoryError("too little")
        return read(cache, fed)

    monkeypatch.setattr(RaggedCache, "read", short_of_memory)
    assert generate(model, tok, PROMPTS, RUNTIME, batch_size=64, **options) == wanted
    assert max(calls[:5]) > 4


REPEATED = [
    "ab ab ab ab ",
    "def add(first):\n    return first\n\n\ndef add(first):\n",
    "xyxyxyxy",
    "x = 1\n" * 4,
]


def plain_text(model, tok, prompt, draws, temperature, steps):
    """Sample one sequence without cache, drafts or other sequences, by the inverse of its CDF."""
    ids, new = token_ids(tok, prompt), []
    for draw in draws[:steps]:
        with torch.no_grad():
            chances = torch.softmax(model(torch.tensor([ids + new])).logits[0, -1] / temperature, -1).double()
        token = int((chances.cumsum(0) <= draw * chances.sum()).sum())
        if token in (tok.eos_token_id, tok.pad_token_id):
            break
        new.append(token)
    return tok.decode(new, skip_special_tokens=True)


def accepted_drafts(monkeypatch):
    """Let every repetition be drafted, and return the list that receives how many were right each time."""
    right, add = [], text_writer.TextWriter._add

    def noted(writer, job, chosen, draft):
        right.append(add(writer, job, chosen, draft))
        return right[-1]

    monkeypatch.setattr(text_writer, "PASS_COST", {"cpu": 10_000})
    monkeypatch.setattr(text_writer.TextWriter, "_add", noted)
    return right


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_drafts_change_no_greedy_text(model, tok, batch_size, monkeypatch):
    right = accepted_drafts(monkeypatch)
    got = generate(model, tok, REPEATED + PROMPTS, RUNTIME, max_new_tokens=30, batch_size=batch_size)
    assert got == [[slow_greedy(model, tok, prompt, 30)] for prompt in REPEATED + PROMPTS]
    assert sum(right) > 20  # whole drafts are right, once a tiny model repeats itself
    assert any(count == 0 for count in right)


def test_drafts_change_no_sample(model, tok, monkeypatch):
    right = accepted_drafts(monkeypatch)
    options = {"n": 2, "temperature": 0.2, "max_new_tokens": 24, "seed": 3}
    got = generate(model, tok, REPEATED, RUNTIME, **options)
    draws = [[generation.text_draws(3, i, j, 24) for j in range(2)] for i in range(len(REPEATED))]
    assert got == [
        [plain_text(model, tok, prompt, one, 0.2, 24) for one in both]
        for prompt, both in zip(REPEATED, draws, strict=True)
    ]
    assert sum(right) > 0


@pytest.mark.parametrize(
    ("said", "stop", "limit", "wanted"),
    [
        ("kmpqvzkmpqvzkmpqvz<|endoftext|>kmpq", (), 30, "kmpqvzkmpqvzkmpqvz"),  # not drafted
        ("kmpqvzXkmpqvzYkmpqvz", ("zY",), 20, "kmpqvzXkmpqv"),  # not drafted
        ("kmpqvzkmpqvzkmpqvz", ("zkmpq",), 18, "kmpqv"),  # complete within a draft
        ("kmpqvzkmpqvzkmpqvz", (), 10, "kmpqvzkmpq"),  # the limit lies within a draft
    ],
)
def test_text_ends_within_a_draft_as_without_it(said, stop, limit, wanted, monkeypatch):
    tok = tiny_models.tokenizer(extra=("<|im_end|>",))
    right = accepted_drafts(monkeypatch)
    assert generate(forced(tok, said), tok, ["x"], RUNTIME, max_new_tokens=limit, stop=stop) == [[wanted]]
    assert sum(right) > 0


def test_an_end_token_within_a_draft_ends_the_text(tok, monkeypatch):
    right = accepted_drafts(monkeypatch)
    a, b, c, d = token_ids(tok, "kmpq")
    prompt = [a, b, c, tok.eos_token_id, d, a, b]
    model = saying(tok, [*prompt, c, tok.eos_token_id, d, a, b, c])
    assert generate(model, tok, [prompt], RUNTIME, max_new_tokens=5) == [["p"]]
    assert right == [2]


def test_the_context_may_be_used_up_within_a_draft(tok, monkeypatch):
    model = tiny_models.model("gpt2", len(tok), context=40)
    right = accepted_drafts(monkeypatch)
    [[got]] = generate(model, tok, ["x = 1\n" * 20], RUNTIME, max_new_tokens=20)
    prompt = tok.decode(token_ids(tok, "x = 1\n" * 20)[-20:])
    assert got == slow_greedy(model, tok, prompt, 20)
    assert sum(right) > 0


def test_drafts_that_fail_are_given_up():
    drafts, text = Drafts(), EarlierText([1, 2, 3, 4, 5, 1, 2])
    assert text.find() == (2, 2)
    assert drafts.choose([text], [3], worth=0.1) == [(2, [3, 4, 5])]
    assert drafts.choose([text], [3], worth=0.4) == [(2, [3])]  # .52 * .70 is too little
    assert drafts.choose([text], [0], worth=0.1) == [(0, [])]
    for _ in range(64):
        drafts.record(2, 1, 0)
    assert drafts.choose([text], [3], worth=0.4) == [(2, [])]  # 32 * .52 / (32 + 64) = .17
    repeating = EarlierText([7, 8, 7, 8])
    assert Drafts().choose([repeating], [5], worth=0.05)[0] == (2, [7, 8, 7, 8, 7])


def test_models_that_no_ragged_cache_fits_are_read_one_by_one(tok, monkeypatch):
    model = tiny_models.model("llama", len(tok))
    wanted = generate(model, tok, PROMPTS, RUNTIME, n=2, temperature=0.8, max_new_tokens=12)
    monkeypatch.setattr(type(model), "_supports_attention_backend", False)
    monkeypatch.setattr(RaggedCache, "read", None)
    assert wanted == generate(
        model, tok, PROMPTS, RUNTIME, n=2, temperature=0.8, max_new_tokens=12, batch_size=3
    )


def test_a_sliding_window_is_kept(tok):
    config = MistralConfig(
        vocab_size=len(tok), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=6, eos_token_id=0, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MistralForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.3)
    got = generate(model, tok, REPEATED + PROMPTS, RUNTIME, max_new_tokens=16)
    assert got == [[slow_greedy(model, tok, prompt, 16)] for prompt in REPEATED + PROMPTS]


def test_a_shared_beginning_is_read_once(tok, monkeypatch):
    model = tiny_models.model("qwen2", len(tok))
    start = list(range(10, 50))
    prompts = [[*start, 60 + number, 7] for number in range(5)]
    read, tokens = RaggedCache.read, []

    def noted(cache, fed):
        tokens.append(sum(len(one.tokens) for one in fed))
        return read(cache, fed)

    monkeypatch.setattr(RaggedCache, "read", noted)
    generate(model, tok, prompts, RUNTIME, n=2, temperature=0.7, max_new_tokens=1)
    assert tokens == [42, 1 + 4 * 2 * 2]  # a whole prompt; its last token again; the others' ends, twice


def test_what_texts_took_is_given_back_after_each_call(tok, monkeypatch):
    caches, left = [], []
    usual = RaggedCache.__init__

    def noted(self, *arguments, **options):
        usual(self, *arguments, **options)
        caches.append(weakref.ref(self))

    monkeypatch.setattr(RaggedCache, "__init__", noted)
    monkeypatch.setattr(generation, "return_freed_memory", lambda: left.append([one() for one in caches]))
    model = tiny_models.model("llama", len(tok))
    for calls in (1, 2):
        generation.generate(model, tok, ["def f():"], tiny_models.CPU_FP32, max_new_tokens=3)
        assert left[-1] == [None] * calls
