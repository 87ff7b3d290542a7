"""The from-scratch loop: its schedules, resuming with the same losses, processes that share a step."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from helpers.machine.hardware import can_compile, detect_runtime
from helpers.models.structure import hidden_states
from helpers.train import from_scratch as pretraining
from helpers.train.fallbacks import NonFiniteLossError
from helpers.train.from_scratch import (
    Optimizer,
    PretrainingSettings,
    Schedule,
    full_rows_mask,
    train_from_scratch,
)
from helpers.train.muon import StackedMuon, orthogonalised
from helpers.train.step_log import read_log


def small_model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=True,
        )
    )  # fmt: skip


class Counting:
    """Rows that can be learned: each token is the one before it plus one."""

    def rows(self, step: int) -> list[dict[str, torch.Tensor]]:
        start = torch.randint(0, 40, (4, 1), generator=torch.Generator().manual_seed(step))
        ids = start + torch.arange(16)
        labels = ids.clone()
        labels[:, 0] = -100
        return [{"input_ids": ids[i : i + 2], "labels": labels[i : i + 2]} for i in (0, 2)]


SETTINGS = PretrainingSettings(
    Schedule("wsd", steps=12, warmup=2, decay=6), Optimizer("muon", warm_momentum=(0.85, 5)),
    evaluate_every=4, checkpoint_every=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def runtime():
    return dataclasses.replace(detect_runtime(), autocast_dtype=None)


def losses(folder) -> list[float]:
    return [row["loss"] for row in read_log(folder) if "loss" in row]


@pytest.mark.parametrize(
    ("schedule", "step", "share"),
    [
        (Schedule("wsd", steps=10, warmup=4, decay=5), 0, 0.25),
        (Schedule("wsd", steps=10, warmup=4, decay=5), 5, 1.0),
        (Schedule("wsd", steps=10, warmup=4, decay=5), 7, 0.6),
        (Schedule("wsd", steps=10, warmup=4, decay=5, floor=0.5), 9, 0.6),
        (Schedule("cosine", steps=10), 0, 1.0),
        (Schedule("cosine", steps=10), 5, 0.5),
        (Schedule("cosine", steps=12, warmup=2), 7, 0.5),
        (Schedule("constant", steps=10), 9, 1.0),
    ],
)
def test_schedule_by_hand(schedule, step, share):
    assert schedule.share(step) == pytest.approx(share, abs=1e-12)


def test_a_regularity_is_learned_and_every_step_logged(runtime, tmp_path):
    longer = dataclasses.replace(SETTINGS, schedule=Schedule("wsd", steps=40, warmup=2, decay=20))
    result = train_from_scratch(
        small_model(), Counting(), longer, runtime, tmp_path, evaluate=lambda model: {"one": 1.0}
    )
    curve = losses(tmp_path)
    assert len(curve) == 40
    assert curve[-1] < 0.5 * curve[0]
    assert result.tokens == 40 * 4 * 15
    assert [row["step"] for row in read_log(tmp_path) if "evaluation" in row] == [*range(4, 41, 4)]
    assert result.final == {"one": 1.0}


def test_nothing_is_compiled_without_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not can_compile(torch.device("cpu"))


@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="needs a C++ compiler")
def test_compiled_steps_give_the_losses_of_plain_ones(runtime, tmp_path):
    short = dataclasses.replace(SETTINGS, schedule=Schedule("constant", steps=3))
    for name, compiled in (("plain", False), ("compiled", True)):
        settings = dataclasses.replace(short, compile=compiled)
        train_from_scratch(small_model(), Counting(), settings, runtime, tmp_path / name)
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), abs=1e-4)


def test_a_resumed_run_gives_the_same_losses_and_weights(runtime, tmp_path):
    whole = small_model()
    train_from_scratch(whole, Counting(), SETTINGS, runtime, tmp_path / "whole")

    class Breaking(Counting):
        def rows(self, step):
            if step == 10:
                raise KeyboardInterrupt
            return super().rows(step)

    with pytest.raises(KeyboardInterrupt):
        train_from_scratch(small_model(), Breaking(), SETTINGS, runtime, tmp_path / "broken")
    assert len(losses(tmp_path / "broken")) == 10
    again = small_model()
    train_from_scratch(again, Counting(), SETTINGS, runtime, tmp_path / "broken")
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_killed_process_resumes_from_its_checkpoint(runtime, tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys, dataclasses
        sys.path.insert(0, "tests")
        from pathlib import Path
        from test_pretraining import Counting, SETTINGS, small_model, detect_runtime, train_from_scratch
        class Rows(Counting):
            def rows(self, step):
                if step == 7:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().rows(step)
        runtime = dataclasses.replace(detect_runtime(), autocast_dtype=None)
        train_from_scratch(small_model(), Rows(), SETTINGS, runtime, Path(sys.argv[1]))
    """)
    run = [sys.executable, "-c", script, str(tmp_path / "killed")]
    assert subprocess.run(run, capture_output=True).returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "checkpoint.pt").is_file()
    for folder in ("killed", "whole"):
        train_from_scratch(small_model(), Counting(), SETTINGS, runtime, tmp_path / folder)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_two_processes_give_the_losses_of_one(runtime, tmp_path):
    train_from_scratch(small_model(), Counting(), SETTINGS, runtime, tmp_path / "one")
    script = textwrap.dedent("""
        import sys, dataclasses
        sys.path.insert(0, "tests")
        from pathlib import Path
        from test_pretraining import Counting, SETTINGS, small_model, detect_runtime, train_from_scratch
        runtime = dataclasses.replace(detect_runtime(), autocast_dtype=None)
        train_from_scratch(small_model(), Counting(), SETTINGS, runtime, Path(sys.argv[1]))
    """)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "two")], env=environment | {"RANK": rank}
        )
        for rank in "01"
    ]
    assert [job.wait() for job in jobs] == [0, 0]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)


def test_a_half_written_checkpoint_is_not_used(runtime, tmp_path):
    train_from_scratch(small_model(), Counting(), SETTINGS, runtime, tmp_path)
    whole = losses(tmp_path)
    data = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(data[: len(data) // 2])
    train_from_scratch(small_model(), Counting(), SETTINGS, runtime, tmp_path)
    assert losses(tmp_path) == whole


def test_a_nan_loss_stops_the_run(runtime, tmp_path):
    def broken(model, batch):
        return hidden_states(model, batch["input_ids"]).sum() * float("nan"), 1

    with pytest.raises(NonFiniteLossError, match="step 1"):
        train_from_scratch(small_model(), Counting(), SETTINGS, runtime, tmp_path, loss_function=broken)


def test_muon_takes_hidden_matrices_and_nothing_else():
    model = small_model()
    rest, matrices = Optimizer("muon").build(model)
    taken = {id(p) for group in matrices.param_groups for p in group["params"]}
    named = {name for name, p in model.named_parameters() if id(p) in taken}
    assert len(named) == 2 * 7  # q, k, v, o, gate, up, down of each layer
    assert not any("embed" in name or "norm" in name or "bias" in name for name in named)
    everything = {id(p) for o in (rest, matrices) for group in o.param_groups for p in group["params"]}
    assert everything == {id(p) for p in model.parameters()}


def test_log_is_one_json_object_a_line(runtime, tmp_path):
    train_from_scratch(small_model(), Counting(), SETTINGS, runtime, tmp_path)
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        assert json.loads(line)["step"] >= 1


def test_full_rows_need_no_mask_if_the_kernel_is_causal() -> None:
    model = small_model().eval()
    ids = torch.arange(2 * 12).view(2, 12)
    assert model.config._attn_implementation == "sdpa"
    assert full_rows_mask(model) == {"full_attention": None}
    with torch.no_grad():
        without = hidden_states(model, ids, attention_mask=full_rows_mask(model))
        assert torch.allclose(without, hidden_states(model, ids), atol=1e-6)
        changed = ids.clone()
        changed[:, 8:] += 20
        later = hidden_states(model, changed, attention_mask=full_rows_mask(model))
    assert torch.equal(without[:, :8], later[:, :8])  # causal
    assert not torch.equal(without[:, 8:], later[:, 8:])
    model.set_attn_implementation("eager")  # whose products look ahead without a mask
    assert full_rows_mask(model) is None


def test_rows_are_prefetched_in_order_and_their_errors_end_the_training(tmp_path, runtime) -> None:
    asked = []

    class Failing(Counting):
        def rows(self, step):
            asked.append(step)
            if step == 3:
                raise RuntimeError("the array is cut short")
            return super().rows(step)

    with pytest.raises(RuntimeError, match="cut short"):
        train_from_scratch(small_model(), Failing(), SETTINGS, runtime, tmp_path)
    assert asked == [0, 1, 2, 3]
    assert len(losses(tmp_path)) == 3


def test_stacked_muon_makes_the_updates_of_torchs_muon() -> None:
    torch.manual_seed(0)
    shapes = [(24, 16), (16, 24), (24, 16), (16, 16)]
    start = [torch.randn(shape) for shape in shapes]
    ended = []
    for kind in (torch.optim.Muon, StackedMuon):
        matrices = [torch.nn.Parameter(matrix.clone()) for matrix in start]
        optimizer = kind([{"params": matrices}], lr=0.02, weight_decay=0.1, momentum=0.9)
        for step in range(4):
            for place, matrix in enumerate(matrices):
                chance = torch.Generator().manual_seed(10 * step + place)
                matrix.grad = torch.randn(matrix.shape, generator=chance)
            optimizer.step()
        ended.append(matrices)
        assert all("momentum_buffer" in optimizer.state[matrix] for matrix in matrices)
    for own, stacked, first in zip(*ended, start, strict=True):
        moved = (own - first).norm()
        assert (own - stacked).norm() < 0.02 * moved  # bfloat16 rounds sums of another order otherwise


def test_orthogonalised_matrices_have_singular_values_about_one() -> None:
    made = orthogonalised(
        torch.randn(3, 40, 24, generator=torch.Generator().manual_seed(1)), (3.4445, -4.775, 2.0315), 5, 1e-7
    )
    values = torch.linalg.svdvals(made.float())
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_checkpoints_respect_the_pause_between_them(tmp_path, runtime) -> None:
    saved = []
    keep = pretraining.CheckpointFile.save

    def save(self, model, optimizers, progress):
        saved.append(progress.step)
        keep(self, model, optimizers, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining.CheckpointFile, "save", save)
        train_from_scratch(small_model(), Counting(), SETTINGS, runtime, tmp_path / "every")
        assert saved == [4, 8, 12]
        saved.clear()
        rare = dataclasses.replace(SETTINGS, checkpoint_pause_s=3600.0)
        train_from_scratch(small_model(), Counting(), rare, runtime, tmp_path / "rare")
    assert saved == [12]  # the end is always kept
