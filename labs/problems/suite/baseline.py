"""Continue a toy language model on passages of a code base, slowly. Make it faster and keep what it learns.

This is Track A's loop in small, without what makes it fast. Read card.md first: it says what the script is
given, what it must save, and what must stay.
"""

import argparse
import cProfile
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
    known = {}
    for number, piece in enumerate(pieces):
        known[bytes(byte for byte in piece.tolist() if byte)] = number + 1
    rest, ids = bytes(text.tolist()), []
    while rest:
        for length in range(pieces.shape[1], 0, -1):
            if rest[:length] in known and len(rest) >= length:
                ids.append(known[rest[:length]])
                rest = rest[length:]
                break
        else:
            rest = rest[1:]
    return np.array(ids)


class TinyLM(nn.Module):
    """One block of causal attention and one of a perceptron; logits for every position of `ids`."""

    def __init__(self, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.places = nn.Embedding(LONGEST, WIDTH)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(self, ids):
        length = ids.shape[1]
        x = self.tokens(ids) + self.places(torch.arange(length))
        scores = self.query(x) @ self.key(x).transpose(1, 2) / WIDTH**0.5
        later = torch.triu(torch.ones(length, length, dtype=torch.bool), diagonal=1)
        x = x + self.out(scores.masked_fill(later, float("-inf")).softmax(dim=-1) @ self.value(x))
        return self.head(x + self.outer(torch.relu(self.inner(x))))


def padded(texts, pieces):
    """Return the passages' ids in one tensor, each padded to the longest that there may be."""
    ids = torch.zeros(len(texts), LONGEST, dtype=torch.long)
    for row, text in enumerate(texts):
        found = tokenise(text, pieces)[:LONGEST]
        for place, one in enumerate(found):
            ids[row, place] = int(one)
    return ids


def loss_of(model, ids):
    """Return the mean loss over the targets of a batch, in nats, and how many there are."""
    logits = model(ids)[:, :-1].reshape(-1, model.head.out_features)
    targets = ids[:, 1:].reshape(-1)
    return nn.functional.cross_entropy(logits, targets, ignore_index=0), (targets != 0).sum().item()


def train(data, seed):
    """Return what is to be saved, and the figures to be reported."""
    starts, pieces = data["starts"], data["pieces"]
    texts = [data["text"][a:b] for a, b in itertools.pairwise(starts)]
    order = np.random.default_rng(seed).permutation(len(texts))
    cut = len(order) * 4 // 5
    train_rows, test_rows = order[:cut], order[cut:]
    torch.manual_seed(seed)
    model = TinyLM(len(pieces) + 1).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for epoch in range(EPOCHS):
        shuffled = train_rows[torch.randperm(cut).numpy()]
        total, count = 0.0, 0
        for start in range(0, cut, BATCH):
            ids = padded([texts[row] for row in shuffled[start : start + BATCH]], pieces)
            optimizer.zero_grad()
            loss, targets = loss_of(model, ids)
            loss.backward()
            optimizer.step()
            total, count = total + loss.item() * targets, count + targets
        print(f"epoch {epoch + 1}: loss {total / count:.4f}")
    total, count = 0.0, 0
    with torch.no_grad():
        for row in test_rows:
            loss, targets = loss_of(model, padded([texts[row]], pieces))
            total, count = total + loss.item() * targets, count + targets
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
