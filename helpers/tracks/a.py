"""Track A, extended pretraining: build, before, train, after, controls, record.

A LoRA adapter continues the pretraining of a causal code LM on the repository's files. The same
evaluator scores the same held-out files before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from IPython.display import Markdown, display

from helpers.data.draw import draw_splits
from helpers.data.general_code import general_code_texts
from helpers.errors import CheckError
from helpers.eval.file_score_rows import FileScore, paired_rows, precision_rows, scored_in_bfloat16
from helpers.eval.file_scores import score_files
from helpers.eval.perplexity import unigram_bits_per_byte
from helpers.eval.token_roles import own_names
from helpers.models.causal_lm import load_adapted, load_causal_lm, load_tokenizer
from helpers.models.gguf.sources import weights_facts
from helpers.records import Corpus, Function, SourceFile, Splits
from helpers.report import display as show
from helpers.report import plots, tables
from helpers.report.metrics import record_track_a, write_items
from helpers.run.workspace import digest
from helpers.settings import MINIMUM_DATA
from helpers.tracks.controls_a import (
    STAGE,
    TWIN_STAGE,
    foreign_facts,
    foreign_rows,
    measure_clean_twin,
    measure_foreign_corpus,
    seen_before,
    twin_facts,
)
from helpers.tracks.guards import step
from helpers.tracks.record import cost_of, keep_section
from helpers.tracks.session import Session
from helpers.tracks.stage_inputs import AMOUNTS, CONTROLS, LEARNING, REPORTING, settings_without
from helpers.train.continued_pretraining import train_language_model

Rows = list[dict[str, Any]]


class TrackA:
    """The steps of Track A, called in the order in which they stand here."""

    name = "track_a"

    def __init__(self, run: Session, corpus: Corpus, functions: Sequence[Function], splits: Splits):
        self.run, self.corpus, self.functions, self.splits = run, corpus, functions, splits
        self.settings = run.profile.track_a
        self.files: Mapping[str, Sequence[SourceFile]] | None = None  # split -> its files, once drawn
        self.foreign: Sequence[FileScore] = ()
        self.twin: Rows = []  # of the clean twin, before and after

    @step
    def build(self) -> None:
        """Draw whole files of each split until the token budget is spent."""
        self.files = draw_splits(self.corpus, self.splits, self.settings, self.run.seed)
        counts = {name: len(files) for name, files in self.files.items()}
        self.run.require(self.name, **{f"{name}_files": count for name, count in counts.items()})
        display(show.counts(counts, "Track A", "files"))

    @step
    def before(self) -> None:
        """Score the held-out files, and a slice of general code, with the untouched model."""
        display(show.setting_values(self.settings, ["window", "stride", "epochs", "learning_rate",
                                              "batch_sequences", "warmup_fraction"]))  # fmt: skip
        self.tokenizer = load_tokenizer(self.settings.model)
        self.parts = self._parts()
        self.own_names = own_names(self.functions)
        self.texts = {name: [file.text for file in files] for name, files in self.files.items()}
        settings, runtime, measured = self.settings, self.run.runtime, self._measured()
        self.scores_before = self.run.rows(
            "track_a/before",
            self._evaluation(),
            lambda: score_files(*load_causal_lm(settings.model, runtime), runtime=runtime, **measured),
            FileScore,
        )

    @step
    def train(self) -> None:
        """Train the adapter; the one with the best bits per byte on the validation files is kept."""
        settings, runtime, texts, seed = self.settings, self.run.runtime, self.texts, self.run.seed
        read = settings_without(settings, {"stride"}, AMOUNTS, REPORTING, CONTROLS)
        self.trained = self.run.stage(
            "track_a/train",
            [read, texts],
            lambda out: train_language_model(
                settings, texts["training"], texts["validation"], runtime, seed=seed, out_dir=out,
                held_out=texts["test"],
            ),
        )  # fmt: skip
        self.history = self.run.history("track_a/train")
        self.run.guards.draw(plots.loss_curve, self.history, what="Track A", validation_unit="bits per byte")

    @step
    def after(self) -> None:
        """Score the same files with the adapter, read back from disk onto a fresh base model.

        Both sides are scored in the same precision: if bfloat16 does not do for one, neither is.
        """
        settings, runtime, measured = self.settings, self.run.runtime, self._measured()
        adapter = self.trained / "adapter"
        precision = runtime if scored_in_bfloat16(self.scores_before) else None
        self.scores_after = self.run.rows(
            "track_a/after",
            [self._evaluation(), self.history, precision is not None],
            lambda: score_files(
                *load_adapted(settings.model, adapter, runtime), runtime=precision, **measured
            ),
            FileScore,
        )
        self.checked = {"untouched": self.scores_before, "tuned": self.scores_after}
        self.precision = runtime if scored_in_bfloat16(self.scores_after) else None
        if precision is not self.precision:
            self.scores_before = self.run.rows(
                "track_a/before_float32",
                self._evaluation(),
                lambda: score_files(*load_causal_lm(settings.model, runtime), **measured),
                FileScore,
            )

    @step
    def controls(self) -> None:
        """Spend the same budget on foreign code, tune the clean twin, and look up what the model may know."""
        guards = self.run.guards
        self.foreign = guards.control(
            self.name, "the control on a foreign corpus", measure_foreign_corpus, self.run, self.texts,
            self.parts["test"], self.tokenizer, exclude=self.corpus.import_name, precision=self.precision,
            otherwise=[],
        )  # fmt: skip
        self.twin = guards.control(
            self.name, "the control with a clean twin", measure_clean_twin, self.run, self.corpus, self.texts,
            self.parts["test"], otherwise=[],
        )  # fmt: skip
        self.known = guards.control(
            self.name, "what the model may know", seen_before, self.run, self.corpus, otherwise=None
        )

    @step
    def record(self) -> None:
        """Compute the track's section of metrics.json from the rows saved beside its stages, and show it.

        Held-out files whose two scores do not compare are left out with a warning. Controls and the
        unigram baseline are left out if they fail.
        """
        run, settings, known = self.run, self.settings, self.known
        files, roles, controls = self._rows()
        write_items(run.folder, "track_a/files", files)
        for kind, rows in (("role", roles), ("control", controls)):
            for name, some in rows.items():
                write_items(run.folder, f"track_a/{kind}_{name}", some)
        precision = [
            {"model": side} | row for side, some in self.checked.items() for row in precision_rows(some)
        ]
        if precision:
            write_items(run.folder, "track_a/precision", precision)
        train_texts = self.texts["training"]
        unigram = run.guards.control(
            self.name, "the unigram baseline", unigram_bits_per_byte, train_texts,
            [text for _, text in self.parts["test"]], self.tokenizer, otherwise=None,
        )  # fmt: skip
        took = {
            name: round(run.workspace.seconds_of(stage), 3)
            for name, stage, rows in (
                ("foreign_corpus", STAGE, self.foreign),
                ("clean_twin", TWIN_STAGE, self.twin),
            )
            if rows
        }
        section = record_track_a(
            files,
            model=settings.model,
            seed=run.seed,
            samples=settings.bootstrap_samples,
            cost=cost_of(run, self.name, ("before", "train", "after")) | {"controls_seconds": took},
            data={
                "counts": {"training_files": len(train_texts)},
                "training_sha256": digest(list(train_texts)),
                **weights_facts(settings.model),
                **(foreign_facts(run) if self.foreign else {}),
                **(twin_facts(run) if self.twin else {}),
                **({"exposure": known.status, "exposure_note": known.note} if known else {}),
            },
            role_rows=roles,
            control_rows=controls,
            precision_rows=precision,
            baselines={} if unigram is None else {"unigram": unigram},
        )
        self.section = keep_section(run, self.name, section)
        display(show.table(tables.metric_table(self.section)))

    @step
    def show_results(self) -> None:
        """Show the change file by file, the verdict, the baselines and the controls."""
        self.run.guards.draw(plots.bits_per_byte_by_file, self.run.items("track_a/files"))
        self.run.guards.draw(plots.delta_forest, {self.name: self.section})
        section = self.section
        display(Markdown("\n\n".join([
            tables.verdict_sentence(section),
            tables.markdown(tables.baseline_table(section)),
            tables.markdown(tables.control_table(section)),
            tables.pretraining_control_sentences(section),
        ])))  # fmt: skip

    def _parts(self) -> dict[str, list[tuple[str, str]]]:
        """Return the held-out files and, if it is available, a slice of general code."""
        parts = {"test": [(file.path, file.text) for file in self.files["test"]]}
        general = self.run.guards.control(
            self.name, "the control on general code", general_code_texts, self.settings.general_files,
            self.run.seed, exclude=self.corpus.import_name, otherwise=[],
        )  # fmt: skip
        if general:
            parts["general_code"] = [(f"general file {i}", text) for i, text in enumerate(general, 1)]
        return parts

    def _measured(self) -> dict[str, Any]:
        a = self.settings
        return {"parts": self.parts, "own_names": self.own_names, "window": a.window, "stride": a.stride}

    def _evaluation(self) -> list[Any]:
        """Return what a score depends on, besides the weights."""
        read = settings_without(self.settings, LEARNING, AMOUNTS, REPORTING, CONTROLS)
        return [read, self.parts, sorted(self.own_names)]

    def _rows(self) -> tuple[Rows, dict[str, Rows], dict[str, Rows]]:
        """Return the rows of the held-out files, of each role within them, and of each control.

        Raises:
            CheckError: if too few held-out files can be compared.
        """
        guards, least = self.run.guards, MINIMUM_DATA[self.name]["test_files"]
        odd: dict[str, str] = {}  # path -> why its two scores do not compare
        files = paired_rows(self.scores_before, self.scores_after, "test", odd)
        guards.leave_out(
            "held-out files of Track A whose two scores do not compare",
            [f"{path} ({why})" for path, why in odd.items()],
        )
        if len(files) < least:
            raise CheckError(
                f"{len(files)} held-out files of at least {least} can be compared; left out: {'; '.join(odd)}"
            )
        compared = {row["path"] for row in files}
        before, after = ([row for row in side if row.path in compared or row.part == "general_code"]
                         for side in (self.scores_before, self.scores_after))  # fmt: skip
        parts = sorted({row.part for row in self.scores_before if row.part.startswith("role/")})
        roles = {part.removeprefix("role/"): paired_rows(before, after, part) for part in parts}
        controls: dict[str, Rows] = {}
        if self.parts.get("general_code"):
            general = guards.control(
                self.name, "the control on general code", paired_rows, before, after, "general_code",
                otherwise=[],
            )  # fmt: skip
            controls |= {"general_code": general} if general else {}
        foreign = [row for row in self.foreign if row.path in compared]
        controls |= guards.control(
            self.name, "the control on a foreign corpus", foreign_rows, before, after, foreign, otherwise={}
        )
        if twin := [row for row in self.twin if row["path"] in compared]:
            controls["clean_twin"] = twin
        unseen = [row for row in files if self.known and row["path"] in self.known.unseen]
        if len(unseen) >= least:
            controls["changed_after_cut_off"] = unseen
        return files, roles, controls
