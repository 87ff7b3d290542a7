"""Extract features of signals and train a network with parts of its own, all as array operations."""

import argparse
import cProfile
import json
import runpy
from pathlib import Path

import numpy as np
import torch
from torch import nn

EPOCHS, BATCH, LENGTH, WINDOW, FEATURES, HIDDEN, CLASSES = 3, 32, 32, 4, 12, 16, 3
RATE, MOMENTUM = 0.04, 0.9


def extract_features(signals):
    """Return 12 features of each signal: 8 means of windows, deviation, range, mean step, sign changes."""
    x = signals.astype(np.float64)
    windows = x.reshape(len(x), -1, WINDOW).mean(axis=2)
    steps = np.abs(x[:, 1:] - x[:, :-1]).mean(axis=1)
    changes = ((x[:, 1:] > 0) != (x[:, :-1] > 0)).sum(axis=1)
    return np.column_stack([windows, x.std(axis=1), x.max(axis=1) - x.min(axis=1), steps, changes])


def normalise(features, reference):
    """Return (features − mean of the reference) / its standard deviation, column by column."""
    return (features - reference.mean(axis=0)) / reference.std(axis=0)


class SoftClip(torch.autograd.Function):
    """x / (1 + |x|), with its derivative 1 / (1 + |x|)²."""

    @staticmethod
    def forward(context, inputs):
        grown = inputs.abs().add_(1)
        context.save_for_backward(grown)
        return inputs / grown

    @staticmethod
    def backward(context, gradient):
        (grown,) = context.saved_tensors
        return gradient / (grown * grown)


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
                velocity.mul_(self.momentum).add_(parameter.grad)
                parameter.sub_(velocity, alpha=self.rate)

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
    inputs_train, labels_train = inputs[train_rows], labels[train_rows]
    for _ in range(EPOCHS):
        for rows in torch.randperm(cut).split(BATCH):
            optimizer.clear()
            nn.functional.cross_entropy(model(inputs_train[rows]), labels_train[rows]).backward()
            optimizer.step()
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
