#!/usr/bin/env python3
"""An independent implementation of what Lockstep promises to the bit, in numpy, written from docs/algorithm.md alone:
random numbers, the order of the images, augmentation, dropout, θ₀, the learning rate, the update. Given gradients, it must end at
the same θ.

    python3 scripts/independent.py < request.json          needs numpy

The request is a run's configuration with `numTrain`, `epoch`, and `gradients`: a file of float32 gradients (little-endian,
already divided by n), one after the other; `images`, a file of bytes, and their shape, `input`; they are augmented as in
`epoch`. Prints JSON: `permutation`, `augmented`, `masks`, `theta0`, `theta` after these updates, as SHA-256 of
little-endian bytes. test/scripts/independent.test.ts compares them with the program's.
"""
import hashlib
import json
import math
import sys

import numpy as np

MASK = 0xFFFFFFFF
f32 = np.float32


def mix(w):
    w = ((w ^ (w >> 16)) * 0x85EBCA6B) & MASK
    w = ((w ^ (w >> 13)) * 0xC2B2AE35) & MASK
    return w ^ (w >> 16)


def rotl(w, k):
    return ((w << k) | (w >> (32 - k))) & MASK


class Generator:
    def __init__(self, *labels):
        self.s = [0x9E3779B9, 0x3C6EF372, 0xDAA66D2B, 0x78DDE6E4]
        for label in labels:
            if isinstance(label, str):
                words = [2 * len(label) + 1] + [ord(character) for character in label]
            else:
                words = [0, label % 2**32, label // 2**32]
            for w in words:
                self.s = [mix(((word ^ w) + 0x9E3779B9) & MASK) for word in self.s]

    def next(self):
        s = self.s
        r = (rotl((s[1] * 5) & MASK, 7) * 9) & MASK
        t = (s[1] << 9) & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotl(s[3], 11)
        return r

    def float(self):
        a = self.next() >> 5
        b = self.next() >> 6
        return (a * 2**26 + b) / 2**53

    def below(self, n):
        limit = 2**32 - 2**32 % n
        v = self.next()
        while v >= limit:
            v = self.next()
        return v % n


def permutation(seed, epoch, n):
    generator = Generator(seed, "epoch", epoch)
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = generator.below(i + 1)
        order[i], order[j] = order[j], order[i]
    return np.array(order, "<u4")


def augment(image, words, generator):
    """image: (C, H, W) bytes; words: such as rotate=15."""
    given = {word.split("=")[0]: float(word.split("=")[1]) for word in words}
    shift, rotate, scale, flip, noise, cutout = (given.get(name, 0) for name in ("shift", "rotate", "scale", "flip", "noise", "cutout"))
    _, height, width = image.shape
    down = generator.below(2 * int(shift) + 1) - int(shift) if shift else 0
    right = generator.below(2 * int(shift) + 1) - int(shift) if shift else 0
    d = (2 * generator.float() - 1) * rotate if rotate else 0.0
    k = 1 + (2 * generator.float() - 1) * scale if scale else 1.0
    is_mirrored = generator.float() < flip if flip else False
    image = image.astype(np.int64)
    if shift or rotate or scale or flip:
        sine = cos_pi(abs(0.5 - abs(d) / 180))
        a = math.floor(2**16 * cos_pi(abs(d) / 180) / k + 0.5)
        b = math.floor(2**16 * (-sine if d < 0 else sine) / k + 0.5)
        y, x = np.mgrid[0:height, 0:width]
        u = 2 * x - (width - 1) - 2 * right
        v = 2 * y - (height - 1) - 2 * down
        from_x = (-1 if is_mirrored else 1) * (a * u + b * v) + 2**16 * (width - 1)
        from_y = a * v - b * u + 2**16 * (height - 1)
        i, j = from_x // 2**17, from_y // 2**17
        fx, fy = from_x // 2**9 % 256, from_y // 2**9 % 256

        def pixel(i, j):
            inside = (i >= 0) & (i < width) & (j >= 0) & (j < height)
            return np.where(inside, image[:, j.clip(0, height - 1), i.clip(0, width - 1)], 0)

        def row(j):
            return 256 * pixel(i, j) + fx * (pixel(i + 1, j) - pixel(i, j))

        image = (256 * row(j) + fy * (row(j + 1) - row(j)) + 2**15) // 2**16
    if noise:
        q = math.floor(65536 * noise / math.sqrt(21845) + 0.5)
        words = np.array([generator.next() for _ in range(image.size)]).reshape(image.shape)
        total = sum(words >> bits & 255 for bits in (0, 8, 16, 24))
        image = (image + ((total - 510) * q + 2**15) // 2**16).clip(0, 255)
    if cutout:
        side = int(cutout)
        top = generator.below(height) - side // 2
        left = generator.below(width) - side // 2
        image[:, max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0
    return image.astype(np.uint8)


def images_of(config):
    shape = config["input"]
    images = np.fromfile(config["images"], np.uint8)
    return images.reshape(-1, shape["channels"], shape["height"], shape["width"])


def augmented(config):
    return np.stack(
        [
            augment(image, config["augment"], Generator(config["seed"], "augment", config["epoch"], i))
            for i, image in enumerate(images_of(config))
        ]
    )


def masks(config):
    dropout, num_hidden = config["dropout"], sum(config["hyperparameters"]["hidden"])
    if dropout == 0:
        return np.zeros(0, f32)
    threshold = math.floor(dropout * 2**32)
    rows = []
    for i in range(len(images_of(config))):
        generator = Generator(config["seed"], "dropout", config["epoch"], i)
        rows.append([0 if generator.next() < threshold else 1 / (1 - dropout) for _ in range(num_hidden)])
    return np.array(rows, f32)


def layers(model, size=28, channels=1, num_classes=10):
    """(name, number of weights, number of biases, fanIn, fanOut) of each layer that has weights."""
    kernel = model["kernelSize"]
    for index, out in enumerate(model["channels"]):
        padding = model["padding"] if index == 0 else 0
        yield f"C{2 * index + 1}", out * channels * kernel**2, out, channels * kernel**2, out * kernel**2
        size = ((size + 2 * padding - kernel) // model["stride"] + 1) // 2
        channels = out
    inputs = channels * size**2
    first = 2 * len(model["channels"]) + 1
    names = [f"F{first + index}" for index in range(len(model["hidden"]))] + ["Output"]
    for name, out in zip(names, model["hidden"] + [num_classes]):
        yield name, out * inputs, out, inputs, out
        inputs = out


def theta0(model, seed):
    parts = []
    for name, num_weights, num_biases, fan_in, fan_out in layers(model):
        generator = Generator(seed, "init", name)
        limit = math.sqrt(6 / (fan_in + fan_out))
        parts.append(np.array([(2 * generator.float() - 1) * limit for _ in range(num_weights)], f32))
        parts.append(np.zeros(num_biases, f32))
    return np.concatenate(parts)


def cos_pi(x):
    if x > 0.5:
        return -cos_pi(1 - x)
    is_sine = x > 0.25
    y = math.pi * (0.5 - x if is_sine else x)
    square = y * y
    s = 1.0
    for k in range(19 if is_sine else 18, 1, -2):
        s = 1 - (s * square) / (k * (k - 1))
    return y * s if is_sine else s


def power(b, k):
    r = 1.0
    while k > 0:
        if k % 2 == 1:
            r *= b
        b *= b
        k //= 2
    return r


def learning_rate(config, t):
    steps = -(-config["numTrain"] // config["batchSize"])
    warmup = math.floor(config["warmupEpochs"] * steps + 0.5)
    if t < warmup:
        return config["lr"] * (t + 1) / (warmup + 1)
    u = t - warmup
    if config["schedule"] == "constant":
        return config["lr"]
    if config["schedule"] == "cosine":
        c = cos_pi(u / (config["epochs"] * steps - warmup) / 2)
        return config["lr"] * (c * c)
    every = max(1, math.floor(config["stepEpochs"] * steps + 0.5))
    return config["lr"] * power(config["stepFactor"], u // every)


def train(config, theta, gradients):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    b1 = b2 = 1.0
    for t, g in enumerate(gradients):
        rate = learning_rate(config, t)
        decay = f32(1 - rate * config["weightDecay"])
        if config["optimizer"] == "sgd":
            theta = decay * theta - f32(rate) * g
        elif config["optimizer"] == "momentum":
            v = f32(config["momentum"]) * v + g
            theta = decay * theta - f32(rate) * v
        else:
            beta1, beta2 = config["beta1"], config["beta2"]
            b1 *= beta1
            b2 *= beta2
            m = f32(beta1) * m + f32(1 - beta1) * g
            v = f32(beta2) * v + f32(1 - beta2) * (g * g)
            root = f32(1 / math.sqrt(1 - b2)) * np.sqrt(v) + f32(config["epsilon"])
            theta = decay * theta - (f32(rate / (1 - b1)) * m) / root
    return theta


def sha256(array):
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()


config = json.load(sys.stdin)
start = theta0(config["hyperparameters"], config["seed"])
gradients = np.fromfile(config["gradients"], "<f4").reshape(-1, start.size)
json.dump(
    {
        "permutation": sha256(permutation(config["seed"], config["epoch"], config["numTrain"])),
        "augmented": sha256(augmented(config)),
        "masks": sha256(masks(config)),
        "theta0": sha256(start),
        "theta": sha256(train(config, start, gradients)),
    },
    sys.stdout,
)
