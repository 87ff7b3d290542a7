"""Train a random forest on features of 28×28 images: features and normalisation as array operations."""

import argparse
import cProfile
import json
import runpy
from pathlib import Path

import numpy as np
from sklearn.tree import DecisionTreeClassifier

TREES, DEPTH, CLASSES, SIDE, BLOCK = 12, 12, 6, 28, 7


def extract_features(images):
    """Return 76 features of each image: 16 block means, 28 row means, 28 column means, 4 of contrast."""
    x = images.astype(np.float64)
    blocks = x.reshape(-1, SIDE // BLOCK, BLOCK, SIDE // BLOCK, BLOCK).mean(axis=(2, 4)).reshape(len(x), -1)
    across = np.abs(x[:, :, 1:] - x[:, :, :-1]).mean(axis=(1, 2))
    down = np.abs(x[:, 1:] - x[:, :-1]).mean(axis=(1, 2))
    contrast = np.stack([x.mean(axis=(1, 2)), x.std(axis=(1, 2)), across, down], axis=1)
    return np.concatenate([blocks, x.mean(axis=2), x.mean(axis=1), contrast], axis=1)


def normalise(features, mean, scale):
    """Return (features − mean) / scale, column by column."""
    return (features - mean) / scale


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
    mean = features[train_rows].mean(axis=0)
    scale = features[train_rows].std(axis=0)
    scale[scale == 0] = 1.0
    normal = normalise(features, mean, scale)
    forest = RandomForest(seed)
    forest.fit(normal[train_rows], labels[train_rows])
    predicted = forest.predict(normal[test_rows])
    accuracy = float((predicted == labels[test_rows]).mean())
    result = {"mean": mean, "scale": scale, "train_rows": train_rows, "test_rows": test_rows}
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
