"""What the choices of Track C are worth, measured without its test queries: one setting changed at a time.

The training and validation files of the default split are taken for a corpus of their own, and split anew by
the same rules. Its test queries ask for functions of files that the real split trains on, so that nothing
chosen here has seen what a run reports on. Beside every embedder stands what the words (BM25) add to it.
Run on an idle machine: `python -m benchmarks.retrieval_choices [--only NAME ...] [--seeds N]
[--split-seed S] [--out FOLDER]`; a row takes about two minutes, and rows that lie in FOLDER are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.queries.retrieval_data import RetrievalData, build_retrieval_data
from helpers.data.splits import split_corpus
from helpers.eval.fusion import WEIGHTS, fuse_runs, weighted_runs
from helpers.eval.lexical import build_lexical_index
from helpers.eval.retrieval import Run, index_documents, mean_scores, qrels_of, retrieve, score_run
from helpers.machine.hardware import detect_runtime, hardware_facts
from helpers.models.embedder import load_embedder
from helpers.profiles import PROFILES
from helpers.records import Corpus
from helpers.run.workspace import read_json, write_json
from helpers.settings import Profile, TrackCSettings
from helpers.train.averaged_embedder import load_member, train_averaged

PARTS = {"train_fraction": 0.5, "validation_fraction": 0.1}
QUERIES = {"validation_pairs": 60, "test_queries": 600}  # as many as there are
CHOICES: dict[str, dict] = {
    "as shipped": {},
    "scale 20": {"scale": 20.0},
    "no hard negatives": {"hard_negatives": 0},
    "all layers": {"trained_layers": 0},
    "one layer": {"trained_layers": 1},
    "2 passes": {"epochs": 2},
    "3 passes": {"epochs": 3},
    "8 passes": {"epochs": 8},
    "learning rate 1e-4": {"learning_rate": 1e-4},
    "learning rate 4e-4": {"learning_rate": 4e-4},
    "96 tokens": {"max_tokens": 96},
    "half the pairs": {"train_pairs": 180},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(CHOICES), choices=list(CHOICES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=PROFILES["cpu"].track_c.seeds)
    parser.add_argument("--split-seed", type=int, help="split anew, and train, from this seed: other queries")
    parser.add_argument("--out", type=Path, help="keeps trained embedders and rows; else a temporary folder")
    arguments = parser.parse_args()
    profile = PROFILES["cpu"]
    corpus = without_test_files(profile)
    if arguments.split_seed is not None:
        profile = dataclasses.replace(profile, seed=arguments.split_seed)
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        rows = {"untouched": _kept(out / "untouched.json", partial(untouched, corpus, profile))}
        print(json.dumps(rows["untouched"], indent=1), flush=True)
        for name in arguments.only:
            settings = dataclasses.replace(
                profile.track_c, **{**QUERIES, "seeds": arguments.seeds} | CHOICES[name]
            )
            folder = out / name.replace(" ", "_")
            make = partial(tuned, corpus, profile, settings, folder)
            rows[name] = {"changed": CHOICES[name]} | _kept(folder / "row.json", make)
            print(json.dumps({name: rows[name]}, indent=1), flush=True)
        print(json.dumps({"rows": rows, "hardware": hardware_facts(detect_runtime())}, indent=1))


def without_test_files(profile: Profile) -> Corpus:
    """The default corpus without the files that a run tests on."""
    corpus = load_corpus(profile.corpus.spec, profile.corpus)
    splits = split_corpus(corpus, extract_functions(corpus), profile.corpus, profile.seed)
    kept = tuple(file for file in corpus.files if splits.split_of[file.path] != "test")
    return dataclasses.replace(corpus, files=kept)


def untouched(corpus: Corpus, profile: Profile) -> dict:
    """BM25 over whole code and over the short form, and the embedder as it comes."""
    settings = dataclasses.replace(profile.track_c, **QUERIES)
    data = _data(corpus, profile, settings)
    model = load_embedder(settings.model, detect_runtime())
    return {
        "queries": len(data.test),
        "documents": len(data.documents),
        "bm25, whole code": _mrr(build_lexical_index(data.documents, form=str).run(data.test), data),
        "bm25": _mrr(build_lexical_index(data.documents).run(data.test), data),
        **_with_words(_run(model, data, settings), data),
    }


def tuned(corpus: Corpus, profile: Profile, settings: TrackCSettings, folder: Path) -> dict:
    """Every seed's embedder alone, and the mean of their weights with and without words."""
    data, runtime = _data(corpus, profile, settings), detect_runtime()
    history = train_averaged(settings, data, runtime, seed=profile.seed, out_dir=folder)
    seeds = {}
    for seed in history["seeds"]:
        member = load_member(settings, folder, seed, runtime)
        member.max_seq_length = settings.max_tokens
        seeds[str(seed)] = _mrr(_run(member, data, settings), data)
    mean = load_embedder(str(folder / "embedder"), runtime)
    return {
        "seconds": round(history["training_seconds"] + history["mining_seconds"], 1),
        "seeds": seeds,
        **_with_words(_run(mean, data, settings), data),
    }


def _data(corpus: Corpus, profile: Profile, settings: TrackCSettings) -> RetrievalData:
    functions = extract_functions(corpus)
    splits = split_corpus(corpus, functions, dataclasses.replace(profile.corpus, **PARTS), profile.seed)
    return build_retrieval_data(functions, splits, settings, profile.seed)


def _run(model, data: RetrievalData, settings: TrackCSettings) -> Run:
    sizes = {"batch_size": settings.encode_batch, "max_tokens": settings.max_tokens}
    index = index_documents(model, data.documents, detect_runtime(), **sizes)
    return retrieve(model, data.test, index, detect_runtime(), **sizes)


def _with_words(dense: Run, data: RetrievalData) -> dict:
    words = build_lexical_index(data.documents).run(data.test)
    return {
        "mrr@10": _mrr(dense, data),
        "fused by rank": _mrr(fuse_runs(words, dense), data),
        "words weighed": {str(weight): _mrr(weighted_runs(dense, words, weight), data) for weight in WEIGHTS},
    }


def _mrr(run: Run, data: RetrievalData) -> float:
    return round(mean_scores(score_run(run, qrels_of(data.test), 10))["mrr@10"], 4)


def _kept(path: Path, make: Callable[[], dict]) -> dict:
    if not path.is_file():
        row = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, row)
    return read_json(path)


if __name__ == "__main__":
    main()
