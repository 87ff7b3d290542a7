"""The grader's side of `numpy`: draw images, check a saved forest by replaying it, score it."""

import numpy as np

TREES, DEPTH, CLASSES, SIDE, BLOCK, FEATURES = 12, 12, 6, 28, 7, 76
NODES = ("feature", "threshold", "left", "right", "counts")
SLACK = 0.02  # of the examples: a rounded threshold may send one to the other side


def draw(task, rows, seed):
    """Return images of classes that `task` fixes: smooth shapes, moved by up to two pixels, with noise."""
    shapes = np.random.default_rng([task, 1]).normal(size=(CLASSES, 7, 7))
    smooth = np.kron(shapes, np.ones((4, 4)))
    for axis in (1, 2):
        smooth = sum(np.roll(smooth, by, axis) for by in (-2, -1, 0, 1, 2)) / 5
    rng = np.random.default_rng([task, 2, seed])
    labels = rng.integers(0, CLASSES, rows)
    moves = rng.integers(-2, 3, size=(rows, 2))
    images = np.stack([np.roll(smooth[k], move, (0, 1)) for k, move in zip(labels, moves, strict=True)])
    images = 110 + 45 * images + rng.normal(scale=130, size=images.shape)
    return {"images": np.clip(images, 0, 255).astype(np.uint8), "labels": labels}


def features_of(images):
    """Compute the features as the card defines them; shape (n, 76)."""
    x = images.astype(np.float64)
    blocks = x.reshape(-1, SIDE // BLOCK, BLOCK, SIDE // BLOCK, BLOCK).mean(axis=(2, 4)).reshape(len(x), -1)
    across = np.abs(np.diff(x, axis=2)).mean(axis=(1, 2))
    down = np.abs(np.diff(x, axis=1)).mean(axis=(1, 2))
    contrast = np.stack([x.mean(axis=(1, 2)), x.std(axis=(1, 2)), across, down], axis=1)
    return np.concatenate([blocks, x.mean(axis=2), x.mean(axis=1), contrast], axis=1)


def split(rows, seed):
    """Return the rows for training and for testing, as the card defines them."""
    order = np.random.default_rng(seed).permutation(rows)
    return order[: rows * 4 // 5], order[rows * 4 // 5 :]


def check_shapes(result, data, seed):
    """Check the split, the normalisation's shape and the trees' arrays."""
    wanted = {*NODES, "tree_nodes", "mean", "scale", "train_rows", "test_rows"}
    if missing := wanted - set(result):
        return f"result.npz lacks {', '.join(sorted(missing))}"
    for name, rows in zip(("train_rows", "test_rows"), split(len(data["labels"]), seed), strict=True):
        if result[name].shape != rows.shape:
            return f"`{name}` has shape {result[name].shape}, expected {rows.shape}"
        if not np.array_equal(result[name], rows):
            return f"`{name}` are not the rows that the seed gives"
    for name in ("mean", "scale"):
        if result[name].shape != (FEATURES,):
            return f"`{name}` has shape {result[name].shape}, expected ({FEATURES},)"
    nodes = result["tree_nodes"].astype(int)
    total = int(nodes.sum())
    if nodes.ndim != 1 or (nodes < 1).any():
        return "`tree_nodes` must hold the number of nodes of each tree"
    for name in NODES:
        shape = (total, CLASSES) if name == "counts" else (total,)
        if result[name].shape != shape:
            return f"`{name}` has shape {result[name].shape}, expected {shape}"
    return ""


def check_work(result, data, seed, seen):
    """Replay each tree's bootstrap sample through it: its leaves must hold exactly these examples."""
    if len(result["tree_nodes"]) != TREES:
        return f"the forest has {len(result['tree_nodes'])} trees, required are {TREES}"
    rows, _ = split(len(data["labels"]), seed)
    features, labels = features_of(data["images"])[rows], data["labels"][rows]
    scale = features.std(axis=0)
    expected = {"mean": features.mean(axis=0), "scale": np.where(scale > 0, scale, 1.0)}
    for name, value in expected.items():
        if not np.allclose(result[name], value, rtol=1e-4, atol=1e-4):
            return f"`{name}` is not that of the training rows"
    normal = (features - result["mean"]) / result["scale"]
    trees = list(_trees(result))
    for number, tree in enumerate(trees):
        sample = np.random.default_rng([seed, number]).integers(0, len(rows), len(rows))
        leaves, depths = _leaves(tree, normal[sample])
        if (tree["left"][leaves] >= 0).any():
            return f"tree {number} does not lead every example to a leaf within depth {DEPTH}"
        counts = np.zeros_like(tree["counts"], dtype=float)
        np.add.at(counts, (leaves, labels[sample]), 1)
        is_leaf = tree["left"] < 0
        apart = np.abs(counts - tree["counts"])[is_leaf].sum() / 2
        if apart > SLACK * len(rows):
            return f"tree {number} was not grown on its bootstrap sample: {apart:.0f} examples lie elsewhere"
        mixed = (counts[leaves].max(axis=1) < counts[leaves].sum(axis=1)) & (depths < DEPTH)
        if mixed.mean() > SLACK:
            return (
                f"tree {number} stopped early: {mixed.sum()} examples lie in mixed leaves above depth {DEPTH}"
            )
    return ""


def quality(result, examples):
    """Return the accuracy of the saved forest."""
    normal = (features_of(examples["images"]) - result["mean"]) / result["scale"]
    shares = np.zeros((len(normal), CLASSES))
    for tree in _trees(result):
        counts = tree["counts"][_leaves(tree, normal)[0]].astype(float)
        shares += counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return float((shares.argmax(axis=1) == examples["labels"]).mean())


def test_examples(result, data, seed):
    """Return the test rows of the data."""
    rows = split(len(data["labels"]), seed)[1]
    return {name: array[rows] for name, array in data.items()}


def component_cases(data):
    """Return calls of `extract_features` and `normalise` with what they must return."""
    features = features_of(data["images"])
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1
    return {
        "extract_features": ([data["images"]], features),
        "normalise": ([features, mean, scale], (features - mean) / scale),
    }


def _trees(result):
    start = 0
    for count in result["tree_nodes"].astype(int):
        yield {name: result[name][start : start + count] for name in NODES}
        start += count


def _leaves(tree, features):
    """Return the leaf and its depth of each example; a tree that leads outside itself ends at node 0."""
    features = features.astype(np.float32)  # as scikit-learn compares
    left, right = tree["left"].astype(int), tree["right"].astype(int)
    column = np.clip(tree["feature"].astype(int), 0, FEATURES - 1)
    node, depth = np.zeros(len(features), dtype=int), np.zeros(len(features), dtype=int)
    for _ in range(DEPTH + 1):
        inner = left[node] >= 0
        lower = features[np.arange(len(node)), column[node]] <= tree["threshold"][node]
        following = np.where(lower, left[node], right[node])
        following = np.where((following > 0) & (following < len(left)), following, 0)
        node, depth = np.where(inner, following, node), depth + inner
    return node, depth
