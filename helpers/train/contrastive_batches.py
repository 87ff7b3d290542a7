"""Batches for contrastive training that hold every row once and none of whose rows contradict each other.

sentence-transformers' `NO_DUPLICATES` sampler can make more batches than its length says, and the trainer
stops at the length: with 10 of 40 rows sharing a query it trained on 35, with one negative shared by all on
5. Here the batches are planned first, so that the length is right. A shared negative is no contradiction:
it is wrong for both rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer
from torch.utils.data import BatchSampler

from helpers.errors import CheckError


class CompatibleBatches(BatchSampler):
    """Row numbers in batches of up to `batch_size`, in an order drawn from seed and epoch.

    Two rows share a batch unless they ask the same, or the answer of one is the answer or a negative of the
    other: the loss would count a right answer as wrong. With `drop_last`, smaller batches are left out.
    """

    def __init__(self, table: Dataset, batch_size: int, drop_last: bool, *, seed: int) -> None:
        super().__init__(range(len(table)), batch_size, drop_last)
        self.table, self.seed, self.epoch = table, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Draw another order, as the trainer asks before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._planned())

    def __len__(self) -> int:
        return len(self._planned())

    def rows(self, start: int = 0) -> int:
        """Count the rows of all batches from number `start` on."""
        return sum(map(len, self._planned()[start:]))

    def _planned(self) -> list[list[int]]:
        """Return the epoch's batches: each takes the first rows in line that agree with it."""
        made_for, plan = getattr(self, "_plan", (None, []))
        if made_for != self.epoch:
            plan = self._plan_epoch()
            self._plan = (self.epoch, plan)
        return plan

    def _plan_epoch(self) -> list[list[int]]:
        table = self.table
        negatives = [table[name] for name in table.column_names if name.startswith("negative")]
        rows = list(
            zip(table["anchor"], table["positive"], map(set, _transposed(negatives, len(table))), strict=True)
        )
        shuffle = torch.Generator().manual_seed(self.seed + self.epoch)
        waiting = torch.randperm(len(rows), generator=shuffle, dtype=torch.int32).tolist()
        plan: list[list[int]] = []
        while waiting:
            batch, waiting = self._next_batch(rows, waiting)
            plan.append(batch)
        return [batch for batch in plan if len(batch) == self.batch_size] if self.drop_last else plan

    def _next_batch(
        self, rows: list[tuple[str, str, set[str]]], waiting: list[int]
    ) -> tuple[list[int], list[int]]:
        """Return the next batch and the rows that still wait, in their order."""
        asked: set[str] = set()
        answers: set[str] = set()
        wrong: set[str] = set()
        batch: list[int] = []
        passed_over: list[int] = []
        for place, number in enumerate(waiting):
            query, answer, negatives = rows[number]
            if query in asked or answer in answers or answer in wrong or negatives & answers:
                passed_over.append(number)
                continue
            batch.append(number)
            if len(batch) == self.batch_size:
                return batch, passed_over + waiting[place + 1 :]
            asked.add(query)
            answers.add(answer)
            wrong |= negatives
        return batch, passed_over


class CountingTrainer(SentenceTransformerTrainer):
    """Trains in `CompatibleBatches`, and counts the rows that reach the loss."""

    rows_trained = 0

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Gather nothing for the library's model card, which is not written; examples for it draw bars."""

    def get_batch_sampler(
        self, dataset: Dataset, batch_size: int, drop_last: bool, *args: Any, **kwargs: Any
    ) -> CompatibleBatches:
        """Return the sampler, kept as `self.batches`; it needs nothing of what else is passed."""
        self.batches = CompatibleBatches(dataset, batch_size, drop_last, seed=self.args.seed)
        return self.batches

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss as the library does."""
        first = self.collect_features(dict(inputs))[0][0]
        # A static embedder gets the tokens of all rows in one line, and where each row begins.
        self.rows_trained += len(first["offsets"] if "offsets" in first else next(iter(first.values())))
        return super().compute_loss(model, inputs, *args, **kwargs)

    def require_every_row(self, rows: int, first_batch: int) -> None:
        """Check that this training, begun at batch `first_batch`, took every row from there on, of `rows`.

        Raises:
            CheckError: says how many rows the loss saw.
        """
        planned, left = self.batches.rows(), self.batches.rows(first_batch)
        if planned != rows or self.rows_trained != left:
            raise CheckError(
                f"the embedder's training should take {rows} rows once each; {planned} were put into batches "
                f"and {self.rows_trained} of {left} reached the loss: sentence-transformers reads data in "
                "another way than this version of the code expects"
            )


def _transposed(columns: list[list[str]], rows: int) -> list[tuple[str, ...]]:
    return list(zip(*columns, strict=True)) if columns else [()] * rows
