"""The grader's side of `suite`: draw passages of the corpus, count the trained targets, score the weights."""

import functools
import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np

EPOCHS, LONGEST, WIDTH, INNER = 3, 224, 32, 64
PIECES, PIECE_BYTES = 320, 6
SHORTEST, LONG = 30, 130  # characters of a passage
SLACK = 0.02  # of a token's targets
LINEAR = {"query": (WIDTH, WIDTH), "key": (WIDTH, WIDTH), "value": (WIDTH, WIDTH), "out": (WIDTH, WIDTH),
          "inner": (INNER, WIDTH), "outer": (WIDTH, INNER)}  # fmt: skip


@functools.cache
def passages():
    """Return the corpus' passages: paragraphs of networkx's modules, ASCII, neither short nor long."""
    root = Path(importlib.util.find_spec("networkx").origin).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        if "tests" not in path.parts:
            for part in path.read_text(encoding="utf-8").split("\n\n"):
                text = part.strip("\n")
                if SHORTEST <= len(text) <= LONG and text.isascii() and text.replace("\n", "").isprintable():
                    found.append(text.encode())
    return found


@functools.cache
def common_pieces():
    """Return the pieces of the vocabulary: every single character, then the commonest longer ones."""
    counts = Counter()
    for text in passages()[::7]:
        for length in range(2, PIECE_BYTES + 1):
            counts.update(text[i : i + length] for i in range(len(text) - length + 1))
    single = [bytes([byte]) for byte in (10, *range(32, 127))]
    ranked = sorted(counts, key=lambda piece: (-counts[piece] * (len(piece) - 1), piece))
    return single + ranked[: PIECES - len(single)]


def draw(task, rows, seed):
    """Return passages and a vocabulary in an order that `task` fixes, so that no stored weights fit."""
    order = np.random.default_rng([task, 1]).permutation(PIECES)
    pieces = np.zeros((PIECES, PIECE_BYTES), dtype=np.uint8)
    for row, number in enumerate(order):
        piece = common_pieces()[number]
        pieces[row, : len(piece)] = list(piece)
    rng = np.random.default_rng([task, 2, seed])
    texts = [passages()[number] for number in rng.choice(len(passages()), size=rows, replace=False)]
    starts = np.cumsum([0, *map(len, texts)])
    return {"text": np.frombuffer(b"".join(texts), dtype=np.uint8), "starts": starts, "pieces": pieces}


def tokens_of(data):
    """Return the ids of each passage as the card defines them."""
    known = {bytes(piece[piece > 0]): number + 1 for number, piece in enumerate(data["pieces"])}
    text, found = data["text"].tobytes(), []
    for start, end in zip(data["starts"][:-1], data["starts"][1:], strict=True):
        ids, place = [], int(start)
        while place < end:
            for length in range(min(PIECE_BYTES, int(end) - place), 0, -1):
                if number := known.get(text[place : place + length]):
                    ids.append(number)
                    break
            place += length
        found.append(np.array(ids[:LONGEST]))
    return found


def split(rows, seed):
    """Return the passages for training and for testing, as the card defines them."""
    order = np.random.default_rng(seed).permutation(rows)
    return order[: rows * 4 // 5], order[rows * 4 // 5 :]


def check_shapes(result, data, seed):
    """Check the split and the shapes of the weights."""
    rows = dict(zip(("train_rows", "test_rows"), split(len(data["starts"]) - 1, seed), strict=True))
    wanted = {name: array.shape for name, array in rows.items()}
    wanted |= {"tokens_weight": (PIECES + 1, WIDTH), "places_weight": (LONGEST, WIDTH)}
    for name, shape in (LINEAR | {"head": (PIECES + 1, WIDTH)}).items():
        wanted |= {f"{name}_weight": shape, f"{name}_bias": shape[:1]}
    for name, shape in wanted.items():
        if name not in result:
            return f"result.npz lacks `{name}`"
        if result[name].shape != shape:
            return f"`{name}` has shape {result[name].shape}, expected {shape}"
    for name, array in rows.items():
        if not np.array_equal(result[name], array):
            return f"`{name}` are not the passages that the seed gives"
    return ""


def check_work(result, data, seed, seen):
    """Check that each token of the training passages was trained on as often as there are epochs."""
    if seen is None:
        return ""
    texts, (rows, _) = tokens_of(data), split(len(data["starts"]) - 1, seed)
    expected = EPOCHS * np.bincount(np.concatenate([texts[row][:-1] for row in rows]), minlength=PIECES + 1)
    trained = seen["inputs"][seen["trained"]].astype(int).reshape(-1)
    found = np.bincount(np.clip(trained, 0, PIECES), minlength=PIECES + 1)
    less = np.maximum(expected - found, 0).sum()
    if less > SLACK * expected.sum():
        return f"{less:,} of {expected.sum():,} targets were not trained on"
    if np.maximum(found - expected, 0).sum() > SLACK * expected.sum():
        return f"{found.sum():,} targets were trained on, the training passages have {expected.sum():,}"
    return ""


def quality(result, examples):
    """Return the mean loss per target in nats, with a forward pass of the grader's own."""
    total, count = 0.0, 0
    weights = {name: array.astype(np.float64) for name, array in result.items()}
    for ids in tokens_of(examples):
        if len(ids) < 2:
            continue
        logits = _logits(weights, ids)[:-1]
        logits -= logits.max(axis=1, keepdims=True)
        nats = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(ids) - 1), ids[1:]]
        total, count = total + nats.sum(), count + len(nats)
    return total / count


def _logits(weights, ids):
    def linear(name, x):
        return x @ weights[f"{name}_weight"].T + weights[f"{name}_bias"]

    x = weights["tokens_weight"][ids] + weights["places_weight"][: len(ids)]
    scores = linear("query", x) @ linear("key", x).T / WIDTH**0.5
    scores[np.triu_indices(len(ids), 1)] = -np.inf
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    x = x + linear("out", scores / scores.sum(axis=1, keepdims=True) @ linear("value", x))
    return linear("head", x + linear("outer", np.maximum(linear("inner", x), 0)))


def test_examples(result, data, seed):
    """Return the held-out passages of the data."""
    rows, starts = split(len(data["starts"]) - 1, seed)[1], data["starts"]
    texts = [data["text"][starts[row] : starts[row + 1]] for row in rows]
    found = {"starts": np.cumsum([0, *map(len, texts)])}
    return found | {"text": np.concatenate(texts), "pieces": data["pieces"]}


def component_cases(data):
    """Return a call of `tokenise` on the first passage, with what it must return."""
    first = data["text"][: data["starts"][1]]
    alone = {"text": first, "starts": data["starts"][:2], "pieces": data["pieces"]}
    return {"tokenise": ([first, data["pieces"]], tokens_of(alone)[0])}
