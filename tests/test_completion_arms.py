"""The arms of completion: each writes what its model writes alone, and a planted template is found again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import tiny_models
from test_completion_context import code_of
from test_completion_items import file_of

from helpers.data.completion_items import completion_items
from helpers.eval.completion_arms import (
    CompletionTask,
    _following_lines,
    _looked_up,
    new_tokens,
    run_arms,
)
from helpers.eval.completion_comparison import ARMS, COPY, NEAREST, arm_to_use, compare_arms
from helpers.eval.completion_results import write_completion
from helpers.eval.completion_scores import cut_completion
from helpers.eval.completion_task import completion_facts
from helpers.models.causal_lm import generate, load_causal_lm
from helpers.models.token_borders import held_back
from helpers.models.tokens import last_ids
from helpers.records import CompletionItem
from helpers.run.workspace import read_json, read_jsonl
from helpers.settings import TINY_CODE_LM

NAMES = ["apple", "brick", "cloud", "drum", "eagle", "flute", "grape", "horse"]
TEMPLATE = '''\
"""Keeps one kind of thing."""

LIMIT = 3


def refresh_{0}_ledger(self, account, quota):
    ticket = self.broker.lease(account, quota, retries=7)
    if ticket.is_stale(window=quota):
        self.audit.append_line("ledger", ticket.serial)
        ticket = self.broker.renew(ticket, grace=41)
    balance = ticket.settle(account.region, account.tier)
    self.journal.store_entry(balance, origin=ticket.serial)
    return balance.freeze(self.audit)
'''


def planted_task(count=9, window=384):
    """A repository in which every file repeats a template with another name; two files are held out."""
    files = [file_of(TEMPLATE.format(name), f"shop/{name}.py") for name in NAMES]
    training, held = files[:-2], files[-2:]
    code, _ = code_of(*training)  # nothing is held out: copies of the template would be barred as twins
    items = completion_items(held, training, count=count, seed=5)
    texts = {file.path: file.text for file in held}
    return CompletionTask(items, items[:2], texts, training, code, "shop", window)


@pytest.fixture(scope="module")
def tiny():
    """A task with a window for tiny models of random weights, and its result; the second model differs."""
    task = replace(planted_task(window=96), validation=())
    tokenizer = tiny_models.tokenizer()
    models = [tiny_models.model("qwen2", len(tokenizer), seed=seed) for seed in (0, 1)]
    loaders = [lambda model=model: (model, tokenizer) for model in models]
    return task, tokenizer, models, run_arms(task, *loaders, tiny_models.CPU_FP32)


def test_every_arm_completes_the_same_items_as_its_model_does_alone(tiny):
    task, tokenizer, models, result = tiny
    assert set(result.scores) == {*ARMS, NEAREST, COPY}
    for model, arm in ((models[0], "base"), (models[1], "adapted")):
        for item, score in zip(task.items, result.scores[arm], strict=True):
            most = new_tokens(item.kind, task.window)
            left = task.texts[item.path][: item.start]
            held = held_back(tokenizer, left)
            prompt = last_ids(tokenizer, left.removesuffix(held), task.window - most)
            [[text]] = generate(
                model, tokenizer, [prompt], tiny_models.CPU_FP32, max_new_tokens=most, begins=[held]
            )
            assert score.item_id == item.id
            assert score.text == cut_completion(item.kind, text, "python")
            assert score.context == ()
    assert [s.text for s in result.scores["base"]] != [s.text for s in result.scores["adapted"]]
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert set(result.seconds) == {*ARMS, NEAREST}


def test_retrieved_code_is_that_of_training_functions_in_both_arms_alike(tiny):
    task, _, _, result = tiny
    contexts = [
        [score.context for score in result.scores[arm]] for arm in ("base+retrieved", "adapted+retrieved")
    ]
    assert contexts[0] == contexts[1]
    assert all(unit in task.code.units for context in contexts[0] for unit in context)
    nearest = {unit for score in result.scores[NEAREST] for unit in score.context}
    assert nearest <= {file.path for file in task.training}
    assert result.context.retriever == "bm25"


def test_results_are_written_and_read_back(tiny, tmp_path):
    task, _, _, result = tiny
    facts = completion_facts(task, result, samples=200, seed=1, training_seconds=60.0)
    write_completion(tmp_path, task.items, result.scores, facts)
    assert read_jsonl(tmp_path / "items.jsonl", CompletionItem) == list(task.items)
    rows = read_jsonl(tmp_path / "completions.jsonl")
    assert Counter(row["arm"] for row in rows) == dict.fromkeys(result.scores, len(task.items))
    right = [row["exact_match"] for row in rows if row["arm"] == "base"]
    saved = read_json(tmp_path / "completion.json")
    assert saved["arms"]["base"]["exact_match"]["value"] == sum(right) / len(right)
    assert saved["places"]["all"] == len(task.items)
    assert saved["answer"].startswith("Use the untouched model")  # nine places decide nothing


def test_the_copy_baseline_by_hand():
    training = [
        file_of("a = 1\nb = 2\nif a:\n    f()\n    g()\n", "x.py"),
        file_of("a = 1\nb = 2\nc = 3\n", "y.py"),
        file_of("a = 1\nb = 4\n", "z.py"),
    ]
    table = _following_lines(training)
    held = "x\na = 1\nq = 5\nb = 2\nz\n"
    item = CompletionItem("i", "next_line", "h.py", "python", 3, held.index("q"), 0, "", False, False)
    assert _looked_up(table, item, held) == "b = 2"  # twice, "b = 4" once
    after = held.index("z")
    assert _looked_up(table, replace(item, start=after, kind="block"), held) == "if a:\n    f()\n    g()"
    assert _looked_up(table, replace(item, start=after - 2, kind="rest_of_line"), held) == " 2"
    assert _looked_up(table, replace(item, start=held.index("a")), held) == ""  # no such line


@pytest.fixture(scope="module")
def template():
    """The embedded model over the planted template; nothing is tuned: the second model is the first."""
    task = planted_task()
    return task, run_arms(
        task, *[lambda: load_causal_lm(TINY_CODE_LM, tiny_models.CPU_FP32)] * 2, tiny_models.CPU_FP32
    )


def test_with_a_template_repeated_under_other_names_retrieval_wins(template):
    task, result = template
    right = {arm: [score.exact_match for score in some] for arm, some in result.scores.items()}
    assert sum(right["base+retrieved"]) >= sum(right["base"]) + len(task.items) / 3
    similar = {arm: sum(s.edit_similarity for s in some) for arm, some in result.scores.items()}
    assert similar["base+retrieved"] > similar["base"]
    # as many files as decide a verdict, with these very outcomes
    often = {
        arm: [replace(score, path=f"{n}/{score.path}", item_id=f"{n}:{score.item_id}")
              for n in range(6) for score in result.scores[arm]]
        for arm in ARMS
    }  # fmt: skip
    assert arm_to_use(compare_arms(often, samples=500, seed=0)["differences"]) == "base+retrieved"
