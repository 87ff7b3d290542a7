"""Completion across the tracks: build, measure, record. Tune, retrieve, or both?

The untouched and the adapted model of Track A complete the same held-out places, each with and without
code retrieved from the training files, by words or by Track C's embedder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from IPython.display import Markdown, display

from helpers.errors import InsufficientDataError
from helpers.eval.completion_arms import CompletionTask
from helpers.eval.completion_results import place_counts, read_completion
from helpers.eval.completion_task import completion_task, embedder_searches, measure_completion
from helpers.eval.failures_completion import completion_failures
from helpers.records import Corpus, Failure, Function, SourceFile, Splits
from helpers.report import display as show
from helpers.report import plots_completion, tables_completion
from helpers.report.metrics import write_items
from helpers.report.record_completion import record_completion
from helpers.tracks.guards import step
from helpers.tracks.record import keep_section
from helpers.tracks.session import Session

PLACES = "track_a/data/places"  # what is drawn, for the data card
STAGE = "track_a/completion"


class Completion:
    """The steps of the comparison, called in the order in which they stand here."""

    name = "completion"

    def __init__(self, run: Session, corpus: Corpus, functions: Sequence[Function], splits: Splits):
        self.run, self.corpus, self.functions, self.splits = run, corpus, functions, splits
        self.task: CompletionTask | None = None  # once built

    @step
    def build(self, files: Mapping[str, Sequence[SourceFile]] | None) -> None:
        """Draw places in held-out files.

        Args:
            files: those that Track A drew; its training files are all that is retrieved.
        """
        profile, count = self.run.profile, self.run.profile.completion.places
        if not count:
            self.run.guards.end_track(self.name, "the setting completion.places is 0")
            return
        self._need_track_a()
        self.task = completion_task(
            self.corpus, self.functions, self.splits, (files or {})["training"], profile, count=count
        )
        write_items(self.run.folder, PLACES, self.task.items)
        display(show.counts(place_counts(self.task.items)["kinds"], "Completion", "places"))

    @step
    def measure(self) -> None:
        """Complete the places in every arm, greedily, and score the texts."""
        self._need_track_a()
        run, profile, runtime, folder = self.run, self.run.profile, self.run.runtime, self.run.folder
        has_index = "track_c" not in run.not_run
        searches = embedder_searches(folder, profile, runtime) if has_index else {}
        task = dataclasses.replace(self.task, searches=searches)
        self.folder = run.stage(
            STAGE,
            self._inputs(sorted(searches)),
            lambda out: measure_completion(task, profile, folder, runtime, out),
        )
        items, scores, _ = read_completion(self.folder)
        print(f"The first place, {items[0].id}, asks for:\n{items[0].target}")
        for arm, some in scores.items():
            print(f"\n{arm}:\n{some[0].text}")

    @step
    def record(self) -> None:
        """Compute the section of metrics.json from the places and scores that the stage kept."""
        run = self.run
        section = record_completion(
            self.folder,
            model=run.profile.track_a.model,
            seed=run.seed,
            samples=run.profile.track_a.bootstrap_samples,
            cost={"seconds": round(run.workspace.seconds_of(STAGE), 3)},
        )
        self.section = keep_section(run, self.name, section)
        display(show.table(tables_completion.arm_table(section)))

    @step
    def show_results(self) -> None:
        """Show the arms by kind of place, the gains by what is known of the target, and the answer."""
        draw, section = self.run.guards.draw, self.section
        draw(plots_completion.arms_by_kind, section)
        draw(plots_completion.gains_by_group, section)
        display(Markdown(tables_completion.completion_sentences(section)))

    def failures(self) -> list[Failure]:
        """Return the failures of the arm to use; of the adapted model, if that is the untouched one."""
        items, scores, _ = read_completion(self.folder)
        arm = self.section["arm_to_use"]
        shown = "adapted" if arm == "base" else arm
        return completion_failures(items, scores, self.task.texts, self.task.code.units, shown)

    def _need_track_a(self) -> None:
        if why := self.run.not_run.get("track_a"):
            raise InsufficientDataError(f"it needs Track A's adapter, and that track was not run: {why}")

    def _inputs(self, searches: Sequence[str]) -> list[Any]:
        """Return what the completions depend on, besides code, packages, and Track A's model and seed."""
        run, c = self.run, self.run.profile.track_c
        embedder = [c.model, c.max_tokens, run.history("track_c/train")] if searches else []
        profile, samples = run.profile, run.profile.track_a.bootstrap_samples
        has_chat = profile.completion.chat and "track_b" not in run.not_run
        chat = [profile.track_b.model, run.history("track_b/train")] if has_chat else []
        return [self.task, samples, run.history("track_a/train"), searches, embedder, chat]
