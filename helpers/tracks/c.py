"""Track C, embedding tuning: build, before, train, after, controls, record.

A sentence embedder learns which question belongs to which function. Every query is ranked against all
functions of the corpus, before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from IPython.display import Markdown, display

from helpers.data.queries.retrieval_data import RetrievalData, build_retrieval_data
from helpers.eval.fusion import fuse_runs, weighted_runs
from helpers.eval.hybrid import build_hybrid, load_hybrid
from helpers.eval.retrieval import (
    file_level,
    index_documents,
    index_facts,
    load_index,
    per_query_rows,
    qrels_of,
    query_groups,
    retrieve,
    save_index,
    score_measures,
    search_examples,
)
from helpers.models.embedder import load_embedder
from helpers.records import Corpus, Function, Splits
from helpers.report import display as show
from helpers.report import plots, plots_c, tables, tables_c
from helpers.report.metrics import record_track_c, track_c_rows, write_items
from helpers.run.workspace import digest
from helpers.tools.search import catalogue
from helpers.tracks.controls_c import foreign_package, measure_controls
from helpers.tracks.guards import step
from helpers.tracks.record import cost_of, keep_section
from helpers.tracks.session import Session
from helpers.tracks.stage_inputs import AMOUNTS, LEARNING, REPORTING, settings_without
from helpers.train.averaged_embedder import train_averaged

QUERY_KINDS = [
    "docstring_sentence", "how_to", "paraphrase", "where_is", "where_is, by file", "file_location",
]  # fmt: skip
SHARED_WORDS = [f"words in the code: {share}" for share in ("few", "half", "most")]


class TrackC:
    """The steps of Track C, called in the order in which they stand here."""

    name = "track_c"

    def __init__(self, run: Session, corpus: Corpus, functions: Sequence[Function], splits: Splits):
        self.run, self.corpus, self.functions, self.splits = run, corpus, functions, splits
        self.settings = run.profile.track_c
        self.encoding = {"batch_size": self.settings.encode_batch, "max_tokens": self.settings.max_tokens}
        self.data: RetrievalData | None = None  # once built

    @step
    def build(self) -> None:
        """Word queries from docstrings, and strip the docstrings from the documents."""
        self.data = build_retrieval_data(self.functions, self.splits, self.settings, self.run.seed)
        self.run.require(
            self.name,
            training_pairs=len(self.data.train),
            validation_queries=len(self.data.validation),
            test_queries=len(self.data.test),
            documents=len(self.data.documents),
        )
        display(show.queries(self.data.test[:6]))

    @step
    def before(self) -> None:
        """Index all functions under the untouched embedder, and rank them for every query."""
        runtime, encoding, kind = self.run.runtime, self.encoding, self.settings.index
        documents = self.data.documents
        self.untouched = untouched = load_embedder(self.settings.model, runtime)
        folder = self.run.stage(
            "track_c/index_before",
            [self._encoding_settings(), documents],
            lambda out: save_index(
                index_documents(untouched, documents, runtime, kind=kind, **encoding), out
            ),
        )
        self.index = load_index(folder)
        self.run_before = retrieve(untouched, self.data.test, self.index, runtime, **encoding)

    @step
    def train(self) -> None:
        """Train once from each seed, and average the weights."""
        settings, data, index = self.settings, self.data, self.index
        runtime, seed = self.run.runtime, self.run.seed
        self.trained = self.run.stage(
            "track_c/train",
            [settings_without(settings, AMOUNTS, REPORTING), data.train, data.validation, data.documents],
            lambda out: train_averaged(settings, data, runtime, seed=seed, out_dir=out, index=index),
        )
        self.history = self.run.history("track_c/train")
        self.run.guards.draw(
            plots.loss_curve, self.history, what="Track C", train_unit="nats (InfoNCE)",
            validation_unit="MRR@10",
        )  # fmt: skip

    @step
    def after(self) -> None:
        """Index all functions anew under the tuned embedder, read back from disk, and rank them again."""
        runtime, encoding, kind = self.run.runtime, self.encoding, self.settings.index
        documents, functions = self.data.documents, self.functions
        self.tuned = tuned = load_embedder(str(self.trained / "embedder"), runtime)
        folder = self.run.stage(
            "track_c/index_after",
            [self._encoding_settings(), documents, self.history],
            lambda out: save_index(index_documents(tuned, documents, runtime, kind=kind, **encoding), out),
        )
        self.tuned_index = load_index(folder)
        self.run_after = retrieve(tuned, self.data.test, self.tuned_index, runtime, **encoding)
        self.run.rows("track_c/functions", [functions], lambda: catalogue(functions))
        self.index_facts = index_facts(tuned, self.data.test, self.tuned_index, runtime, **encoding)

    @step
    def weigh_words(self) -> None:
        """Choose BM25's weight beside each embedder's cosine, on the validation queries."""
        runtime, encoding, data = self.run.runtime, self.encoding, self.data
        sides = {"before": (self.untouched, self.index), "after": (self.tuned, self.tuned_index)}
        folder = self.run.stage(
            "track_c/hybrid",
            [self._encoding_settings(), data.documents, data.validation, self.history],
            lambda out: build_hybrid(data, sides, runtime, out, **encoding),
        )
        self.hybrid = load_hybrid(folder)

    @step
    def controls(self) -> None:
        """Score each seed alone, a training on shuffled pairs, and queries over a foreign package."""
        self.control_rows = self.run.guards.control(
            self.name, "every control", measure_controls, self.run, self.data, self.run_before, self.index,
            self.trained, exclude=self.corpus.import_name, otherwise={},
        )  # fmt: skip

    @step
    def record(self) -> None:
        """Compute the track's section of metrics.json, and show every system side by side."""
        run, settings, data = self.run, self.settings, self.data
        rows = self._rows()
        write_items(run.folder, "track_c/queries", rows)
        took = {name: run.workspace.seconds_of(f"track_c/control_{name}") for name in self.control_rows}
        section = record_track_c(
            rows,
            model=settings.model,
            seed=run.seed,
            samples=settings.bootstrap_samples,
            cost=cost_of(run, self.name, ("index_before", "train", "index_after", "hybrid"))
            | {"index": dict(self.index_facts), "controls_seconds": took},
            data={
                "counts": {
                    "training_pairs": len(data.train),
                    "validation_queries": len(data.validation),
                    "documents": len(data.documents),
                },
                "training_sha256": digest(data.train),
                "word_weights": self.hybrid.chosen,
                **foreign_package(run),
            },
            control_rows=self.control_rows,
        )
        self.section = keep_section(run, self.name, section)
        display(show.table(tables_c.system_table(self.section)))
        sentences = [tables.verdict_sentence(self.section), tables_c.search_sentence(self.section)]
        display(Markdown("\n\n".join(sentences)))

    @step
    def show_results(self) -> None:
        """Show ranks, recall and similarities before and after, and all metrics."""
        rows = self.run.items("track_c/queries")
        self.run.guards.draw(plots_c.rank_scatter, rows)
        self.run.guards.draw(plots_c.recall_by_k, self.section)
        self.run.guards.draw(plots_c.similarities, rows)
        display(show.table(tables.metric_table(self.section)))

    @step
    def show_groups(self) -> None:
        """Show the change by kind of query, and by how many of a query's words occur in the answer's code."""
        for what, group in (("kind of query", QUERY_KINDS), ("words shared with the code", SHARED_WORDS)):
            names = [f"mrr@10/{name}" for name in group]
            self.run.guards.draw(plots.before_after_dots, self.section, names, what=f"MRR@10 by {what}")

    @step
    def show_controls(self) -> None:
        """Show every training as a point, and what approximate indexes miss and cost."""
        self.run.guards.draw(plots_c.training_points, self.section)
        display(show.table(tables_c.index_table(self.section)))
        sentences = [tables_c.search_control_sentences(self.section), tables_c.latency_sentence(self.section)]
        display(Markdown("\n\n".join(sentences)))

    @step
    def show_searches(self) -> None:
        """Show queries that gained most, that lost most, and some drawn at random."""
        rows = self.run.items("track_c/queries")
        display(show.searches(search_examples(rows, n=6, seed=self.run.seed)))

    def _rows(self) -> list[dict[str, Any]]:
        """Return a row per query: its ranks before and after, with BM25 and its fusions beside them."""
        data, qrels = self.data, qrels_of(self.data.test)
        sides = {"before": self.run_before, "after": self.run_after}
        bm25 = self.hybrid.words.run(data.test)
        beside = {"bm25": bm25}
        for side, dense in sides.items():
            beside[f"bm25_and_{side}_fused"] = fuse_runs(bm25, dense)
            beside[f"bm25_and_{side}_weighted"] = weighted_runs(dense, bm25, self.hybrid.weight(side))
        for_a_file = [query for query in data.test if query.kind == "where_is"]
        return track_c_rows(
            per_query_rows(data.test, self.run_before, self.run_after),
            score_measures(self.run_before, qrels),
            score_measures(self.run_after, qrels),
            groups=query_groups(data.test, data.documents),
            baselines={name: score_measures(ranked, qrels) for name, ranked in beside.items()},
            by_file={
                side: score_measures(*file_level(ranked, for_a_file, data.documents))
                for side, ranked in sides.items()
            },
        )

    def _encoding_settings(self) -> dict[str, Any]:
        """Return the settings that an index depends on, besides the weights."""
        return settings_without(self.settings, LEARNING, AMOUNTS, REPORTING)
