"""The grader's side of `pipeline`: draw signals, count what the network was trained on, score the weights."""

import numpy as np

EPOCHS, LENGTH, WINDOW, FEATURES, HIDDEN, CLASSES = 3, 32, 4, 12, 16, 3
NEAR = 2e-3  # between a feature as the script computed it and as the card defines it, in deviations
SHAPES = {
    "first_weight": (HIDDEN, FEATURES), "first_bias": (HIDDEN,), "mean": (FEATURES,), "scale": (FEATURES,),
    "second_weight": (CLASSES, HIDDEN), "second_bias": (CLASSES,),
}  # fmt: skip


def draw(task, rows, seed):
    """Return signals of classes that `task` fixes: a smooth curve each, scaled, with much noise."""
    curves = np.random.default_rng([task, 1]).normal(size=(CLASSES, LENGTH // WINDOW))
    curves = np.repeat(curves, WINDOW, axis=1)
    rng = np.random.default_rng([task, 2, seed])
    labels = rng.integers(0, CLASSES, rows)
    strength = rng.uniform(0.4, 1.2, size=(rows, 1))
    signals = strength * curves[labels] + rng.normal(scale=1.5, size=(rows, LENGTH))
    return {"signals": signals.astype(np.float32), "labels": labels}


def features_of(signals):
    """Compute the features as the card defines them; shape (n, 12)."""
    x = signals.astype(np.float64)
    windows = x.reshape(len(x), -1, WINDOW).mean(axis=2)
    steps = np.abs(np.diff(x, axis=1)).mean(axis=1)
    changes = (np.diff((x > 0).astype(int), axis=1) != 0).sum(axis=1)
    return np.column_stack([windows, x.std(axis=1), x.max(axis=1) - x.min(axis=1), steps, changes])


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
    """Check the normalisation, and that each training row got a gradient in each epoch, and no other row."""
    rows, _ = split(len(data["labels"]), seed)
    features = features_of(data["signals"])[rows]
    for name, value in {"mean": features.mean(axis=0), "scale": features.std(axis=0)}.items():
        if not np.allclose(result[name], value, rtol=1e-4, atol=1e-4):
            return f"`{name}` is not that of the training rows"
    if seen is None:
        return ""
    expected = (features - features.mean(axis=0)) / features.std(axis=0)
    counts, strange = match_rows(expected, seen["inputs"][seen["trained"]])
    if strange:
        return f"{strange:,} of {seen['trained'].sum():,} trained rows are no training row's features"
    if (counts < EPOCHS).any():
        return (
            f"{(counts < EPOCHS).sum():,} of {len(counts):,} training rows were trained on less than "
            f"{EPOCHS} times, some only {counts.min()} times"
        )
    return ""


def match_rows(expected, found):
    """Return how often each expected row was found, and how many found rows are none of them."""
    if found.shape[1:] != expected.shape[1:]:
        return np.zeros(len(expected), dtype=int), len(found)
    order = np.argsort(expected[:, 0], kind="stable")
    keys = expected[order, 0]
    counts, strange = np.zeros(len(expected), dtype=int), 0
    first = np.searchsorted(keys, found[:, 0] - NEAR)
    last = np.searchsorted(keys, found[:, 0] + NEAR)
    for row, low, high in zip(found, first, last, strict=True):
        near = order[low:high]
        apart = np.abs(expected[near] - row).max(axis=1) if len(near) else np.array([np.inf])
        if apart.min() <= NEAR:
            counts[near[apart.argmin()]] += 1
        else:
            strange += 1
    return counts, strange


def quality(result, examples):
    """Return the accuracy of the saved weights."""
    normal = (features_of(examples["signals"]) - result["mean"]) / result["scale"]
    hidden = normal @ result["first_weight"].T + result["first_bias"]
    hidden = hidden / (1 + np.abs(hidden))
    predicted = (hidden @ result["second_weight"].T + result["second_bias"]).argmax(axis=1)
    return float((predicted == examples["labels"]).mean())


def test_examples(result, data, seed):
    """Return the test rows of the data."""
    rows = split(len(data["labels"]), seed)[1]
    return {name: array[rows] for name, array in data.items()}


def component_cases(data):
    """Return calls of `extract_features` and `normalise` with what they must return."""
    features = features_of(data["signals"])
    reference = features[: len(features) // 2]
    return {
        "extract_features": ([data["signals"]], features),
        "normalise": ([features, reference], (features - reference.mean(axis=0)) / reference.std(axis=0)),
    }
