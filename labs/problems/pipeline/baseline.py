"""Extract features of signals and train a network with parts of its own, slowly. Make it faster.

Read card.md first: it says what the script is given, what it must save, and what must stay.
"""

import argparse
import cProfile
import json
import math
import runpy
from pathlib import Path

import numpy as np
import torch
from torch import nn

EPOCHS, BATCH, LENGTH, WINDOW, FEATURES, HIDDEN, CLASSES = 3, 8, 32, 4, 12, 16, 3
RATE, MOMENTUM = 0.01, 0.9


def extract_features(signals):
    """Return 12 features of each signal: 8 means of windows, deviation, range, mean step, sign changes."""
    rows = []
    for signal in signals:
        values = [float(value) for value in signal]
        features = []
        for start in range(0, LENGTH, WINDOW):
            total = 0.0
            for i in range(start, start + WINDOW):
                total += values[i]
            features.append(total / WINDOW)
        mean = sum(values) / LENGTH
        features.append(math.sqrt(sum((value - mean) ** 2 for value in values) / LENGTH))
        features.append(max(values) - min(values))
        features.append(sum(abs(values[i + 1] - values[i]) for i in range(LENGTH - 1)) / (LENGTH - 1))
        features.append(float(sum((values[i + 1] > 0) != (values[i] > 0) for i in range(LENGTH - 1))))
        rows.append(features)
    return np.array(rows)


def normalise(features, reference):
    """Return (features − mean of the reference) / its standard deviation, column by column."""
    rows = []
    for row in features:
        mean = reference.mean(axis=0)
        deviation = np.sqrt(((reference - mean) ** 2).mean(axis=0))
        rows.append((row - mean) / deviation)
    return np.array(rows)


class SoftClip(torch.autograd.Function):
    """x / (1 + |x|), with its derivative 1 / (1 + |x|)²."""

    @staticmethod
    def forward(context, inputs):
        context.save_for_backward(inputs)
        output = torch.empty_like(inputs)
        for i in range(inputs.shape[0]):
            for j in range(inputs.shape[1]):
                value = inputs[i, j].item()
                output[i, j] = value / (1 + abs(value))
        return output

    @staticmethod
    def backward(context, gradient):
        (inputs,) = context.saved_tensors
        output = torch.empty_like(inputs)
        for i in range(inputs.shape[0]):
            for j in range(inputs.shape[1]):
                value = inputs[i, j].item()
                output[i, j] = gradient[i, j].item() / (1 + abs(value)) ** 2
        return output


class Network(nn.Module):
    """Two linear layers with a soft clip between them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(FEATURES, HIDDEN)
        self.second = nn.Linear(HIDDEN, CLASSES)

    def forward(self, inputs):
        return self.second(SoftClip.apply(self.first(inputs)))


class MomentumSGD:
    """Gradient descent with momentum: velocity = m·velocity + gradient; weight -= rate·velocity."""

    def __init__(self, parameters, rate, momentum):
        self.parameters = list(parameters)
        self.rate, self.momentum = rate, momentum
        self.velocity = [torch.zeros_like(parameter) for parameter in self.parameters]

    def step(self):
        with torch.no_grad():
            for parameter, velocity in zip(self.parameters, self.velocity, strict=True):
                weights, speeds, slopes = parameter.view(-1), velocity.view(-1), parameter.grad.view(-1)
                for i in range(weights.shape[0]):
                    speeds[i] = self.momentum * speeds[i].item() + slopes[i].item()
                    weights[i] -= self.rate * speeds[i].item()

    def clear(self):
        for parameter in self.parameters:
            parameter.grad = None


def train(data, seed):
    """Return what is to be saved, and the figures to be reported."""
    order = np.random.default_rng(seed).permutation(len(data["labels"]))
    cut = len(order) * 4 // 5
    train_rows, test_rows = order[:cut], order[cut:]
    features = extract_features(data["signals"])
    reference = features[train_rows]
    inputs = torch.tensor(normalise(features, reference), dtype=torch.float32)
    labels = torch.tensor(data["labels"])
    torch.manual_seed(seed)
    model = Network()
    optimizer = MomentumSGD(model.parameters(), RATE, MOMENTUM)
    for epoch in range(EPOCHS):
        shuffled = train_rows[torch.randperm(cut).numpy()]
        total = 0.0
        for start in range(0, cut, BATCH):
            rows = shuffled[start : start + BATCH]
            optimizer.clear()
            loss = nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1}: loss {total / cut:.4f}")
    return saved(model, inputs, labels, reference, train_rows, test_rows)


def saved(model, inputs, labels, reference, train_rows, test_rows):
    """Return the weights as plain arrays, and the accuracy on the held-out rows."""
    with torch.no_grad():
        predicted = model(inputs[test_rows]).argmax(dim=1)
    accuracy = float((predicted == labels[test_rows]).float().mean())
    result = {name.replace(".", "_"): value.numpy() for name, value in model.state_dict().items()}
    result |= {"mean": reference.mean(axis=0), "scale": reference.std(axis=0)}
    result |= {"train_rows": train_rows, "test_rows": test_rows}
    return result, {"accuracy": accuracy, "train": len(train_rows), "test": len(test_rows)}


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
