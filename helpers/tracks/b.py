"""Track B, instruction tuning: build, before, train, after, controls, record.

A model learns to follow instructions from pairs made out of the repository's own functions. The same
tasks, prompts and seeds are used before and after, and answers are scored by running them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from IPython.display import Markdown, display

from helpers.code.names.context import NameContext
from helpers.data.tasks.execution import execution_context
from helpers.data.tasks.instruct_data import (
    InstructData,
    build_instruct_data,
    held_out_code,
    load_instruct_data,
    save_instruct_data,
)
from helpers.data.tasks.prose_models import language_generator
from helpers.data.tasks.rehearsal import write_rehearsal
from helpers.eval.planted.name_check import check_planted
from helpers.eval.references import (
    retry_infrastructure_errors,
    score_references,
    tasks_set_aside,
    tasks_that_hold,
)
from helpers.eval.response_generation import by_task, generate_responses
from helpers.eval.response_scoring import copy_input_responses, score_responses
from helpers.models.causal_lm import load_adapted, load_causal_lm, load_tokenizer
from helpers.models.gguf.sources import weights_facts
from helpers.records import EXECUTABLE, Corpus, Function, RehearsedAnswer, ResponseScore, Splits, Task
from helpers.report import data_plots, plots, plots_b, tables
from helpers.report import display as show
from helpers.report.metrics import record_track_b, write_items
from helpers.report.own_metric import Metric, add_metric
from helpers.run.workspace import digest
from helpers.settings import SET_ASIDE_LIMIT
from helpers.tracks.controls_b import measure_general_problems
from helpers.tracks.guards import step
from helpers.tracks.record import cost_of, keep_section
from helpers.tracks.session import Session
from helpers.tracks.stage_inputs import (
    AMOUNTS,
    CONTROLS,
    DATA_SOURCES,
    LEARNING,
    REPORTING,
    SAMPLING,
    settings_without,
)
from helpers.train.instruct import encode_pair, end_token_id, show_supervised, train_instruct

STAGES = (
    "data", "rehearsal", "references", "answers_before", "scored_before", "train", "answers_after",
    "scored_after",
)  # fmt: skip
DATA_FIGURES = {
    "lines": "Lines of the code shown",
    "decision_points": "Difficulty: branches of the code shown",
}


class TrackB:
    """The steps of Track B, called in the order in which they stand here."""

    name = "track_b"

    def __init__(self, run: Session, corpus: Corpus, functions: Sequence[Function], splits: Splits):
        self.run, self.corpus, self.functions, self.splits = run, corpus, functions, splits
        self.settings = run.profile.track_b
        self.data: InstructData | None = None  # once built
        self.rehearsed: list[RehearsedAnswer] = []

    @step
    def build(self) -> None:
        """Make pairs and tasks from functions; claims about behaviour are verified by running the code."""
        functions, splits, corpus, settings = self.functions, self.splits, self.corpus, self.settings
        runtime, seed, workers = self.run.runtime, self.run.seed, self.run.profile.sandbox_workers
        folder = self.run.stage(
            "track_b/data",
            [settings_without(settings, LEARNING, SAMPLING, REPORTING), *self._corpus(), splits],
            lambda out: save_instruct_data(
                build_instruct_data(
                    functions, splits, corpus, settings, seed, load_tokenizer(settings.model), workers,
                    generator=language_generator(settings.language, runtime),
                ),
                out,
            ),
        )  # fmt: skip
        self.data = load_instruct_data(folder)
        enough = self.run.require(
            self.name,
            training_pairs=len(self.data.train),
            validation_pairs=len(self.data.validation),
            executable_tasks=sum(task.kind in EXECUTABLE for task in self.data.tasks),
        )
        kinds = dict(Counter(pair.kind for pair in self.data.train))
        print(f"{kinds} and {len(self.data.tasks)} held-out tasks; one pair:")
        display(show.pair(self.data.train[0].instruction, self.data.train[0].response))
        if enough and settings.rehearsed_answers:
            self.rehearsed = self._rehearse()
            one = "; one of them:" if self.rehearsed else ": none was whole"
            print(f"To be rehearsed: {len(self.rehearsed)} answers of the untouched model{one}")
            for answer in self.rehearsed[:1]:
                display(show.pair(answer.instruction, answer.response))

    @step
    def show_data(self) -> None:
        """Show how long and how difficult the code of the pairs and tasks is, and where it comes from."""
        for name, title in DATA_FIGURES.items():
            counts = self.data.report[name]
            self.run.guards.draw(data_plots.count_bars, counts, title=title, ylabel="pairs and tasks")
        packages = {name: sum(split.values()) for name, split in self.data.report["modules"].items()}
        if packages:
            most = max(packages, key=packages.__getitem__)
            print(f"They come from {len(packages)} packages; {most} gives the most, {packages[most]}.")

    @step
    def check_loss_mask(self) -> None:
        """Show the text that counts in one pair's loss: it must be the response and its end token alone."""
        tokenizer, pair = load_tokenizer(self.settings.model), self.data.train[0]
        supervised = show_supervised(encode_pair(pair, tokenizer), tokenizer)
        print(supervised)
        self.run.guards.expect(
            "the text that the loss of the first pair counts",
            expected=pair.response + tokenizer.decode(end_token_id(tokenizer)),
            got=supervised,
            do="The chat template of this model masks something else: choose another chat model",
        )

    @step
    def hold_tasks(self) -> None:
        """Score every task's reference first, and set aside the tasks whose reference does not pass."""
        tasks, corpus = self.data.tasks, self.corpus
        self.scoring: dict[str, Any] = {
            "context": execution_context(corpus),
            "workers": self.run.profile.sandbox_workers,
            "names": NameContext.from_functions(
                self.functions, corpus.import_name, corpus.files,
                installed=corpus.spec.startswith("installed:"),
            ),
        }  # fmt: skip
        scoring, inputs = self.scoring, [*self._corpus(), tasks]
        scores = self.run.rows(
            "track_b/references", inputs, lambda: score_references(tasks, **scoring), ResponseScore
        )
        self.references = retry_infrastructure_errors(tasks, scores, **scoring)
        self.tasks = held_tasks(self.run, tasks, self.references)
        display(show.set_aside(self.run.guards.set_aside, len(tasks)))

    @step
    def before(self) -> None:
        """Answer the tasks with the untouched model, and score the answers."""
        settings, runtime, seed, tasks = self.settings, self.run.runtime, self.run.seed, self.data.tasks
        answers = self.run.rows(
            "track_b/answers_before",
            [self._answering(), tasks],
            lambda: generate_responses(
                *load_causal_lm(settings.model, runtime), tasks, settings, runtime, seed=seed
            ),
        )
        self.scores_before = self._scored("track_b/scored_before", answers)

    @step
    def train(self) -> None:
        """Train the adapter; the one with the lowest loss on the validation pairs is kept."""
        settings, runtime, seed, data = self.settings, self.run.runtime, self.run.seed, self.data
        read = settings_without(settings, SAMPLING, AMOUNTS, REPORTING, DATA_SOURCES)
        self.trained = self.run.stage(
            "track_b/train",
            [read, data.train, self.rehearsed, data.validation],
            lambda out: train_instruct(
                settings, [*data.train, *self.rehearsed], data.validation, runtime, seed=seed, out_dir=out
            ),
        )
        self.history = self.run.history("track_b/train")
        self.run.guards.draw(plots.loss_curve, self.history, what="Track B")

    @step
    def after(self) -> None:
        """Answer the same tasks with the adapter, read back from disk, and score the answers."""
        settings, runtime, seed, tasks = self.settings, self.run.runtime, self.run.seed, self.data.tasks
        adapter = self.trained / "adapter"
        answers = self.run.rows(
            "track_b/answers_after",
            [self._answering(), tasks, self.history],
            lambda: generate_responses(
                *load_adapted(settings.model, adapter, runtime), tasks, settings, runtime, seed=seed
            ),
        )
        self.scores_after = self._scored("track_b/scored_after", answers)

    @step
    def controls(self) -> None:
        """Score a copy of the input, check the hallucination checker, and measure what was forgotten."""
        copied = score_responses(self.tasks, copy_input_responses(self.tasks), **self.scoring)
        self.baselines = {"copy_input": copied, "reference": self.references}
        self.planted = self.run.guards.control(
            self.name, "the check of the hallucination checker", check_planted, self.scoring["names"],
            self.functions, self.run.seed, otherwise=[],
        )  # fmt: skip
        self.general = self.run.guards.control(
            self.name, "the control on general problems", measure_general_problems, self.run,
            self.trained / "adapter", otherwise=[],
        )  # fmt: skip

    @step
    def record(self) -> None:
        """Compute the track's section of metrics.json, save the rows it is computed from, and show it."""
        run, settings, data, aside = self.run, self.settings, self.data, self.run.guards.set_aside
        stages = [one for one in STAGES if one != "rehearsal" or settings.rehearsed_answers]
        rows = {
            "tasks": data.tasks,
            "scores_before": self.scores_before,
            "scores_after": self.scores_after,
            "planted_names": self.planted,
            "tasks_set_aside": aside,
            **({"control_general_problems": self.general} if self.general else {}),
            **{f"baseline_{name}": scores for name, scores in self.baselines.items()},
        }
        for name, some in rows.items():
            write_items(run.folder, f"track_b/{name}", some)
        section = record_track_b(
            self.scores_before,
            self.scores_after,
            data.tasks,
            model=settings.model,
            seed=run.seed,
            samples=settings.bootstrap_samples,
            temperature=settings.temperature,
            cost=cost_of(run, self.name, stages),
            data={
                "counts": {
                    "training_pairs": len(data.train),
                    "validation_pairs": len(data.validation),
                    "rehearsed_answers": len(self.rehearsed),
                },
                "training_sha256": digest([data.train, self.rehearsed]),
                **weights_facts(settings.model),
                "repair_form": settings.repair_form,
            },
            baselines=self.baselines,
            planted=self.planted,
            general=self.general,
            set_aside=aside,
        )
        self.section = keep_section(run, self.name, section)
        display(show.table(tables.metric_table(self.section)))

    @step
    def show_results(self) -> None:
        """Show pass rates and outcomes, the verdict, the baselines and the checker's own errors."""
        beside = ["pass@1/fix_bug", "pass@1/implement", "style", "hallucination_rate"]
        self.run.guards.draw(plots_b.pass_rates, self.section)
        self.run.guards.draw(plots_b.outcome_flow, self.scores_before, self.scores_after)
        display(Markdown("\n\n".join([
            tables.verdict_sentence(self.section),
            tables.markdown(tables.baseline_table(self.section, beside)),
            tables.instruction_control_sentence(self.section),
            tables.markdown(tables.checker_table(self.section)),
        ])))  # fmt: skip

    @step
    def add_metric(self, name: str, metric: Metric | Callable[[Any, Any], float], **options: Any) -> None:
        """Add a metric of your own to the recorded section, over the greedy answers before and after.

        Args:
            metric: a function of (answer, reference), or an `evaluate.Metric`.
            options: `unit` and `higher_is_better`, as `helpers.report.own_metric.add_metric` takes them.
        """
        tasks = {task.id: task for task in self.tasks}
        before, after = ({score.task_id: score for score in scores if score.sample == 0}
                         for scores in (self.scores_before, self.scores_after))  # fmt: skip
        self.section = keep_section(self.run, self.name, add_metric(
            self.section, name, metric,
            [before[task].response for task in tasks],
            [after[task].response for task in tasks],
            [task.reference for task in tasks.values()],
            groups=[task.function_id for task in tasks.values()],
            seed=self.run.seed, samples=self.settings.bootstrap_samples, **options,
        ))  # fmt: skip
        display(show.table(tables.metric_table(self.section)))

    def _corpus(self) -> list[str]:
        return [self.corpus.spec, self.corpus.sha256]

    def _rehearse(self) -> list[RehearsedAnswer]:
        """Let the untouched model answer questions about general code, which the training mixes in."""
        settings, runtime, seed = self.settings, self.run.runtime, self.run.seed
        held_out = held_out_code(self.data)
        unread = (LEARNING - {"rehearsed_answers"}, AMOUNTS, REPORTING, SAMPLING, CONTROLS, {"language"})
        read = settings_without(settings, *unread)
        return self.run.rows(
            "track_b/rehearsal",
            [read, held_out],
            lambda: write_rehearsal(
                *load_causal_lm(settings.model, runtime), settings, runtime, seed=seed, held_out=held_out
            ),
            RehearsedAnswer,
        )

    def _answering(self) -> dict[str, Any]:
        """Return the settings that answers depend on, besides the weights."""
        unread = (LEARNING, AMOUNTS, REPORTING, DATA_SOURCES, {"generation_batch"})
        return settings_without(self.settings, *unread)

    def _scored(self, stage: str, answers: Sequence[Mapping[str, Any]]) -> list[ResponseScore]:
        tasks, scoring, inputs = self.tasks, self.scoring, [*self._corpus(), self.tasks, answers]
        return self.run.rows(
            stage, inputs, lambda: score_responses(tasks, by_task(answers), **scoring), ResponseScore
        )


def held_tasks(run: Session, tasks: Sequence[Task], references: Sequence[ResponseScore]) -> tuple[Task, ...]:
    """Return the tasks whose reference passes; the others are set aside for the whole track.

    Raises:
        InsufficientDataError: if too few are left.
    """
    aside = run.guards.set_aside = tasks_set_aside(references)
    kept = tasks_that_hold(tasks, aside)
    if len(aside) > SET_ASIDE_LIMIT * len(tasks):
        run.guards.warn(f"Track B: {tables.set_aside_text(len(aside), len(tasks))}")
    return kept
