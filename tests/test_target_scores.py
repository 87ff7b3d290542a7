"""Losses and hits of targets, from float32 and from rounded logits."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.models import target_scores
from helpers.models.target_scores import TargetHead


def test_losses_and_hits_by_hand():
    head = torch.nn.Linear(2, 3)
    head.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    head.bias.data = torch.tensor([0.0, 0.0, math.log(2)])
    hidden = torch.tensor([[math.log(3), 0.0], [0.0, math.log(5)]])
    # e^logits are 3, 1, 2 and 1, 5, 2.
    for form in (TargetHead(head), TargetHead.in_bfloat16(head)):
        losses, hits = form.score(hidden, torch.tensor([2, 1]))
        assert losses.tolist() == pytest.approx([math.log(6 / 2), math.log(8 / 5)], rel=1e-2)
        assert losses.dtype == torch.float32
        assert hits.tolist() == [False, True]


@pytest.mark.parametrize("bias", [False, True])
def test_rounded_logits_give_nearly_the_losses_of_float32_in_pieces_too(monkeypatch, bias):
    torch.manual_seed(0)
    head = torch.nn.Linear(64, 500, bias=bias)
    hidden, targets = torch.randn(300, 64) * 6, torch.randint(0, 500, (300,))
    exact, hits = TargetHead(head).score(hidden, targets)
    expected = torch.nn.functional.cross_entropy(head(hidden), targets, reduction="none")
    assert torch.allclose(exact, expected, rtol=1e-5)
    assert torch.equal(hits, head(hidden).argmax(-1) == targets)
    monkeypatch.setattr(target_scores, "LOGITS_AT_ONCE", 7 * 500)
    monkeypatch.setattr(target_scores, "IN_CACHE", 3 * 500)
    rounded, rounded_hits = TargetHead.in_bfloat16(head).score(hidden, targets)
    assert not torch.equal(rounded, exact)
    assert (rounded - exact).abs().max() < 0.15
    assert abs((rounded - exact).mean()) < 0.01
    assert (rounded_hits != hits).sum() <= 3


def test_a_nearly_certain_target_costs_something():
    head = torch.nn.Linear(1, 2, bias=False)
    head.weight.data = torch.tensor([[8.0], [0.0]])
    for form in (TargetHead(head), TargetHead.in_bfloat16(head)):
        losses, _ = form.score(torch.ones(5, 1), torch.zeros(5, dtype=torch.long))
        assert losses.tolist() == pytest.approx([math.log1p(math.exp(-8))] * 5, rel=1e-3)


def test_logits_that_rounding_makes_equal_are_told_apart():
    head = torch.nn.Linear(1, 4, bias=False)
    head.weight.data = torch.tensor([[0.0], [1.0], [1.0 + 2**-12], [0.5]])
    rounded = TargetHead.in_bfloat16(head)
    assert rounded.rounded[0][1] == rounded.rounded[0][2]
    _, hits = rounded.score(torch.tensor([[1.0], [1.0], [-1.0]]), torch.tensor([1, 2, 0]))
    assert hits.tolist() == [False, True, True]
    head = torch.nn.Linear(1, 3)
    head.weight.data, head.bias.data = torch.ones(3, 1), torch.tensor([0.0, 2**-12, -1.0])
    _, hits = TargetHead.in_bfloat16(head).score(torch.ones(2, 1), torch.tensor([0, 1]))
    assert hits.tolist() == [False, True]


def test_a_head_that_tells_nothing_apart_takes_one_more_product(monkeypatch):
    head = torch.nn.Linear(3, 100)
    head.weight.data, head.bias.data = torch.ones(100, 3), torch.zeros(100)
    calls = []
    monkeypatch.setattr(
        torch.nn.Linear, "forward", lambda self, x: calls.append(x) or x @ self.weight.T + self.bias
    )
    _, hits = TargetHead.in_bfloat16(head).score(torch.ones(4, 3), torch.tensor([0, 1, 99, 0]))
    assert hits.tolist() == [True, False, False, True]
    assert [len(x) for x in calls] == [4]


def test_nothing_to_score_gives_nothing():
    losses, hits = TargetHead(torch.nn.Linear(3, 4)).score(
        torch.empty(0, 3), torch.empty(0, dtype=torch.long)
    )
    assert losses.shape == hits.shape == (0,)


def test_a_head_that_computes_more_than_a_product_is_not_rounded():
    class Adapted(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    assert TargetHead.in_bfloat16(Adapted(3, 4)).rounded is None
