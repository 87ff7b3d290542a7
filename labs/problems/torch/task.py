"""The grader's side of `torch`: draw examples of a random rule, count the training, score the weights."""

import numpy as np

EPOCHS, INPUTS, HIDDEN, CLASSES = 20, 8, 32, 2
NOISE = 0.04  # share of labels that are turned round
SHAPES = {
    "first_weight": (HIDDEN, INPUTS), "first_bias": (HIDDEN,),
    "second_weight": (CLASSES, HIDDEN), "second_bias": (CLASSES,),
}  # fmt: skip


def draw(task, rows, seed):
    """Return points whose class is the sign of a random sum of ridges, which `task` fixes."""
    rule = np.random.default_rng([task, 1])
    directions = rule.normal(size=(6, INPUTS)) / np.sqrt(INPUTS)
    signs = np.array([1, -1, 1, -1, 1, -1])
    probe = np.abs(np.random.default_rng([task, 3]).normal(size=(4000, INPUTS)) @ directions.T) @ signs
    rng = np.random.default_rng([task, 2, seed])
    inputs = rng.normal(size=(rows, INPUTS))
    labels = (np.abs(inputs @ directions.T) @ signs > np.median(probe)).astype(np.int64)
    turned = rng.random(rows) < NOISE
    return {"inputs": inputs.astype(np.float32), "labels": np.where(turned, 1 - labels, labels)}


def split(rows, seed):
    """Return the rows for training and for testing, as the card defines them."""
    order = np.random.default_rng(seed).permutation(rows)
    return order[: rows * 4 // 5], order[rows * 4 // 5 :]


def check_shapes(result, data, seed):
    """Check the split and the shapes of the weights."""
    rows = dict(zip(("train_rows", "test_rows"), split(len(data["labels"]), seed), strict=True))
    for name, shape in (SHAPES | {name: array.shape for name, array in rows.items()}).items():
        if name not in result:
            return f"result.npz lacks `{name}`"
        if result[name].shape != shape:
            return f"`{name}` has shape {result[name].shape}, expected {shape}"
    for name, array in rows.items():
        if not np.array_equal(result[name], array):
            return f"`{name}` are not the rows that the seed gives"
    return ""


def check_work(result, data, seed, seen):
    """Check that gradients came back from each training row in each epoch, and from no other row."""
    if seen is None:
        return ""
    train_rows, _ = split(len(data["labels"]), seed)
    trained = np.ascontiguousarray(seen["inputs"][seen["trained"]].astype(np.float32))
    known = {data["inputs"][row].tobytes(): 0 for row in train_rows}
    strange = 0
    for row in trained:
        key = row.tobytes()
        if key in known:
            known[key] += 1
        else:
            strange += 1
    counts = np.array(list(known.values()))
    if strange:
        return f"{strange:,} of {len(trained):,} trained rows are not training rows as they were given"
    if (counts < EPOCHS).any():
        return (
            f"{(counts < EPOCHS).sum():,} of {len(counts):,} training rows were trained on less than "
            f"{EPOCHS} times, some only {counts.min()} times"
        )
    if "Adam" not in seen["optimizers"]:
        return f"the optimizer must be torch.optim.Adam; seen: {', '.join(seen['optimizers']) or 'none'}"
    return ""


def quality(result, examples):
    """Return the accuracy of the saved weights."""
    hidden = np.maximum(examples["inputs"] @ result["first_weight"].T + result["first_bias"], 0)
    predicted = (hidden @ result["second_weight"].T + result["second_bias"]).argmax(axis=1)
    return float((predicted == examples["labels"]).mean())


def test_examples(result, data, seed):
    """Return the test rows of the data."""
    rows = split(len(data["labels"]), seed)[1]
    return {name: array[rows] for name, array in data.items()}


def component_cases(data):
    """Return no call: the network is checked by its weights."""
    return {}
