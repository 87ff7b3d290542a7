"""Averaging trainings: the mean is right, one member is its own mean, finished members are reused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_embedder import save_tiny_embedder, small_code_base

from helpers.data.queries.retrieval_data import build_retrieval_data
from helpers.machine.hardware import Runtime
from helpers.models.embedder import load_embedder
from helpers.profiles import EMBEDDED
from helpers.run.workspace import read_json
from helpers.train import averaged_embedder
from helpers.train.averaged_embedder import load_member, mean_of, train_averaged

PLAIN = Runtime(torch.device("cpu"), torch.float32, None, "sdpa", 1.0, ())


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = save_tiny_embedder(tmp_path_factory.mktemp("base") / "tiny")
    return dataclasses.replace(
        EMBEDDED.track_c, model=str(folder), train_pairs=24, validation_pairs=8, test_queries=12, max_tokens=48,
        epochs=1, learning_rate=3e-3, batch_pairs=12, encode_batch=32, seeds=2, trained_layers=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(settings):
    return build_retrieval_data(*small_code_base(), settings, seed=3)


@pytest.fixture(scope="module")
def trained(settings, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    return train_averaged(settings, data, PLAIN, seed=5, out_dir=out), out


def weights(model) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


def test_every_weight_is_the_mean_of_the_members(settings, trained):
    history, out = trained
    assert history["seeds"] == [5, 6]
    members = [weights(load_member(settings, out, seed, PLAIN)) for seed in (5, 6)]
    untouched, mean = (
        weights(load_embedder(settings.model, PLAIN)),
        weights(load_embedder(str(out / "embedder"), PLAIN)),
    )
    moved = [name for name in mean if not torch.equal(members[0][name], members[1][name])]
    assert moved
    for name, value in mean.items():
        assert torch.allclose(value, (members[0][name] + members[1][name]) / 2, atol=1e-7)
        if name not in moved:
            assert torch.equal(value, untouched[name])
    assert not (out / "members/seed_5").exists()
    assert sorted(history["members"]) == ["5", "6"]
    assert 0.0 <= history["validation_averaged"] <= 1.0
    assert read_json(out / "history.json") == history


def test_finished_members_are_reused(settings, data, trained, tmp_path, monkeypatch):
    calls = []
    train = averaged_embedder.train_embedder

    def stopping(*arguments, seed, **options):
        calls.append(seed)
        if calls == [5, 6]:
            raise KeyboardInterrupt
        return train(*arguments, seed=seed, **options)

    monkeypatch.setattr(averaged_embedder, "train_embedder", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_averaged(settings, data, PLAIN, seed=5, out_dir=tmp_path)
    train_averaged(settings, data, PLAIN, seed=5, out_dir=tmp_path)
    assert calls == [5, 6, 6]
    whole, again = (weights(load_embedder(str(at / "embedder"), PLAIN)) for at in (trained[1], tmp_path))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_one_seed_is_that_training(settings, data, trained, tmp_path):
    history = train_averaged(dataclasses.replace(settings, seeds=1), data, PLAIN, seed=5, out_dir=tmp_path)
    alone, member = (
        weights(load_embedder(str(tmp_path / "embedder"), PLAIN)),
        load_member(settings, trained[1], 5, PLAIN),
    )
    assert all(torch.equal(alone[name], value) for name, value in weights(member).items())
    assert history["validation_averaged"] == pytest.approx(history["members"]["5"])


def test_mean_by_hand():
    states = [
        {"w": torch.tensor([0.0, 3.0])},
        {"w": torch.tensor([3.0, 3.0])},
        {"w": torch.tensor([0.0, -3.0])},
    ]
    assert mean_of(states)["w"].tolist() == [1.0, 1.0]
