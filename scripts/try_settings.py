"""Try one choice of settings for Track A or B on validation data alone, and print what it gave and cost.

    python scripts/try_settings.py a --set track_a.learning_rate=4e-4 --out DIR
    python scripts/try_settings.py b --set track_b.lora.layers=10 --data RUN/track_b/data --out DIR
    python scripts/try_settings.py b --set track_b.rehearsed_answers=60 --problems mbpp.jsonl --out DIR

Track A: bits per byte of the validation files while training, and of general code that is neither rehearsed
nor reported. Track B: the loss on the validation pairs, and answers to their instructions, greedy, scored as
answers to tasks are, by running the code. `--base` scores the untouched model. Held-out test files and tasks
are not read.

One JSON line per call is printed and added to DIR/tried.jsonl. Processor seconds hardly depend on what else
runs on the machine; seconds do.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.code.functions import extract_functions
from helpers.code.names.context import NameContext
from helpers.data.corpus import load_corpus
from helpers.data.draw import draw_splits
from helpers.data.general_code import general_code_texts
from helpers.data.leaks import without_leaks
from helpers.data.splits import split_corpus
from helpers.data.tasks.execution import execution_context
from helpers.data.tasks.instruct_data import (
    InstructData,
    build_instruct_data,
    held_out_code,
    load_instruct_data,
)
from helpers.data.tasks.rehearsal import write_rehearsal
from helpers.eval.perplexity import evaluate_perplexity
from helpers.eval.response_scoring import score_responses
from helpers.machine.hardware import Runtime, detect_runtime, set_seed
from helpers.machine.usage import free_memory, stopwatch
from helpers.models.causal_lm import chat_ids, generate, load_adapted, load_causal_lm, load_tokenizer
from helpers.profiles import RunRequest, resolve_profile
from helpers.records import Corpus, Function, Splits
from helpers.settings import Profile
from helpers.tools.general_problems import solve_general_problems
from helpers.tools.problem_files import Problem, read_problems
from helpers.tools.verify_pairs import as_task
from helpers.train.continued_pretraining import train_language_model
from helpers.train.instruct import train_instruct
from helpers.train.trainer import TrainingHistory

GENERAL_FILES = 6  # beside those on which forgetting is reported
GENERAL_PROBLEMS = 80  # drawn of a file of problems


def main() -> None:
    """Parse the command line, try the settings and print the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("track", choices=("a", "b"))
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--corpus", default="")
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="NAME=VALUE")
    parser.add_argument("--data", type=Path, help="Track B's pairs of an earlier run; built if not given")
    parser.add_argument("--problems", type=Path, help="HumanEval's or MBPP's format; not HumanEval itself")
    parser.add_argument("--pairs", type=int, default=0, help="train on the first so many alone; 0: all")
    parser.add_argument("--base", action="store_true", help="score the untouched model")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    profile = resolve_profile(
        RunRequest(given.profile, corpus=given.corpus, changed_settings=tuple(given.changes))
    )
    row = {"track": given.track, "changes": given.changes, "base": given.base}
    row |= (_try_a if given.track == "a" else _try_b)(profile, detect_runtime(), given)
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / "tried.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
    print(json.dumps(row))


def _try_a(profile: Profile, runtime: Runtime, given: argparse.Namespace) -> dict[str, Any]:
    corpus, _, splits = _corpus(profile)
    settings, seed = profile.track_a, profile.seed
    files = draw_splits(corpus, splits, settings, seed)
    texts = {name: [file.text for file in some] for name, some in files.items()}
    reported = settings.general_files
    general = general_code_texts(reported + GENERAL_FILES, seed, exclude=corpus.import_name)[reported:]

    def bits(model: Any, some: list[str]) -> float:
        sizes: dict[str, Any] = {"window": settings.window, "stride": settings.window}
        return evaluate_perplexity(*model, some, runtime=runtime, **sizes).bits_per_byte

    if given.base:
        model = load_causal_lm(settings.model, runtime)
        return {"validation": bits(model, texts["validation"]), "general": bits(model, general)}
    out, row = given.out / "a", {}

    def train() -> TrainingHistory:
        return train_language_model(
            settings, texts["training"], texts["validation"], runtime, seed=seed, out_dir=out,
            held_out=texts["test"],
        )  # fmt: skip

    row |= _trained(train, out, seed) | {"files": len(texts["training"])}
    return row | {"general": bits(load_adapted(settings.model, out / "adapter", runtime), general)}


def _try_b(profile: Profile, runtime: Runtime, given: argparse.Namespace) -> dict[str, Any]:
    corpus, functions, splits = _corpus(profile)
    settings, seed = profile.track_b, profile.seed
    problems = read_problems(given.problems) if given.problems else {}
    if any(str(name).startswith("HumanEval") for name in problems):
        raise SystemExit("runs report HumanEval, so nothing may be chosen by it: give other problems")
    data = load_instruct_data(given.data) if given.data else _built(profile, corpus, functions, splits)
    pairs, out, row = data.train[: given.pairs or None], given.out / "b", {"pairs": 0}
    if given.base:
        model = load_causal_lm(settings.model, runtime)
    else:
        rehearsed = []
        if settings.rehearsed_answers:
            with stopwatch() as took:
                rehearsed = write_rehearsal(
                    *load_causal_lm(settings.model, runtime), settings, runtime, seed=seed,
                    held_out=held_out_code(data),
                )  # fmt: skip
            row["rehearsal_s"] = round(took["seconds"])
            free_memory()

        def train() -> TrainingHistory:
            learnt = [*pairs, *rehearsed]
            return train_instruct(settings, learnt, data.validation, runtime, seed=seed, out_dir=out)

        row |= _trained(train, out, seed) | {"pairs": len(pairs), "rehearsed": len(rehearsed)}
        model = load_adapted(settings.model, out / "adapter", runtime)
    if problems:
        row |= _general(model, problems, profile, runtime)
    tasks = [as_task(pair) for pair in data.validation]
    start = time.process_time()
    texts = generate(
        *model, [chat_ids(model[1], task.instruction) for task in tasks], runtime,
        max_new_tokens=settings.max_new_tokens, batch_size=settings.generation_batch, seed=seed,
    )  # fmt: skip
    seconds = time.process_time() - start
    scores = score_responses(
        tasks, {task.id: texts[place] for place, task in enumerate(tasks)},
        context=execution_context(corpus), workers=profile.sandbox_workers,
        names=NameContext.from_functions(
            functions, corpus.import_name, corpus.files, installed=corpus.spec.startswith("installed:")
        ),
    )  # fmt: skip
    of_kind = Counter(task.kind for task in tasks)
    passed = {kind: f"{sum(s.passed for s in scores if s.kind == kind)}/{n}" for kind, n in of_kind.items()}
    return row | {
        "passed": passed,
        "unparsable": sum(score.status == "unparsable" for score in scores),
        "invented": sum(bool(score.invented_names) for score in scores),
        "generation_processor_s": round(seconds),
    }


def _general(
    model: tuple[Any, Any], problems: Mapping[Any, Problem], profile: Profile, runtime: Runtime
) -> dict[str, Any]:
    """Return how many of `GENERAL_PROBLEMS` problems the model solves, greedily."""
    drawn = random.Random(f"{profile.seed}:problems").sample(
        list(problems.values()), min(GENERAL_PROBLEMS, len(problems))
    )
    sizes = {"batch_size": profile.track_b.generation_batch, "workers": profile.sandbox_workers}
    rows = solve_general_problems(*model, drawn, runtime, **sizes)
    characters = sum(len(row["completion"]) for row in rows) // len(rows)
    solved = f"{sum(row['passed'] for row in rows)}/{len(rows)}"
    return {"problems solved": solved, "characters of an answer": characters}


def _trained(train: Callable[[], TrainingHistory], out: Path, seed: int) -> dict[str, Any]:
    """Train in an empty folder; return the validation's course and the cost."""
    shutil.rmtree(out, ignore_errors=True)
    set_seed(seed)
    start = time.process_time()
    history = train()
    return {
        "validation": [round(value, 4) for value in history.validation],
        "steps": len(history.steps),
        "useful_tokens": history.useful_tokens,
        "tokens_per_second": round(history.tokens_per_second, 1),
        "training_s": round(history.seconds),
        "validation_s": round(history.validation_seconds),
        "processor_s": round(time.process_time() - start),
        "peak_gib": round(history.peak_memory_gib, 2),
        "adapter_scale": history.adapter_scale,
    }


def _corpus(profile: Profile) -> tuple[Corpus, list[Function], Splits]:
    corpus = load_corpus(profile.corpus.spec, profile.corpus)
    functions = list({function.id: function for function in extract_functions(corpus)}.values())
    splits = split_corpus(corpus, functions, profile.corpus, profile.seed)
    splits, _ = without_leaks(corpus, functions, splits, profile.corpus)
    return corpus, functions, splits


def _built(profile: Profile, corpus: Corpus, functions: list[Function], splits: Splits) -> InstructData:
    tokenizer = load_tokenizer(profile.track_b.model)
    return build_instruct_data(
        functions, splits, corpus, profile.track_b, profile.seed, tokenizer, profile.sandbox_workers
    )


if __name__ == "__main__":
    main()
