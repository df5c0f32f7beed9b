"""A link between two network namespaces with a delay, a loss and a rate, both ways: what `tc netem` does, for kernels without it.

    slow-link.py NAMESPACE_A NAMESPACE_B DELAY_MS LOSS RATE SEED

Makes a TUN device `cable` in each namespace, with the addresses 10.77.0.1 and 10.77.0.2, says "ready", and carries IP packets
between them until it is ended; the devices end with it. LOSS is the share of packets that vanish, 0 to 1; RATE is in bytes
a second. What comes faster waits, up to a tenth of a second's worth of it; the rest vanishes, as in a switch.
"""

import fcntl
import heapq
import itertools
import os
import random
import selectors
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
MAX_PACKET = 65536
MAX_QUEUED_S = 0.1


def create_tun(name):
    """Descriptor of a new TUN device; a read or a write is one packet."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def ip(command):
    subprocess.run(["ip", *command.split()], check=True)


def main():
    namespaces, (delay_ms, loss, rate, seed) = sys.argv[1:3], map(float, sys.argv[3:])
    devices = []
    for i, (namespace, host) in enumerate(zip(namespaces, ("1", "2"))):
        name = f"lk{os.getpid()}{'ab'[i]}"
        devices.append(create_tun(name))
        ip(f"link set {name} netns {namespace} name cable")
        ip(f"-n {namespace} addr add 10.77.0.{host}/24 dev cable")
        ip(f"-n {namespace} link set lo up")
        ip(f"-n {namespace} link set cable up")
    print("ready", flush=True)

    generator = random.Random(seed)
    order = itertools.count()
    on_the_way = []  # (due, order, device, packet)
    free_at = [0.0, 0.0]  # When a direction has carried what it took so far.
    selector = selectors.DefaultSelector()
    for way in (0, 1):
        selector.register(devices[way], selectors.EVENT_READ, way)
    while True:
        wait = max(0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
        for key, _ in selector.select(wait):
            packet = os.read(key.fd, MAX_PACKET)
            way, now = key.data, time.monotonic()
            if generator.random() < loss or free_at[way] > now + MAX_QUEUED_S:
                continue
            free_at[way] = max(free_at[way], now) + len(packet) / rate
            due = free_at[way] + delay_ms / 1000
            heapq.heappush(on_the_way, (due, next(order), devices[1 - way], packet))
        while on_the_way and on_the_way[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(on_the_way)
            try:
                os.write(device, packet)
            except OSError:  # The device is down: a packet into a cut cable.
                pass


main()
