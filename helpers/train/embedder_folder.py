"""The folder of a tuned embedder: a sentence-transformers model with its card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from sentence_transformers import SentenceTransformer

from helpers.data.queries.retrieval_data import RetrievalData
from helpers.run.workspace import write_text
from helpers.settings import TrackCSettings
from helpers.train.checkpoints import replace_folder


def save_embedder(
    model: SentenceTransformer,
    folder: Path,
    settings: TrackCSettings,
    data: RetrievalData,
    seeds: Sequence[int],
) -> None:
    """Write model and card to a folder beside, then rename it: `folder` is never half written."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(str(partial), create_model_card=False)
    write_text(partial / "README.md", _card(settings, data, seeds))
    replace_folder(partial, folder)


def _card(settings: TrackCSettings, data: RetrievalData, seeds: Sequence[int]) -> str:
    mean = f", averaged over the weights of {len(seeds)} such trainings" if len(seeds) > 1 else ""
    part = f"the {settings.trained_layers} topmost layers" if settings.trained_layers else "the whole model"
    return (
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n---\n\n"
        "# Code search embedder\n\n"
        f"{settings.model}, tuned on {len(data.train)} pairs. A pair is a docstring query and its function's "
        "name, module path, first line and words. Negatives are the batch's other functions and "
        f"{settings.hard_negatives} mined ones per pair. Training made {settings.epochs} passes, each with "
        f"other wordings, over {part}: batches of {settings.batch_pairs}, learning rate "
        f"{settings.learning_rate}, scale {settings.scale}, at most {settings.max_tokens} tokens, "
        f"seed {', '.join(map(str, seeds))}{mean}.\n\n"
        'Load it with `SentenceTransformer(folder)`. Encode queries with `prompt_name="query"`, code '
        'with `prompt_name="document"`.\n'
    )
