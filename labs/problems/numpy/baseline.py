"""Train a random forest on features of 28×28 images, slowly. Make it faster and keep what it computes.

Read card.md first: it says what the script is given, what it must save, and what must stay.
"""

import argparse
import cProfile
import json
import math
import runpy
from pathlib import Path

import numpy as np
from sklearn.tree import DecisionTreeClassifier

TREES, DEPTH, CLASSES, SIDE, BLOCK = 12, 12, 6, 28, 7


def extract_features(images):
    """Return 76 features of each image: 16 block means, 28 row means, 28 column means, 4 of contrast."""
    rows = []
    for image in images:
        features = []
        for top in range(0, SIDE, BLOCK):
            for left in range(0, SIDE, BLOCK):
                total = 0.0
                for y in range(top, top + BLOCK):
                    for x in range(left, left + BLOCK):
                        total += float(image[y][x])
                features.append(total / (BLOCK * BLOCK))
        for y in range(SIDE):
            total = 0.0
            for x in range(SIDE):
                total += float(image[y][x])
            features.append(total / SIDE)
        for x in range(SIDE):
            total = 0.0
            for y in range(SIDE):
                total += float(image[y][x])
            features.append(total / SIDE)
        features.extend(contrasts(image))
        rows.append(features)
    return np.array(rows)


def contrasts(image):
    """Return mean, standard deviation, and the mean absolute step to the right and downwards."""
    total, squares, across, down = 0.0, 0.0, 0.0, 0.0
    for y in range(SIDE):
        for x in range(SIDE):
            value = float(image[y][x])
            total += value
            squares += value * value
            if x + 1 < SIDE:
                across += abs(float(image[y][x + 1]) - value)
            if y + 1 < SIDE:
                down += abs(float(image[y + 1][x]) - value)
    n = SIDE * SIDE
    mean = total / n
    steps = SIDE * (SIDE - 1)
    return [mean, math.sqrt(max(0.0, squares / n - mean * mean)), across / steps, down / steps]


def normalise(features, mean, scale):
    """Return (features − mean) / scale, column by column."""
    result = np.zeros(features.shape)
    for i in range(features.shape[0]):
        for j in range(features.shape[1]):
            result[i, j] = (features[i, j] - mean[j]) / scale[j]
    return result


class RandomForest:
    """Decision trees, each on its own bootstrap sample; the mean of their class shares decides."""

    def __init__(self, seed):
        self.seed = seed
        self.trees = []

    def fit(self, features, labels):
        for number in range(TREES):
            sample = np.random.default_rng([self.seed, number]).integers(0, len(labels), len(labels))
            tree = DecisionTreeClassifier(
                max_depth=DEPTH, max_features="sqrt", random_state=(self.seed + number) % 2**31
            )
            self.trees.append(tree.fit(features[sample], labels[sample]))

    def predict(self, features):
        shares = np.zeros((len(features), CLASSES))
        for tree in self.trees:
            shares[:, tree.classes_] += tree.predict_proba(features)
        return shares.argmax(axis=1)

    def arrays(self):
        """Return the trees as plain arrays, in a row; `counts` are examples by class in each node."""
        parts = {"feature": [], "threshold": [], "left": [], "right": [], "counts": [], "tree_nodes": []}
        for tree in self.trees:
            inner = tree.tree_
            counts = np.zeros((inner.node_count, CLASSES))
            counts[:, tree.classes_] = inner.value[:, 0, :] * inner.weighted_n_node_samples[:, None]
            parts["feature"].append(inner.feature)
            parts["threshold"].append(inner.threshold)
            parts["left"].append(inner.children_left)
            parts["right"].append(inner.children_right)
            parts["counts"].append(counts)
            parts["tree_nodes"].append([inner.node_count])
        return {name: np.concatenate(values) for name, values in parts.items()}


def train(data, seed):
    """Return what is to be saved, and the figures to be reported."""
    images, labels = data["images"], data["labels"]
    order = np.random.default_rng(seed).permutation(len(images))
    cut = len(images) * 4 // 5
    train_rows, test_rows = order[:cut], order[cut:]
    features = extract_features(images)
    columns = range(features.shape[1])
    mean = [sum(features[i, j] for i in train_rows) / cut for j in columns]
    scale = [
        math.sqrt(sum((features[i, j] - mean[j]) ** 2 for i in train_rows) / cut) or 1.0 for j in columns
    ]
    normal = normalise(features, mean, scale)
    forest = RandomForest(seed)
    forest.fit(normal[train_rows], labels[train_rows])
    predicted = forest.predict(normal[test_rows])
    accuracy = float((predicted == labels[test_rows]).mean())
    result = {
        "mean": np.array(mean),
        "scale": np.array(scale),
        "train_rows": train_rows,
        "test_rows": test_rows,
    }
    return result | forest.arrays(), {"accuracy": accuracy, "train": cut, "test": len(test_rows)}


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
