"""Fill-in-the-middle: every character is trained on once, prompts hold both sides, the ladder measures its share."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_completion_arms import planted_task

from helpers.eval.completion_arms import exact_share, run_arms
from helpers.eval.completion_comparison import ARMS
from helpers.eval.completion_context import FILE, REPOSITORY, PromptForm
from helpers.models.causal_lm import generate, load_tokenizer
from helpers.models.generation import end_ids
from helpers.models.infilling import FAMILIES, SUFFIX_SHARE, InfillMarks, infill_marks
from helpers.models.tokens import token_ids
from helpers.profiles import SMOKE, T4
from helpers.report.ladder_table import ladder_table
from helpers.settings import TINY_CODE_LM, LoraSettings
from helpers.tools.track_a_ladder import VARIANTS, _places
from helpers.train.continued_pretraining import train_language_model
from helpers.train.infilled_pieces import infilled_pieces
from helpers.train.packing import collate_packed, pack_texts

QWEN = (*FAMILIES[0], REPOSITORY, FILE)
WINDOW = 64
LINES = st.lists(st.text(alphabet="abé =(\n\t字", min_size=1, max_size=30), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_models.tokenizer(extra=QWEN)


def test_the_marks_are_found_in_the_families_that_have_them(tokenizer):
    for names in FAMILIES:
        tok = tiny_models.tokenizer(extra=names)
        marks = infill_marks(tok)
        assert [marks.prefix, marks.suffix, marks.middle] == tok.convert_tokens_to_ids(list(names))
    assert infill_marks(tiny_models.tokenizer()) is None
    model = tiny_models.model("qwen2", len(tokenizer))
    every = {tokenizer.convert_tokens_to_ids(name) for name in (*QWEN, "<|fim_pad|>", "<|endoftext|>")}
    assert every <= end_ids(model, tokenizer)


def test_both_orders_by_hand():
    marks = InfillMarks(90, 91, 92, ("p", "s", "m"))
    assert marks.psm([1, 2], [5], [3, 4]) == [90, 1, 2, 91, 5, 92, 3, 4]
    assert marks.spm([1, 2], [5], [3, 4]) == [90, 91, 5, 92, 1, 2, 3, 4]


def parted(ids, marks):
    """Return prefix, middle and suffix of a piece as token ids, whichever order it has."""
    at, after = ids.index(marks.suffix), ids.index(marks.middle)
    if at == 1:  # suffix first; prefix and middle are one text
        return ids[after + 1 : -1], [], ids[2:after]
    return ids[1:at], ids[after + 1 : -1], ids[at + 1 : after]


@settings(max_examples=40, deadline=None)
@given(LINES, st.integers(0, 99))
def test_a_turned_document_holds_its_text_once_and_every_piece_fits(lines, seed):
    tok, text = TOKENIZER, "".join(f"{line}\n" for line in lines)
    marks = infill_marks(tok)
    plain, pieces = infilled_pieces([text], tok, WINDOW, share=1.0, seed=seed)
    assert plain == []
    whole = ""
    for piece in pieces:
        assert len(piece.ids) == len(piece.labels) <= WINDOW
        # a middle that was cut off has no end
        assert piece.ids[-1] == tok.eos_token_id or len(piece.ids) == WINDOW
        whole += "".join(tok.decode(part) for part in parted(list(piece.ids), marks))
        for token, label in zip(piece.ids[1:], piece.labels[1:], strict=True):
            is_mark = token in (marks.prefix, marks.suffix, marks.middle)
            assert label == (-100 if is_mark else token)  # the end too: it teaches to stop
    if max(len(token_ids(tok, f"{line}\n")) for line in lines) <= WINDOW - 24:
        assert sorted(whole) == sorted(tok.decode(token_ids(tok, text)))


TOKENIZER = tiny_models.tokenizer(extra=QWEN)


def test_the_share_and_both_orders_are_drawn_by_the_seed(tokenizer):
    texts = [f"value_{n} = {n}\n" for n in range(400)]
    plain, pieces = infilled_pieces(texts, tokenizer, WINDOW, share=0.5, seed=3)
    assert len(plain) == len(pieces) == 200  # none is long
    assert plain != texts[:200]
    marks = infill_marks(tokenizer)
    suffix_first = sum(piece.ids[1] == marks.suffix for piece in pieces)
    assert 0.3 * len(pieces) < suffix_first < 0.7 * len(pieces)
    again = infilled_pieces(texts, tokenizer, WINDOW, share=0.5, seed=3)
    assert (plain, pieces) == again
    assert infilled_pieces(texts, tokenizer, WINDOW, share=0.0, seed=3) == (texts, [])
    assert infilled_pieces(texts, tiny_models.tokenizer(), WINDOW, share=1.0, seed=3) == (texts, [])


def test_a_line_longer_than_a_row_keeps_its_middle(tokenizer):
    text = "".join(random.Random(1).choice("abcdefgh") for _ in range(300))
    _, [piece] = infilled_pieces([text], tokenizer, WINDOW, share=1.0, seed=8)
    assert len(piece.ids) == WINDOW
    assert piece.ids.count(infill_marks(tokenizer).middle) == 1


def test_pieces_share_rows_with_plain_documents(tokenizer):
    plain, pieces = infilled_pieces(["a = 1\n"] * 3, tokenizer, WINDOW, share=1.0, seed=1)
    rows = pack_texts([*plain, "b = 2\n"], tokenizer, WINDOW, pieces)
    batch = collate_packed(rows)
    assert (batch["position_ids"] == 0).sum() >= 4
    ends = batch["input_ids"] == tokenizer.eos_token_id
    learnt = batch["labels"] == tokenizer.eos_token_id
    assert (int(ends.sum()), int(learnt.sum())) == (4, 3)  # not after the plain document, as before


def test_prompts_hold_both_sides_in_the_families_form(tokenizer):
    task = planted_task(window=96)
    item = task.items[0]
    text, marks = task.texts[item.path], infill_marks(tokenizer)
    room = 400
    prompt = PromptForm(tokenizer, "shop", "none", 0.5).plain(item, text, room)
    at, end = prompt.index(marks.suffix), len(prompt) - 1
    assert (prompt[0], prompt[end]) == (marks.prefix, marks.middle)
    assert text[: item.start].endswith(tokenizer.decode(prompt[1:at]))
    behind = tokenizer.decode(prompt[at + 1 : end])
    assert text[item.end :].startswith(behind)
    assert behind
    assert end - at - 1 <= room * SUFFIX_SHARE
    for heads in ("marks", "comments", "none"):
        unit = next(iter(task.code.units))
        prompt, used = PromptForm(tokenizer, "shop", heads, 0.5).prompt(task.code, item, text, [unit], room)
        assert used == (unit,)
        assert len(prompt) <= room
        start = prompt.index(marks.prefix)
        told = tokenizer.decode(prompt)
        if heads == "marks":  # Qwen's form for a repository: files, then the one to fill in
            assert told.startswith(f"{REPOSITORY}shop\n{FILE}")
            assert tokenizer.decode(prompt[:start]).endswith(f"{FILE}{item.path}\n")
        else:
            assert start == 0
        assert prompt[-1] == marks.middle


def test_all_arms_are_measured_in_that_form(tokenizer):
    task = replace(planted_task(window=96), validation=())
    models = [tiny_models.model("qwen2", len(tokenizer), seed=seed) for seed in (0, 1)]
    result = run_arms(
        task, *[lambda model=model: (model, tokenizer) for model in models], tiny_models.CPU_FP32
    )
    assert set(ARMS) <= set(result.scores)
    assert result.context.infill
    form, item = PromptForm(tokenizer, "shop", "none", 0.5), task.items[0]
    most = {"block": 48}.get(item.kind, 32)
    prompt = form.plain(item, task.texts[item.path], 96 - most)
    stop = () if item.kind == "block" else ("\n",)
    [[alone]] = generate(models[0], tokenizer, [prompt], tiny_models.CPU_FP32, max_new_tokens=most, stop=stop)
    assert result.scores["base"][0].text.strip() in alone.strip() or not alone.strip()
    places = [(item, task.texts[item.path]) for item in task.items]
    share = exact_share(models[0], tokenizer, places, tiny_models.CPU_FP32, window=96)
    assert share == sum(score.exact_match for score in result.scores["base"]) / len(places)


def test_training_turns_documents_only_where_there_are_marks(tmp_path):
    texts = [f"def f_{n}(a):\n    return a + {n}\n" * 4 for n in range(8)]
    track = replace(
        SMOKE.track_a, window=48, stride=24, rehearsal_share=0.0, keep_gain=1.0, batch_sequences=4,
        train_embeddings=False, lora=LoraSettings(rank=4, alpha=4),
    )  # fmt: skip
    found = {}
    for name, extra in (("with", QWEN), ("without", ())):
        tok = tiny_models.tokenizer(extra=extra)
        model = str(tiny_models.save(tmp_path / name, "qwen2", tok))
        history = train_language_model(
            replace(track, model=model), texts[:6], texts[6:], tiny_models.CPU_FP32, seed=1,
            out_dir=tmp_path / f"{name}-out",
        )  # fmt: skip
        found[name] = history.infilled_documents
    assert found == {"with": 3, "without": 0}
    assert T4.track_a.fim_share == 0.5


def test_the_ladder_asks_for_the_share_and_shows_what_it_gives():
    names = [variant.name for variant in VARIANTS if variant.infill]
    assert names == ["no file as fill-in-the-middle", "every file as fill-in-the-middle"]
    assert [variant.change(T4.track_a).fim_share for variant in VARIANTS if variant.infill] == [0.0, 1.0]
    row = {"name": "x", "learning_rate": 1e-4, "rank": 16, "trainable_parameters": 10, "validation": 0.9,
           "general": 0.8, "completed": 0.25}  # fmt: skip
    before = {"validation": 1.0, "general": 0.8, "completed": 0.125}
    table = ladder_table({"before": before, "rows": [row]})
    assert table["Completed exactly"].tolist() == ["0.125", "0.250"]
    task = planted_task()
    held = [file for file in task.training if file.path == "shop/apple.py"]
    places = _places(tiny_models.tokenizer(extra=QWEN), held, task.training[1:], 3)
    assert places
    assert _places(tiny_models.tokenizer(), held, task.training[1:], 3) == []
    assert all(text == held[0].text for _, text in places)


def test_greedy_text_ends_at_a_mark_of_the_family(tokenizer):
    """A model that goes on with another file's mark has ended; the mark is no text."""
    model = tiny_models.model("qwen2", len(tokenizer))
    end = tokenizer.convert_tokens_to_ids(FILE)
    with torch.no_grad():
        head = torch.nn.Linear(16, len(tokenizer))
        head.weight.zero_()
        head.bias.fill_(-9.0)
        head.bias[end] = 9.0
    model.lm_head = head
    [[text]] = generate(model, tokenizer, [[5, 6, 7]], tiny_models.CPU_FP32, max_new_tokens=4)
    assert text == ""


def test_marks_that_a_model_never_saw_are_not_used_nor_in_a_saved_copy(tmp_path):
    """The embedded model's vocabulary holds them; it was never trained to fill in the middle."""
    embedded = load_tokenizer(TINY_CODE_LM)
    assert set(FAMILIES[0]) <= set(embedded.get_vocab())
    embedded.save_pretrained(str(tmp_path))
    copy = type(embedded).from_pretrained(str(tmp_path))
    assert infill_marks(embedded) is None
    assert infill_marks(copy) is None
