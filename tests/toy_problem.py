"""A problem that is graded in a second: class centroids, summed up in Python and then in numpy."""

from __future__ import annotations

from pathlib import Path

RULES = """
rows = 1500
profile_rows = [10, 20]
fresh_rows = 500
figure = "accuracy"
lower_is_better = false
tolerance = 0.02
bar = 2.0
timeout_s = 1.5
memory_mb = 256
preload = ["numpy", "numpy.random"]
imports = ["numpy"]
witness = ""

[[components]]
name = "centroid"
kind = "function"
arguments = ["points"]

[[components]]
name = "train"
kind = "function"
arguments = ["data", "seed"]
"""

TASK = """
import numpy as np


def draw(task, rows, seed):
    centres = np.random.default_rng([task, 1]).normal(size=(2, 8))
    rng = np.random.default_rng([task, 2, seed])
    labels = np.arange(rows) % 2
    return {"points": centres[labels] + rng.normal(scale=0.7, size=(rows, 8)), "labels": labels}


def split(rows, seed):
    order = np.random.default_rng(seed).permutation(rows)
    return order[: rows * 4 // 5], order[rows * 4 // 5 :]


def check_shapes(result, data, seed):
    if set(result) != {"centroids", "train_rows"}:
        return f"the arrays are {sorted(result)}"
    if result["centroids"].shape != (2, 8):
        return f"`centroids` has shape {result['centroids'].shape}"
    rows = split(len(data["labels"]), seed)[0]
    return "" if np.array_equal(result["train_rows"], rows) else "`train_rows` are not those of the seed"


def check_work(result, data, seed, seen):
    rows = split(len(data["labels"]), seed)[0]
    points, labels = data["points"][rows], data["labels"][rows]
    own = np.stack([points[labels == label].mean(axis=0) for label in (0, 1)])
    alike = np.allclose(np.sort(own, axis=0), np.sort(result["centroids"], axis=0), atol=0.2)
    return "" if alike else "the centroids are not of the training rows"


def quality(result, examples):
    apart = ((examples["points"][:, None] - result["centroids"]) ** 2).sum(axis=2)
    return float((apart.argmin(axis=1) == examples["labels"]).mean())


def test_examples(result, data, seed):
    rows = split(len(data["labels"]), seed)[1]
    return {name: array[rows] for name, array in data.items()}


def component_cases(data):
    return {"centroid": ([data["points"]], data["points"].mean(axis=0))}
"""

SLOW = """
import argparse, cProfile, json, runpy
from pathlib import Path

import numpy as np


def centroid(points):
    sums = [0.0] * 8
    for _ in range(60):  # so that start and reading cost little beside it, on fast machines too
        sums = [0.0] * 8
        for point in points:
            add(sums, point)
    return np.array(sums) / len(points)


def add(sums, point):
    for i in range(8):
        sums[i] += float(point[i])


def train(data, seed):
    points, labels = data["points"], data["labels"]
    order = np.random.default_rng(seed).permutation(len(labels))
    cut = len(labels) * 4 // 5
    rows, others = order[:cut], order[cut:]
    centroids = np.stack([centroid(points[rows][labels[rows] == label]) for label in (0, 1)])
    apart = ((points[others][:, None] - centroids) ** 2).sum(axis=2)
    accuracy = float((apart.argmin(axis=1) == labels[others]).mean())
    return {"centroids": centroids, "train_rows": rows}, {"accuracy": accuracy}


def main():
    parser = argparse.ArgumentParser()
    for name in ("--data", "--profile"):
        parser.add_argument(name)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    data = dict(np.load(arguments.data))
    if arguments.profile:
        profile = cProfile.Profile()
        slow = runpy.run_path(arguments.profile, run_name="slow_script")
        profile.runcall(slow["train"], data, arguments.seed)
        profile.dump_stats(arguments.output / "profile.pstats")
        return
    result, report = train(data, arguments.seed)
    np.savez(arguments.output / "result.npz", **result)
    (arguments.output / "report.json").write_text(json.dumps(report))
    print(report)


if __name__ == "__main__":
    main()
"""

LOOP = SLOW[SLOW.index("    sums = [0.0] * 8\n    for _") : SLOW.index("    return np.array(sums)")]
ADD = SLOW[SLOW.index("def add") : SLOW.index("def train")]
FAST = SLOW.replace(LOOP, "").replace(ADD, "").replace("np.array(sums) / len(points)", "points.mean(axis=0)")


def write_toy_problem(folder: Path) -> Path:
    """Write the problem `toy` below `folder`, and return `folder`."""
    place = folder / "toy"
    place.mkdir(parents=True)
    (place / "problem.toml").write_text(RULES)
    (place / "task.py").write_text(TASK)
    (place / "baseline.py").write_text(SLOW)
    return folder


def edited(*edits: tuple[str, str], source: str = FAST) -> str:
    """Return the fast script with each text, which must occur once, replaced."""
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source
