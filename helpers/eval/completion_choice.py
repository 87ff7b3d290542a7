"""Choose how code is retrieved and written into prompts: by how likely it makes targets in validation files.

The untouched model scores the targets of places in validation files after every candidate's prompts. The form
is chosen with BM25, then the retriever with that form. Held-out test files take no part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.eval.completion_context import (
    Heads,
    PromptForm,
    TrainingCode,
    heads_for,
    ranked_units,
    written_first,
)
from helpers.eval.ranking import Run
from helpers.machine.hardware import Runtime
from helpers.machine.progress import bar
from helpers.models.infilling import infill_marks
from helpers.models.reading import fast_reader
from helpers.models.structure import hidden_states, output_head
from helpers.models.target_scores import TargetHead
from helpers.models.tokens import continuing_ids
from helpers.records import CompletionItem

SHARES = (0.5, 0.25)  # of a prompt that retrieved code may take
AT_ONCE = 4  # prompts that are read together
BM25 = "bm25"


@dataclass(frozen=True)
class ContextChoice:
    """The retriever and the form that were chosen, and what every candidate's prompts gave."""

    retriever: str
    heads: Heads
    share: float
    places: int
    tried: tuple[Mapping[str, Any], ...]  # retriever, heads, share, nats a target, places with code
    infill: bool = False  # prompts hold what stands behind the place too, as fill-in-the-middle


def choose_context(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    code: TrainingCode,
    runs: Mapping[str, Run],
    places: Sequence[tuple[CompletionItem, str]],
    *,
    repository: str,
    room: Callable[[str], int],
    runtime: Runtime,
) -> ContextChoice:
    """Return the candidate after whose prompts the targets are most probable; of equals, the first.

    A candidate for whose code no prompt has room says nothing of retrieval, and is chosen only if all are so.

    Args:
        runs: retriever -> scores of the units for each item; "bm25" among them.
        places: items in validation files, each with its file's text; without any, the first candidate.
        room: kind of a place -> tokens of its prompt.
    """
    tried: list[dict[str, Any]] = []
    forms = [(heads, share) for heads in heads_for(tokenizer) for share in SHARES]
    shown = bar("choose how to retrieve", total=(len(forms) + len(runs) - 1) * len(places), unit="place")

    def cost(retriever: str, heads: Heads, share: float) -> tuple[bool, float]:
        form, asked, with_code = PromptForm(tokenizer, repository, heads, share), [], 0
        for item, text in places:
            ranked = ranked_units(code, item, runs[retriever].get(item.id, {}))
            prompt, used = form.prompt(code, item, text, ranked, room(item.kind))
            with_code += bool(used)
            target = written_first(tokenizer, item, text) + item.target
            asked.append((prompt, continuing_ids(tokenizer, target)))
        nats = targets_nats(model, asked, runtime, shown.update)
        mean = sum(nats) / len(places) if places else 0.0
        tried.append({
            "retriever": retriever, "heads": heads, "share": share, "nats_per_target": mean,
            "places_with_code": with_code,
        })  # fmt: skip
        return not with_code, mean

    costs = {form: cost(BM25, *form) for form in forms}
    heads, share = min(costs, key=lambda form: costs[form])
    by_retriever = {BM25: costs[heads, share]}
    by_retriever |= {name: cost(name, heads, share) for name in runs if name != BM25}
    shown.close()
    chosen = min(by_retriever, key=lambda name: by_retriever[name])
    infill = infill_marks(tokenizer) is not None
    return ContextChoice(chosen, heads, share, len(places), tuple(tried), infill)


@torch.no_grad()
def targets_nats(
    model: PreTrainedModel, asked: Sequence[tuple[Sequence[int], Sequence[int]]], runtime: Runtime,
    done: Callable[[int], Any] = lambda count: None,
) -> list[float]:  # fmt: skip
    """Return -ln p(target | prompt), summed over the target's tokens, for each prompt and target.

    Args:
        asked: ids of each prompt and of its target.
        done: told how many more are done.
    """
    found: list[float] = []
    longest = max((len(prompt) + len(target) for prompt, target in asked), default=0)
    head = TargetHead(output_head(model))
    with fast_reader(model, runtime, AT_ONCE, longest) as read:
        for start in range(0, len(asked), AT_ONCE):
            some = asked[start : start + AT_ONCE]
            texts = [[*prompt, *target] for prompt, target in some]
            if read is not None:
                states = read(texts)
            else:
                states = [hidden_states(model, torch.tensor([ids], device=model.device))[0] for ids in texts]
            for (prompt, _), ids, hidden in zip(some, texts, states, strict=True):
                first = max(1, len(prompt))  # a text's first token follows nothing and is not scored
                targets = torch.tensor(ids[first:], dtype=torch.long, device=hidden.device)
                losses, _ = head.score(hidden[first - 1 : -1], targets)
                found.append(float(losses.sum()))
            done(len(some))
    return found
