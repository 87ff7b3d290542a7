"""The frozen metric against formulas and counts by hand."""

import itertools
import math

import pytest
import torch

from helpers.fixed_budget.frozen_metric import evaluate, frozen_sum, full_sum

CPU = torch.device("cpu")
VOCABULARY = 11


def uniform(ids):
    return torch.zeros(*ids.shape, VOCABULARY)


class Remembers:
    """Looks up next-token logits in a fixed table, and keeps every input."""

    def __init__(self) -> None:
        self.table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0))
        self.asked = []

    def __call__(self, ids):
        self.asked.append(ids.clone())
        return self.table[ids]

    def nats(self, before: int, after: int) -> float:
        return -self.table[before].log_softmax(-1)[after].item()


def score(logits, ids, *, batch, block, n_characters=100, n_titles=4):
    return evaluate(
        logits, ids, n_characters=n_characters, n_titles=n_titles, separator="<eos>", separator_id=1,
        batch=batch, block=block, device=CPU,
    )  # fmt: skip


IDS = torch.randint(2, VOCABULARY, (25,), generator=torch.Generator().manual_seed(1))


def test_a_uniform_model_costs_log_v_per_scored_token() -> None:
    found = score(uniform, IDS, batch=2, block=4)  # windows of 9 tokens: two fit, 16 targets
    assert found.frozen_nats_per_character == pytest.approx(math.log(VOCABULARY) * 16 / 100)
    assert found.coverage == 16 / 25
    assert found.full_nats_per_character == pytest.approx(math.log(VOCABULARY) * 25 / 100)
    assert found.title_nats_per_character == pytest.approx(math.log(VOCABULARY) * 25 / 80)
    assert found.nats_per_token == pytest.approx(math.log(VOCABULARY))
    assert (found.n_tokens, found.n_characters) == (25, 100)


@pytest.mark.parametrize(
    ("batch", "block", "scored"), [(1, 4, 20), (2, 4, 16), (3, 4, 12), (1, 24, 24), (4, 5, 20)]
)
def test_the_frozen_figure_depends_on_the_window_and_the_full_one_does_not(batch, block, scored) -> None:
    found = score(uniform, IDS, batch=batch, block=block)
    assert found.coverage == scored / 25
    assert found.full_nats_per_character == pytest.approx(math.log(VOCABULARY) * 25 / 100)


def test_windows_do_not_overlap_and_skip_one_token_each() -> None:
    model = Remembers()
    total, scored = frozen_sum(model, IDS, batch=2, block=4, device=CPU)
    assert [asked.flatten().tolist() for asked in model.asked] == [IDS[0:8].tolist(), IDS[9:17].tolist()]
    ids = IDS.tolist()
    by_hand = sum(model.nats(ids[i], ids[i + 1]) for i in [*range(8), *range(9, 17)])
    assert (total, scored) == (pytest.approx(by_hand, rel=1e-6), 16)


def test_every_token_is_scored_once_the_first_after_a_separator() -> None:
    model = Remembers()
    total = full_sum(model, IDS, separator_id=1, batch=2, block=4, device=CPU)
    ids = [1, *IDS.tolist()]
    assert total == pytest.approx(sum(model.nats(a, b) for a, b in itertools.pairwise(ids)), rel=1e-6)
    assert torch.cat([asked.flatten() for asked in model.asked]).tolist() == ids[:-1]


def test_a_text_shorter_than_a_window_and_a_diverged_model_are_errors() -> None:
    with pytest.raises(ValueError, match="fewer than a window"):
        score(uniform, IDS, batch=5, block=5)
    with pytest.raises(ValueError, match="diverged"):
        score(lambda ids: uniform(ids) * math.nan, IDS, batch=1, block=4)
