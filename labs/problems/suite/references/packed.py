"""Continue a toy language model: tokenised once, packed without padding, single precision, no syncs."""

import argparse
import cProfile
import functools
import itertools
import json
import runpy
from pathlib import Path

import numpy as np
import torch
from torch import nn

EPOCHS, BATCH, LONGEST, WIDTH, INNER, RATE = 3, 8, 224, 32, 64, 3e-3


def tokenise(text, pieces):
    """Return the ids of the longest pieces that fit, from left to right; id 0 is padding."""
    return np.array(ids_of(text.tobytes(), vocabulary_of(pieces.tobytes(), pieces.shape[1])))


@functools.cache
def vocabulary_of(pieces, width):
    """Return piece -> id; the table of pieces is the same for all passages."""
    rows = (pieces[start : start + width] for start in range(0, len(pieces), width))
    return {row.rstrip(bytes(1)): number for number, row in enumerate(rows, 1)}


def ids_of(text, known):
    """Return the ids of the longest known pieces that fit, from left to right."""
    ids, place, end = [], 0, len(text)
    while place < end:
        for length in range(min(6, end - place), 0, -1):
            number = known.get(text[place : place + length])
            if number is not None:
                ids.append(number)
                break
        place += length
    return ids


class TinyLM(nn.Module):
    """One block of causal attention and one of a perceptron; logits for every position of `ids`.

    `ids` is a single row of passages; `places` are the tokens' places within their own passage, and `hidden`
    (length, length) says which tokens a token must not see.
    """

    def __init__(self, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.places = nn.Embedding(LONGEST, WIDTH)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(self, ids, places, hidden):
        x = self.tokens(ids) + self.places(places)
        scores = self.query(x) @ self.key(x).transpose(1, 2) / WIDTH**0.5
        x = x + self.out(scores.masked_fill(hidden, float("-inf")).softmax(dim=-1) @ self.value(x))
        return self.head(x + self.outer(torch.relu(self.inner(x))))


def packed(rows):
    """Return the passages in one row: ids, places, which tokens each must not see, and targets (0: none)."""
    ids = torch.cat(rows)
    places = torch.cat([torch.arange(len(row)) for row in rows])
    owner = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(row) for row in rows]))
    hidden = (owner[:, None] != owner).logical_or_(places[:, None] < places)
    targets = torch.cat([nn.functional.pad(row[1:], (0, 1)) for row in rows])
    return ids[None], places, hidden, targets


def loss_of(model, batch, reduction="mean"):
    """Return the loss over the targets of a batch, in nats."""
    ids, places, hidden, targets = batch
    logits = model(ids, places, hidden)[0]
    return nn.functional.cross_entropy(logits, targets, ignore_index=0, reduction=reduction)


def train(data, seed):
    """Return what is to be saved, and the figures to be reported."""
    starts, pieces = data["starts"], data["pieces"]
    texts = [
        torch.tensor(tokenise(data["text"][a:b], pieces)[:LONGEST]) for a, b in itertools.pairwise(starts)
    ]
    order = np.random.default_rng(seed).permutation(len(texts))
    cut = len(order) * 4 // 5
    train_rows, test_rows = order[:cut], order[cut:]
    torch.manual_seed(seed)
    model = TinyLM(len(pieces) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    for _ in range(EPOCHS):
        shuffled = train_rows[torch.randperm(cut).numpy()]
        for start in range(0, cut, BATCH):
            optimizer.zero_grad()
            loss_of(model, packed([texts[row] for row in shuffled[start : start + BATCH]])).backward()
            optimizer.step()
    with torch.no_grad():
        batches = [
            packed([texts[row] for row in rows]) for rows in np.array_split(test_rows, 10) if len(rows)
        ]
        total = sum(loss_of(model, batch, "sum").item() for batch in batches)
        count = sum((targets != 0).sum().item() for *_, targets in batches)
    result = {name.replace(".", "_"): value.numpy() for name, value in model.state_dict().items()}
    result |= {"train_rows": train_rows, "test_rows": test_rows}
    return result, {"loss": total / count, "train": cut, "test": len(test_rows)}


def profile_slow_script(script, data, seed, output):
    """Profile the slow script's `train`; every submission hands in this profile."""
    slow = runpy.run_path(script, run_name="slow_script")
    profile = cProfile.Profile()
    profile.runcall(slow["train"], data, seed)
    profile.dump_stats(output / "profile.pstats")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--profile", help="profile this script instead of training")
    arguments = parser.parse_args()
    data = dict(np.load(arguments.data))
    if arguments.profile:
        profile_slow_script(arguments.profile, data, arguments.seed, arguments.output)
        return
    result, report = train(data, arguments.seed)
    np.savez(arguments.output / "result.npz", **result)
    (arguments.output / "report.json").write_text(json.dumps(report))
    print(report)


if __name__ == "__main__":
    main()
