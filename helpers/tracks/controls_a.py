"""Track A's controls: what the model may have seen before, foreign code, and a twin that saw nothing.

If training on any Python code helped the held-out files as much, the gain would say nothing about the
repository. The foreign training has the same settings and number of tokens. Its weights are chosen on the
repository's validation files, which can only favour it.

A model that met the repository in its pretraining may merely be reminded of it. The clean twin is a model
that did not: the same files and the same method move it only by what they teach.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from helpers.data.exposure import Exposure, exposure
from helpers.data.foreign import foreign_texts
from helpers.eval.file_score_rows import FileScore, paired_rows
from helpers.eval.file_scores import score_files
from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import load_adapted, load_causal_lm
from helpers.models.shapes import model_identity
from helpers.models.tokens import token_ids
from helpers.records import Corpus
from helpers.run.workspace import read_json, read_jsonl, write_json, write_jsonl
from helpers.settings import CorpusSettings, TrackASettings
from helpers.tracks.session import Session
from helpers.train.continued_pretraining import train_language_model

STAGE = "track_a/foreign"
TWIN_STAGE = "track_a/twin"


def seen_before(run: Session, corpus: Corpus) -> Exposure:
    """Find out what Track A's model may have seen of the corpus; this may query a package index.

    The run keeps the answer, even "unknown"; another run asks again.
    """
    # `exposure` finds near copies by the default settings, whatever the corpus's own are.
    inputs = [corpus.spec, corpus.version, corpus.sha256, run.folder.name, CorpusSettings()]
    model = run.profile.track_a.model
    return run.rows("track_a/exposure", inputs, lambda: [exposure(model, corpus)], Exposure)[0]


def measure_foreign_corpus(
    run: Session,
    texts: Mapping[str, Sequence[str]],
    test_files: Sequence[tuple[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    exclude: str,
    precision: Runtime | None = None,
) -> list[FileScore]:
    """Train on foreign code and score the held-out files; without controls in the profile, return none.

    Args:
        texts: "training", "validation" and "test" files of the corpus; the training files set the budget.
        test_files: (path, text) of the held-out files.
        exclude: import name of the corpus, whose own package is not foreign.
        precision: `runtime` of `score_files`, as for the scores that this one is compared with.
    """
    settings = run.profile.track_a
    if not settings.controls:
        return []

    def build(out: Path) -> None:
        budget = sum(len(token_ids(tokenizer, text)) for text in texts["training"])
        name, foreign = foreign_texts(tokenizer, budget, run.seed, exclude=exclude)
        own = {**texts, "training": foreign}
        rows = _scores_of_a_training(run, settings, own, test_files, out, precision)
        write_jsonl(out / "rows.jsonl", rows)
        facts = {"foreign_corpus": name, "foreign_files": len(foreign), "own_tokens": budget}
        spent = sum(len(token_ids(tokenizer, text)) for text in foreign)
        write_json(out / "corpus.json", facts | {"foreign_tokens": spent})

    # The default settings of a corpus choose foreign files.
    inputs = [settings, texts, test_files, exclude, CorpusSettings(), precision is not None]
    folder = run.stage(STAGE, inputs, build)
    return read_jsonl(folder / "rows.jsonl", FileScore)


def foreign_rows(
    before: Sequence[FileScore], after: Sequence[FileScore], foreign: Sequence[FileScore]
) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of two controls over the held-out files; none without a foreign training."""
    if not foreign:
        return {}
    return {
        "foreign_corpus": paired_rows(before, foreign, "test"),  # untouched -> trained on foreign code
        "own_instead_of_foreign": paired_rows(foreign, after, "test"),  # what the repository's files add
    }


def _scores_of_a_training(
    run: Session,
    settings: TrackASettings,
    texts: Mapping[str, Sequence[str]],
    test_files: Sequence[tuple[str, str]],
    out: Path,
    precision: Runtime | None = None,
) -> list[FileScore]:
    """Train an adapter on the "training" texts, score the held-out files with it, and delete it."""
    train_language_model(
        settings, texts["training"], texts["validation"], run.runtime, seed=run.seed, out_dir=out,
        held_out=texts.get("test", ()),
    )  # fmt: skip
    model = load_adapted(settings.model, out / "adapter", run.runtime)
    sizes: dict[str, Any] = {"window": settings.window, "stride": settings.stride}
    rows = score_files(*model, {"test": test_files}, runtime=precision, **sizes)
    shutil.rmtree(out / "adapter")
    return rows


def measure_clean_twin(
    run: Session,
    corpus: Corpus,
    texts: Mapping[str, Sequence[str]],
    test_files: Sequence[tuple[str, str]],
) -> list[dict[str, Any]]:
    """Tune the twin on the training files; return rows of the held-out files before and after.

    Args:
        texts: "training", "validation" and "test" files of the corpus.
        test_files: (path, text) of the held-out files.

    Returns:
        Rows as `paired_rows` makes them; none if the profile names no twin or the twin is Track A's model.
    """
    settings = run.profile.track_a.as_twin()
    if settings is None:
        return []

    def build(out: Path) -> None:
        sizes: dict[str, Any] = {"window": settings.window, "stride": settings.stride}
        before = score_files(*load_causal_lm(settings.model, run.runtime), {"test": test_files}, **sizes)
        after = _scores_of_a_training(run, settings, texts, test_files, out)
        write_jsonl(out / "rows.jsonl", paired_rows(before, after, "test"))
        known = exposure(settings.model, corpus)
        write_json(
            out / "twin.json",
            {"twin_model": settings.model, "twin_exposure": known.status, "twin_note": known.note},
        )

    inputs = [settings, model_identity(settings.model), texts, test_files, corpus.spec, corpus.version]
    return read_jsonl(run.stage(TWIN_STAGE, inputs, build) / "rows.jsonl")


def twin_facts(run: Session) -> dict[str, Any]:
    """Return the twin's name and what it may have seen of the corpus, once it is measured."""
    return read_json(run.folder / TWIN_STAGE / "twin.json")


def foreign_facts(run: Session) -> dict[str, Any]:
    """Return the foreign code base's name and version, files and tokens spent, once it is measured."""
    return read_json(run.folder / STAGE / "corpus.json")
