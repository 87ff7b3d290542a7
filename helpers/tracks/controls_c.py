"""Track C's controls: each seed alone, shuffled pairs, and queries over a foreign package.

Each is one stage of the run, `track_c/control_<name>`, with a row per query: id, before, after.
`record_track_c` treats these rows like those of the main result, so `recompute` checks them too.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from helpers.data.foreign import foreign_retrieval
from helpers.data.queries.retrieval_data import RetrievalData, shuffled_pairs
from helpers.eval.retrieval import Run, VectorIndex, index_documents, qrels_of, retrieve, score_measures
from helpers.models.embedder import load_embedder
from helpers.records import Document, Query
from helpers.run.workspace import read_json, read_jsonl, write_json, write_jsonl
from helpers.settings import CorpusSettings, TrackCSettings
from helpers.tracks.session import Session
from helpers.train.averaged_embedder import load_member
from helpers.train.contrastive import train_embedder

FOREIGN_QUERIES = 200


def measure_controls(
    run: Session, data: RetrievalData, before: Run, index: VectorIndex, trained: Path, *, exclude: str
) -> dict[str, list[dict[str, Any]]]:
    """Measure every control that the profile asks for; one that fails is left out with a warning.

    Args:
        before: rankings of the test queries by the untouched model.
        index: the documents under the untouched model; hard negatives are mined in it.
        trained: folder of the main training's stage.
        exclude: import name of the corpus, whose own package is not foreign.

    Returns:
        Name -> rows: "seed_<n>" (one of the averaged trainings alone), "shuffled_pairs" (one pass over
        queries paired with another query's function, which must not help) and "foreign_package" (the
        tuned model on code that it was not tuned for).
    """
    settings = run.profile.track_c
    history = run.history("track_c/train")
    rows = {}

    def stage(name: str, inputs: list[Any], build: Callable[[Path], None]) -> None:
        def measured() -> list[dict[str, Any]]:
            folder = run.stage(f"track_c/control_{name}", inputs, build)
            return read_jsonl(folder / "rows.jsonl")

        what = f"the control {name.replace('_', ' ')}"
        if found := run.guards.control("track_c", what, measured, otherwise=[]):
            rows[name] = found

    for seed in history["seeds"] if len(history["seeds"]) > 1 else ():
        stage(
            f"seed_{seed}",
            [data.test, settings, data.documents, history],
            lambda out, seed=seed: _score(  # type: ignore[misc]
                run, load_member(settings, trained, seed, run.runtime), data.test, data.documents, before, out
            ),
        )
    if settings.controls:
        once = dataclasses.replace(settings, epochs=1)  # more epochs would only cost more
        shuffled = shuffled_pairs(data, run.seed)
        stage(
            "shuffled_pairs",
            [data.test, settings.index, once, shuffled, run.seed],
            lambda out: _train_and_score(run, once, shuffled, before, index, out),
        )
        stage(
            "foreign_package",
            [settings, exclude, history, CorpusSettings()],  # whose defaults choose the foreign files
            lambda out: _foreign(run, trained, exclude, out),
        )
    return rows


def foreign_package(run: Session) -> dict[str, Any]:
    """Return name, version and size of the foreign package; empty if that control was not measured."""
    file = run.folder / "track_c/control_foreign_package/package.json"
    return read_json(file) if file.is_file() else {}


def _train_and_score(
    run: Session, settings: TrackCSettings, data: RetrievalData, before: Run, index: VectorIndex, out: Path
) -> None:
    """Train once and score the test queries; keep only the rows."""
    train_embedder(settings, data, run.runtime, seed=run.seed, out_dir=out, index=index)
    tuned = load_embedder(str(out / "embedder"), run.runtime)
    _score(run, tuned, data.test, data.documents, before, out)
    shutil.rmtree(out / "embedder")


def _foreign(run: Session, trained: Path, exclude: str, out: Path) -> None:
    name, queries, documents = foreign_retrieval(FOREIGN_QUERIES, run.seed, exclude=exclude)
    before = _run(run, load_embedder(run.profile.track_c.model, run.runtime), queries, documents)
    tuned = load_embedder(str(trained / "embedder"), run.runtime)
    _score(run, tuned, queries, documents, before, out)
    write_json(out / "package.json", {"foreign_package": name, "foreign_documents": len(documents)})


def _run(
    run: Session, model: SentenceTransformer, queries: Sequence[Query], documents: Sequence[Document]
) -> Run:
    settings = run.profile.track_c
    sizes = {"batch_size": settings.encode_batch, "max_tokens": settings.max_tokens}
    index = index_documents(model, documents, run.runtime, kind=settings.index, **sizes)
    return retrieve(model, queries, index, run.runtime, **sizes)


def _score(
    run: Session, tuned: SentenceTransformer, queries: Sequence[Query], documents: Sequence[Document],
    before: Run, out: Path,
) -> None:  # fmt: skip
    after = _run(run, tuned, queries, documents)
    first, second = (score_measures(ranked, qrels_of(queries)) for ranked in (before, after))
    ids = [query.id for query in queries]
    write_jsonl(out / "rows.jsonl", ({"id": i, "before": first[i], "after": second[i]} for i in ids))
