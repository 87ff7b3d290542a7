"""Two ranks (gloo) produce what one process does: the same losses, adapters, texts, vectors and verdicts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from safetensors.torch import load_file
from tiny_embedder import save_tiny_embedder

from helpers.models.token_loss import IGNORED
from helpers.train.instruct import Example
from helpers.train.sharing import EvenlyShared, ignoring_fillers

ROOT = Path(__file__).parents[1]
TRAIN = """
import dataclasses, json, sys
from pathlib import Path
import tiny_models, torch
from helpers.settings import LoraSettings, TrackASettings
from helpers.train.continued_pretraining import train_language_model
torch.set_num_threads(1)
texts = [f"def function_{i}(value):\\n    return value + {i}\\n\\n\\n" * 5 for i in range(6)]
settings = TrackASettings(
    model=sys.argv[1], window=32, stride=16, train_tokens=0, validation_tokens=0, test_tokens=0, epochs=2,
    learning_rate=1e-2, batch_sequences=4, warmup_fraction=0.1, lora=LoraSettings(rank=4, alpha=8), rehearsal_share=0.0,
)
out = Path(sys.argv[2])
train_language_model(settings, texts[:5], texts[5:], tiny_models.CPU_FP32, seed=3, out_dir=out)
"""
# Track C's training, without dropout, whose masks depend on the shapes.
EMBED = """
from helpers.data.queries.retrieval_data import build_retrieval_data
from helpers.profiles import EMBEDDED
from helpers.train.contrastive import train_embedder
from tiny_embedder import small_code_base
settings_c = dataclasses.replace(
    EMBEDDED.track_c, model=str(Path(sys.argv[1]).parent / "embedder/model"), train_pairs=32, validation_pairs=8,
    test_queries=8, max_tokens=48, epochs=1, learning_rate=3e-3, batch_pairs=4, encode_batch=32, hard_negatives=0,
)
pairs = build_retrieval_data(*small_code_base(), settings_c, seed=3)
train_embedder(settings_c, pairs, tiny_models.CPU_FP32, seed=5, out_dir=Path(f"{out}_embedder"))
"""
# What every rank gets from a shared call, and which part was its own work.
SHARE = """
import os
from helpers.data.tasks.execution import ExecutionContext
from helpers.eval.response_scoring import score_responses
from helpers.models.causal_lm import generate, load_causal_lm
from helpers.models.embedder import encode, load_embedder
from helpers.machine.processes import across_ranks, this_rank_only
from helpers.records import Task
from helpers.run.workspace import to_plain
model, tokenizer = load_causal_lm(sys.argv[1], tiny_models.CPU_FP32)
prompts = ["def a", "return value", "x", "value + 1", "class A:"]
worked = []
def work(share):
    worked.extend(share)
    return [2 * item for item in share]
doubled = across_ranks(range(5), work)
fewer = across_ranks([7], lambda share: [item + 1 for item in share])
with this_rank_only():
    solo = across_ranks(range(3), lambda share: [(item, len(share)) for item in share])
greedy = generate(model, tokenizer, prompts, tiny_models.CPU_FP32, max_new_tokens=6)
sampled = generate(model, tokenizer, prompts, tiny_models.CPU_FP32, n=3, temperature=1.0, max_new_tokens=6, seed=3)
embedder = load_embedder(str(Path(sys.argv[1]).parent / "embedder/model"), tiny_models.CPU_FP32)
vectors = encode(embedder, prompts, kind="document", runtime=tiny_models.CPU_FP32, batch_size=1)
tasks = [
    Task(f"t{i}", "implement", f"f{i}", "m.py", "write f", "def f(x): return x", "f", "", f"assert f({i}) == {i}", 1,
         {"code": "def f(x): return x"})
    for i in range(3)
]
answers = {task.id: [f"def f(x): return {n}" for n in range(3)] for task in tasks}
scores = score_responses(tasks, answers, context=ExecutionContext((), ()), workers=1)
place = os.environ.get("RANK", "0")
result = {"doubled": doubled, "fewer": fewer, "solo": solo, "greedy": greedy, "sampled": sampled, "vectors": vectors.tolist(),
          "scores": to_plain(scores)}
Path(f"{out}_{place}.json").write_text(json.dumps({"worked": worked, "result": result}))
"""
# Accelerate shards models only over accelerators; here it takes the two CPU processes for such.
SHARDED = f"""
from accelerate import PartialState
from accelerate.utils import DistributedType
of_cpus = PartialState.__init__
def of_accelerators(self, *arguments, **options):
    of_cpus(self, *arguments, **options)
    if self.distributed_type is DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU
PartialState.__init__ = of_accelerators
{TRAIN}
from accelerate.state import AcceleratorState
assert AcceleratorState().is_fsdp2
"""


LAUNCH = ("-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1",
          "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")  # fmt: skip
DDP = ("--multi_gpu",)
FSDP = ("--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP",
        "--fsdp_state_dict_type", "FULL_STATE_DICT", "--fsdp_cpu_ram_efficient_loading", "false")  # fmt: skip


def run(script: str, model: Path, out: Path, *launcher: str) -> dict:
    """Run the script in as many processes as the launcher starts; return the training's history."""
    file = out.with_suffix(".py")
    file.write_text(script)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    environment["ACCELERATE_USE_CPU"] = "true"
    command = [sys.executable, "-W", "ignore", *launcher, str(file), str(model), str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in out.iterdir()) == ["adapter", "history.json"]
    return json.loads((out / "history.json").read_text())


def adapter(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with the models; `one` process and `two` under DDP write their results beside them."""
    made = tmp_path_factory.mktemp("runs")
    tiny_models.save(made / "model", "qwen2")
    config = save_tiny_embedder(made / "embedder") / "config.json"
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps(json.loads(config.read_text()) | still))
    return made


@pytest.fixture(scope="module")
def one(folder) -> dict:
    history = run(TRAIN + EMBED + SHARE, folder / "model", folder / "one")
    assert (history["processes"], history["micro_batch"]) == (1, 4)
    assert len(history["train_loss"]) > 4
    return history


@pytest.fixture(scope="module")
def two(folder) -> dict:
    return run(TRAIN + EMBED + SHARE, folder / "model", folder / "two", *LAUNCH, *DDP)


def assert_same_training(found: dict, wanted: dict, out: Path) -> None:
    assert (found["processes"], found["micro_batch"]) == (2, 2)
    assert found["train_loss"] == pytest.approx(wanted["train_loss"], abs=1e-4)
    assert found["validation"] == pytest.approx(wanted["validation"], abs=1e-4)
    assert found["best_step"] == wanted["best_step"]
    of_one, of_two = adapter(out.with_name("one")), adapter(out)
    assert of_two.keys() == of_one.keys()
    assert all(torch.allclose(of_two[name], of_one[name], atol=1e-4) for name in of_one)


def test_two_ranks_give_the_losses_and_adapter_of_one_process(folder, one, two) -> None:
    assert_same_training(two, one, folder / "two")


def test_two_ranks_with_half_the_weights_each_give_the_same(folder, one) -> None:
    sharded = run(SHARDED, folder / "model", folder / "sharded", *LAUNCH, *FSDP)
    assert_same_training(sharded, one, folder / "sharded")


def test_two_ranks_give_the_embedder_of_one_process(folder, one, two) -> None:
    of_one, of_two = (
        json.loads((folder / f"{run}_embedder" / "history.json").read_text()) for run in ("one", "two")
    )
    assert len(of_one["loss"]) == 8
    losses = [[row["loss"] for row in history["loss"]] for history in (of_one, of_two)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert of_two["validation"] == of_one["validation"]
    assert not (folder / "two_embedder" / "checkpoints").exists()


def test_sampling_encoding_and_scoring_are_split_and_give_the_same_results(folder, one, two) -> None:
    of_one = json.loads((folder / "one_0.json").read_text())
    of_two = [json.loads((folder / f"two_{place}.json").read_text()) for place in (0, 1)]
    assert of_one["worked"] == [0, 1, 2, 3, 4]
    assert [found["worked"] for found in of_two] == [[0, 2, 4], [1, 3]]
    assert of_one["result"]["doubled"] == [0, 2, 4, 6, 8]
    assert of_one["result"]["solo"] == [[0, 3], [1, 3], [2, 3]]
    assert [score["passed"] for score in of_one["result"]["scores"]] == [
        True, False, False, False, True, False, False, False, True,
    ]  # fmt: skip
    for found in of_two:
        assert found["result"] == of_one["result"]


def test_fillers_even_out_the_shares_and_do_not_count() -> None:
    shared = EvenlyShared([Example((1, 1, 1), (IGNORED, 1, 1)) for _ in range(5)], at_once=4)
    assert len(shared) == 8
    order = list(shared.sampler(seed=1))
    assert sorted(order[:5]) == [0, 1, 2, 3, 4]
    assert order[5:] == [5, 6, 7]
    collate = ignoring_fillers(lambda items: {"labels": torch.tensor([item.labels for item in items])})
    labels = collate([shared[i] for i in order[4:]])["labels"]
    assert labels.tolist() == [[-100, 1, 1]] + [[-100] * 3] * 3
    assert len(EvenlyShared(list("abcd"), at_once=4)) == 4


def test_each_epoch_has_its_own_order() -> None:
    sampler = EvenlyShared(list(range(50)), at_once=8).sampler(seed=1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
