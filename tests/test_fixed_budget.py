"""Runs of the lab: rules check what really ran, and a killed run resumes on the same curve."""

import dataclasses
import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers.fixed_budget import experiment, frozen_metric, title_loss
from helpers.fixed_budget import rules as budget_rules
from helpers.fixed_budget.recipes import (
    BASELINE,
    LADDER,
    RECIPES,
    Recipe,
    RecipeError,
    Scale,
    changed,
    find_recipe,
    find_scale,
)
from helpers.fixed_budget.rules import RuleBroken
from helpers.fixed_budget.rungs import Rung, collect_rungs, ladder_recipes, rung_verdict, spread_of
from helpers.fixed_budget.title_loss import summed_title_loss
from helpers.fixed_budget.title_model import Architecture, build_title_lm
from helpers.fixed_budget.title_stream import TitleStream
from helpers.fixed_budget.titles import TitleSplit, load_titles, split_titles
from helpers.fixed_budget.tokenizer import train_tokenizer
from helpers.fixed_budget.train_recipe import SAMPLES, ComparisonSettings, run_recipe
from helpers.machine.hardware import can_compile
from helpers.run.workspace import read_jsonl
from tests.tiny_models import CPU_FP32

ROOT = Path(__file__).parents[1]
WORDS = [
    "Show",
    "Ask",
    "HN",
    "How",
    "to",
    "build",
    "a",
    "fast",
    "compiler",
    "in",
    "Rust",
    "Python",
    "the",
    "new",
    "search",
    "engine",
    "open",
    "source",
]
AS_IS = Scale("as it is")
TINY = dataclasses.replace(
    BASELINE, name="tiny", model=Architecture(layers=1, heads=2, width=16, mlp_width=16),
    vocabulary=300, block=16, batch=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("data") / "titles.txt"
    picks = [(i * 7 + 3 * j * (i % 5 + 1)) % len(WORDS) for i in range(60) for j in range(5)]
    titles = [" ".join(WORDS[k] for k in picks[i * 5 : i * 5 + 5]) + f" {i}" for i in range(60)]
    path.write_text("\n".join(titles), encoding="utf-8")
    return f"file:{path}"


@pytest.fixture(scope="module")
def titles(data):
    return load_titles(data, seed=1337)


def run(recipe: Recipe, data: str, out: Path, *, resume: bool = False, **options):
    return run_recipe(recipe, ComparisonSettings(data, AS_IS, out, resume), CPU_FP32, **options)


def broken(rule: str):
    return pytest.raises(RuleBroken, match=f"refused by the rule “{rule}”")


# --- rules ---------------------------------------------------------------------------------------


def test_settings_that_break_a_rule_are_refused_before_anything_runs(data, tmp_path) -> None:
    with broken("7 epochs"):
        run(changed(TINY, epochs=8), data, tmp_path)
    with broken("seed 1337"):
        run(TINY, data, tmp_path, seed=1)
    with broken("validation fraction 0.10"):
        run(changed(TINY, validation_fraction=0.05), data, tmp_path)
    assert not any(tmp_path.iterdir())


def test_another_metric_is_refused(data, tmp_path, monkeypatch) -> None:
    def frozen_sum(logits, ids, *, batch, block, device):
        return 0.0, len(ids)

    monkeypatch.setattr(frozen_metric, "frozen_sum", frozen_sum)
    with broken("frozen evaluate"):
        run(TINY, data, tmp_path)
    monkeypatch.setattr(frozen_metric, "frozen_sum", abs)  # has no source at all
    with broken("frozen evaluate"):
        budget_rules.check_metric()


def test_text_that_was_touched_is_refused(data, titles) -> None:
    split = split_titles(titles, 0.10)
    budget_rules.check_text(data, titles, split, AS_IS)
    lower = tuple(title.lower() for title in split.validation)
    with broken("text unchanged"):
        budget_rules.check_text(data, titles, TitleSplit(split.train, lower), AS_IS)
    longer = tuple(f"<title>{title}</title>" for title in split.validation)
    with broken("text unchanged"):
        budget_rules.check_text(data, titles, TitleSplit(split.train, longer), AS_IS)
    more = TitleSplit(titles.titles[:58], titles.titles[58:])
    with broken("validation fraction 0.10"):
        budget_rules.check_text(data, titles, more, AS_IS)
    easier = dataclasses.replace(titles, titles=tuple(sorted(titles.titles)))
    with broken("the data set"):
        budget_rules.check_text(data, easier, split_titles(easier, 0.10), AS_IS)
    with broken("the data set"):
        budget_rules.check_text(data, titles, split, AS_IS, known={titles.spec: "0" * 64})
    other = load_titles(data, seed=5)
    with broken("seed 1337"):
        budget_rules.check_text(data, other, split_titles(other, 0.10), AS_IS)


def test_a_tokenizer_that_saw_validation_text_or_alters_it_is_refused(titles) -> None:
    from tokenizers import normalizers

    split = split_titles(titles, 0.10)
    honest = train_tokenizer("bpe", 300, split.train)
    budget_rules.check_tokenizer(honest, split)
    with broken("tokenizer from training text"):
        budget_rules.check_tokenizer(train_tokenizer("bpe", 300, titles.titles), split)
    honest.tokenizer.normalizer = normalizers.Lowercase()
    with broken("text unchanged"):
        budget_rules.check_tokenizer(honest, split)


def test_an_eighth_pass_over_the_text_is_refused() -> None:
    budget_rules.check_passes(700, 100)
    with broken("7 epochs"):
        budget_rules.check_passes(701, 100)


def test_a_model_that_looks_ahead_or_aside_is_refused() -> None:
    ids = torch.randint(2, 30, (200,), generator=torch.Generator().manual_seed(0))
    table = torch.randn(30, 30, generator=torch.Generator().manual_seed(1))
    probe = {"block": 16, "separator_id": 1}
    budget_rules.check_blindness(lambda x: table[x], ids, **probe)
    honest = build_title_lm(dataclasses.replace(TINY.model, title_mask=True), 30, 16, 1, seed=0).eval()
    budget_rules.check_blindness(honest, ids, **probe)
    with broken("frozen evaluate"):  # the next token stands in the same row
        budget_rules.check_blindness(lambda x: table[x.roll(-1, 1)], ids, **probe)
    with broken("frozen evaluate"):  # and the next row begins with what this one has to predict last
        budget_rules.check_blindness(lambda x: table[x] * x[-1, 0], ids, **probe)


# --- training batches and loss -------------------------------------------------------------------


def stream_of(recipe: Recipe, n: int = 30, seed: int = 0) -> tuple[list[torch.Tensor], TitleStream]:
    encoded = [torch.tensor([*range(10 + i, 13 + i), 1]) for i in range(n)]
    return encoded, TitleStream(encoded, recipe, 1, seed)


def test_a_stream_holds_seven_epochs_and_inputs_are_shifted_targets() -> None:
    encoded, stream = stream_of(changed(TINY, block=5, batch=3))
    assert stream.train_tokens == 120
    assert stream.steps == 7 * 120 // 15
    targets = torch.cat([b["targets"].flatten() for s in range(stream.steps) for b in stream.rows(s)])
    inputs = torch.cat([b["ids"].flatten() for s in range(stream.steps) for b in stream.rows(s)])
    assert targets.tolist() == torch.cat(encoded * 7).tolist()
    assert inputs.tolist() == [1, *targets.tolist()[:-1]]


def test_reshuffled_epochs_hold_every_title_whole_and_once_each() -> None:
    encoded, stream = stream_of(changed(TINY, block=5, batch=3, new_order=True))
    targets = stream.targets.flatten().tolist()
    cut = [list(group) for end, group in itertools.groupby(targets, lambda t: t == 1) if not end]
    assert sorted(map(tuple, cut)) == sorted(tuple(t.tolist()[:-1]) for t in encoded * 7)
    epochs = [cut[i * 30 : (i + 1) * 30] for i in range(7)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert (
        targets
        != stream_of(changed(TINY, block=5, batch=3, new_order=True), seed=1)[1].targets.flatten().tolist()
    )


def batch_of(rows: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    ids, targets = (torch.randint(2, 30, (rows, 16), generator=generator) for _ in range(2))
    return {"ids": ids, "targets": targets}


def test_the_loss_is_the_summed_cross_entropy_in_one_piece_or_many(monkeypatch) -> None:
    model = build_title_lm(TINY.model, 30, 16, 1, seed=0).eval()
    batch = batch_of()
    wanted = torch.nn.functional.cross_entropy(
        model(batch["ids"]).flatten(0, 1), batch["targets"].flatten(), reduction="sum"
    )
    loss, count = summed_title_loss(model, batch)
    assert count == 48
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    monkeypatch.setattr(title_loss, "MAX_PIECE_LOGITS", 30 * 7)
    assert summed_title_loss(model, batch)[0].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_r_drop_adds_nothing_without_dropout_and_the_divergence_with_it() -> None:
    batch = batch_of()
    model = build_title_lm(dataclasses.replace(TINY.model, dropout=0.3), 30, 16, 1, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)  # predictions far from uniform
    model.eval()
    assert summed_title_loss(model, batch, r_drop=2.0)[0].item() == pytest.approx(
        summed_title_loss(model, batch)[0].item(), rel=1e-5
    )
    model.train()
    torch.manual_seed(0)
    plain = summed_title_loss(model, batch, r_drop=1e-9)[0].item()
    torch.manual_seed(0)
    one, other = model(torch.cat([batch["ids"]] * 2)).log_softmax(-1).flatten(0, 1).chunk(2)
    divergence = ((one.exp() * (one - other)).sum() + (other.exp() * (other - one)).sum()).item() / 2
    torch.manual_seed(0)
    assert summed_title_loss(model, batch, r_drop=2.0)[0].item() == pytest.approx(
        plain + 2.0 * divergence, rel=1e-4
    )


@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="needs a C++ compiler")
def test_the_compiled_loss_has_the_same_value_and_gradients_as_the_plain_one() -> None:
    model = build_title_lm(dataclasses.replace(TINY.model, attention_dropout=0.0), 30, 16, 1, seed=0)
    found = []
    for compiled in (False, True):
        model.zero_grad()
        torch.manual_seed(3)  # the same dropout: only what follows the logits is compiled here
        loss, _ = summed_title_loss(model, batch_of(), r_drop=0.5, compiled=compiled)
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters())])
    for plain, fused in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)


def test_members_learn_independently_of_each_other() -> None:
    batch = batch_of()
    both = build_title_lm(
        dataclasses.replace(TINY.model, dropout=0.0, attention_dropout=0.0, members=2), 30, 16, 1, seed=0
    )
    alone = build_title_lm(
        dataclasses.replace(TINY.model, dropout=0.0, attention_dropout=0.0), 30, 16, 1, seed=0
    )
    summed_title_loss(both, batch)[0].backward()
    summed_title_loss(alone, batch)[0].backward()
    for of_both, of_one in zip(both.members[0].parameters(), alone.members[0].parameters(), strict=True):
        assert torch.allclose(of_both.grad * 2, of_one.grad, atol=1e-5)  # the loss is the members' mean


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_records_its_settings_and_is_reused(data, tmp_path) -> None:
    first = run(TINY, data, tmp_path)
    again = run(TINY, data, tmp_path, resume=True)
    assert again == first  # the very run: same seconds
    assert first.steps * 64 == first.tokens <= 7 * 64 * (first.steps // 7 + 1)
    assert first.data["validation_titles"] == 6
    assert 0 < first.score.coverage < 1
    assert first.score.frozen_nats_per_character < first.score.full_nats_per_character
    assert first.curve[-1][2] == pytest.approx(first.score.full_nats_per_character, abs=1e-6)
    assert not first.is_challenge
    assert len(first.samples) == SAMPLES
    repeated = run(TINY, data, tmp_path / "other")
    assert repeated.score == first.score  # same seed and machine, same figures
    other = run(TINY, data, tmp_path, seed=7, spread=True)
    assert other.spread
    assert other.data == first.data  # order and split stay
    assert other.score != first.score


def test_a_recipe_with_every_mechanism_learns_more_than_the_baseline(data, tmp_path) -> None:
    """All at once on sixty titles: Muon, unigram tokenizer, average of weights, several members.

    It is not compiled: the next test compiles several members.
    """
    recipe = changed(
        RECIPES["improved"], name="all of it", tokenizer="unigram", vocabulary=300, block=32, batch=2, compiled=False,
        **{"model.layers": 1, "model.heads": 2, "model.width": 16, "model.mlp_width": 16, "model.members": 2,
           "model.average": 0.5},
    )  # fmt: skip
    better = run(recipe, data, tmp_path)
    assert better.score.full_nats_per_character < run(TINY, data, tmp_path).score.full_nats_per_character
    rows = read_jsonl(tmp_path / "file-titles-txt-as it is" / "all-of-it-1337" / "log.jsonl")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]


@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="needs a C++ compiler")
def test_a_compiled_run_ends_where_the_plain_one_does(data, tmp_path) -> None:
    """Two members with title mask and R-Drop; without dropout, since compiled steps draw it differently."""
    recipe = changed(
        TINY, r_drop=0.5, **{"model.family": "llama", "model.title_mask": True, "model.dropout": 0.0,
                             "model.attention_dropout": 0.0, "model.members": 2, "optimizer.name": "adamw"},
    )  # fmt: skip
    plain = run(recipe, data, tmp_path)
    compiled = run(changed(recipe, name="compiled", compiled=True), data, tmp_path)
    assert compiled.curve[-1][2] == pytest.approx(plain.curve[-1][2], abs=1e-3)
    assert compiled.score.full_nats_per_character == pytest.approx(
        plain.score.full_nats_per_character, abs=1e-3
    )
    assert plain.curve[-1][2] < plain.curve[0][2]


RESUMED = changed(TINY, new_order=True, **{"optimizer.name": "muon", "model.average": 0.9})
KILLED_AT = 20  # the step whose batch is never made; checkpoints come every few steps
KILLED = """
import os, pathlib, signal, sys
from helpers.fixed_budget import train_recipe
from tests.test_fixed_budget import KILLED_AT, RESUMED, run

class Dies(train_recipe.TitleStream):
    def rows(self, step):
        if step == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().rows(step)

train_recipe.TitleStream = Dies
train_recipe.CHECKPOINT_PAUSE_S = 0.0
run(RESUMED, sys.argv[1], pathlib.Path(sys.argv[2]), resume=True)
"""


def test_a_killed_run_resumes_on_the_same_curve(data, tmp_path) -> None:
    command = [sys.executable, "-c", KILLED, data, str(tmp_path / "cut")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    partial = next((tmp_path / "cut").glob("*/*.partial"))
    assert (partial / "checkpoint.pt").is_file()
    with (partial / "log.jsonl").open("a") as log:
        log.write('{"step": 99, "lo')  # what a kill leaves of a line
    scores = [run(RESUMED, data, tmp_path / folder, resume=True).score for folder in ("cut", "whole")]
    assert scores[0] == scores[1]
    curves = []
    for folder in ("cut", "whole"):
        rows = read_jsonl(next((tmp_path / folder).glob("*/tiny-1337")) / "log.jsonl")
        curves.append([{k: v for k, v in row.items() if k != "seconds"} for row in rows])
    assert curves[0] == curves[1]
    assert len(curves[0]) > 20


def test_unknown_names_and_too_few_titles_are_refused(data, tmp_path) -> None:
    with pytest.raises(RecipeError, match="choose from baseline, improved"):
        find_recipe("best")
    with pytest.raises(RecipeError, match="choose from full, half, small, smoke"):
        find_scale("large")
    with pytest.raises(RecipeError, match="too few for batches of 1024"):
        run(changed(TINY, batch=64), data, tmp_path)


def test_the_command_line_refuses_in_one_sentence(data, tmp_path, monkeypatch, capsys) -> None:
    from helpers.__main__ import main

    command = ["helpers", "pretrain", "--data", data, "--out", str(tmp_path), "--smoke", "--seed", "5"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(
        "error: refused by the rule “seed 1337”: the run asks for seed 5"
    )


# --- ladder --------------------------------------------------------------------------------------


def test_each_rung_is_compared_with_the_recipe_it_started_from(data, tmp_path) -> None:
    finished = run(TINY, data, tmp_path)
    asked = []

    def run_one(recipe: Recipe):
        asked.append(recipe.name)
        score = dataclasses.replace(finished.score, full_nats_per_character=float(len(asked)))
        return dataclasses.replace(finished, name=recipe.name, score=score)

    rungs = collect_rungs(run_one)
    assert asked == ["baseline", *(change.name for change in LADDER)]  # each recipe once
    below = {rung.change.name: rung.reference.name for rung in rungs}
    last = "baseline"
    for change in LADDER:
        assert below[change.name] == last
        last = change.name if change.kept else last
    assert [rung.difference for rung in rungs][:2] == [1.0, 1.0]
    for change, candidate, current in ladder_recipes():
        assert candidate == change.applied(current)


def test_a_rung_counts_only_beyond_the_noise_of_seeds() -> None:
    assert rung_verdict(-0.10, 0.03) == "helped"
    assert rung_verdict(0.10, 0.03) == "did not help"
    assert rung_verdict(-0.08, 0.03) == "within the noise of seeds"  # 2 x sqrt(2) x 0.03 = 0.085
    assert rung_verdict(-0.01, None) == "helped (one seed)"


def test_the_spread_is_the_standard_deviation_over_seeds(data, tmp_path) -> None:
    one = run(TINY, data, tmp_path)
    runs = [
        dataclasses.replace(one, score=dataclasses.replace(one.score, full_nats_per_character=value))
        for value in (1.0, 2.0, 4.0)
    ]
    assert spread_of(runs) == pytest.approx((7 / 3) ** 0.5)  # mean 7/3; (16 + 1 + 25) / 9 / 2
    assert spread_of(runs[:1]) is None
    assert Rung(LADDER[0], runs[0], runs[2]).difference == -3.0


def test_an_experiment_runs_each_recipe_once_whatever_its_names(data, tmp_path, monkeypatch) -> None:
    finished = run(TINY, data, tmp_path)
    asked = []

    def run_one(recipe, conditions, runtime, *, seed, spread):
        asked.append((recipe.name, seed, spread))
        return finished

    monkeypatch.setattr(experiment, "run_recipe", run_one)
    opened = experiment.open_experiment(data, "smoke", seeds="1337, 7", out=tmp_path)
    comparison = opened.compare()
    rungs = collect_rungs(opened.run)
    last = [rung for rung in rungs if rung.change.kept][-1]
    assert asked[:3] == [("improved", 1337, False), ("improved", 7, True), ("baseline", 1337, False)]
    assert last.run == dataclasses.replace(comparison.improved[0], name=last.change.name)
    assert len(asked) == 3 + len(LADDER) - 1


def test_runs_side_by_side_end_like_single_runs_and_are_marked(data, tmp_path) -> None:
    wanted = [(TINY, 1337), (changed(TINY, name="other", block=8), 1337)]
    opened = experiment.open_experiment(data, "smoke", out=tmp_path / "both", jobs=2)
    both = dataclasses.replace(opened, scale=AS_IS)
    both.run_all(wanted)
    opened = experiment.open_experiment(data, "smoke", out=tmp_path / "alone")
    alone = dataclasses.replace(opened, scale=AS_IS)
    alone.run_all(wanted)
    for recipe, seed in wanted:
        one, other = both.run(recipe, seed), alone.run(recipe, seed)
        lost = [run.score.full_nats_per_character for run in (one, other)]
        assert lost[0] == pytest.approx(lost[1], rel=1e-5)  # threads add in another order
        assert (one.side_by_side, other.side_by_side) == (2, 1)
    with pytest.raises(RecipeError, match="from 0 to 4294967295"):
        experiment.open_experiment(data, "smoke", seeds="1337,-1", out=tmp_path)
    with pytest.raises(RecipeError, match="use 1 or more"):
        experiment.open_experiment(data, "smoke", out=tmp_path, jobs=0)
