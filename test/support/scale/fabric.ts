/**
 * Machines and the switch between them, in virtual time. A machine has one core for its event loop and one full-duplex
 * network card; the switch has room for all. Frames on their way share what a card sends, and what a card receives,
 * equally, as TCP connections do in the long run; nothing is lost.
 */
import {
  frameBytes,
  type Channel,
  type ChannelHandler,
  type Frame,
} from '../../../src/shared/channel.js';
import type { Timer } from '../../../src/shared/clock.js';
import { VirtualProcess, type VirtualTime } from '../virtual-clock.js';

export interface FabricOptions {
  readonly bytesPerMs: number;
  readonly latencyMs: number;
  /** What a machine's core takes to send a frame. */
  readonly sendMs: (frame: Frame, sender: Machine) => number;
  /** What it takes to receive one, up to the code that acts on it. */
  readonly receiveMs: (frame: Frame, receiver: Machine) => number;
}

export class Machine {
  readonly name: string;
  readonly process: VirtualProcess;
  /** What the core has done, ms. */
  busyMs = 0;
  /** Frames that leave, and that arrive, now. */
  numOut = 0;
  numIn = 0;
  private readonly time: VirtualTime;
  private freeAt = 0;

  constructor(time: VirtualTime, name: string) {
    this.time = time;
    this.name = name;
    this.process = new VirtualProcess(time, { name });
  }

  /** Has the core do something after what it does already. */
  spend(durationMs: number, then: () => void): void {
    this.freeAt = Math.max(this.freeAt, this.time.now) + durationMs;
    this.busyMs += durationMs;
    this.time.schedule(this.freeAt - this.time.now, then, this.process);
  }
}

interface Flow {
  readonly from: Machine;
  readonly to: Machine;
  leftBytes: number;
  bytesPerMs: number;
  readonly left: () => void;
  readonly arrived: () => void;
}

export class Fabric {
  /** What all cards have sent, bytes. */
  sentBytes = 0;
  readonly time: VirtualTime;
  readonly options: FabricOptions;
  private readonly flows = new Set<Flow>();
  private lastAt = 0;
  private next: Timer | null = null;

  constructor(time: VirtualTime, options: FabricOptions) {
    this.time = time;
    this.options = options;
  }

  /** Opens a connection. @returns the ends of the two */
  connect(a: Machine, b: Machine): [Channel, Channel] {
    const [endA, endB] = [new End(this, a), new End(this, b)];
    endA.peer = endB;
    endB.peer = endA;
    return [endA, endB];
  }

  /** @param left called when all of it has left  @param arrived called when all of it is there */
  begin(from: Machine, to: Machine, numBytes: number, left: () => void, arrived: () => void): void {
    this.advance();
    this.sentBytes += numBytes;
    from.numOut++;
    to.numIn++;
    this.flows.add({ from, to, leftBytes: numBytes, bytesPerMs: 0, left, arrived });
    this.share();
  }

  /** Lets what is on its way come as far as it has come by now. */
  private advance(): void {
    const { now } = this.time;
    const passedMs = now - this.lastAt;
    this.lastAt = now;
    if (passedMs === 0) return;
    for (const flow of this.flows) flow.leftBytes -= passedMs * flow.bytesPerMs;
  }

  /** Shares the cards out anew, and waits for the first to arrive. */
  private share(): void {
    const { bytesPerMs, latencyMs } = this.options;
    this.next?.cancel();
    let firstMs = Infinity;
    for (const flow of this.flows) {
      flow.bytesPerMs = bytesPerMs / Math.max(flow.from.numOut, flow.to.numIn);
      firstMs = Math.min(firstMs, Math.max(0, flow.leftBytes) / flow.bytesPerMs);
    }
    if (firstMs === Infinity) return;
    this.next = this.time.schedule(firstMs, () => {
      this.advance();
      for (const flow of [...this.flows]) {
        if (flow.leftBytes > 1e-3) continue;
        this.flows.delete(flow);
        flow.from.numOut--;
        flow.to.numIn--;
        this.time.schedule(latencyMs, flow.arrived);
        flow.left();
      }
      this.share();
    });
  }
}

/** One side of a connection: frames leave one after the other. */
class End implements Channel {
  handler: ChannelHandler = { received: () => undefined, closed: () => undefined };
  /** What is sent is the kernel's at once. */
  readonly bufferedBytes = 0;
  readonly isReceiving = false;
  peer!: End;
  private readonly fabric: Fabric;
  private readonly machine: Machine;
  private readonly queue: Frame[] = [];
  private isSending = false;

  constructor(fabric: Fabric, machine: Machine) {
    this.fabric = fabric;
    this.machine = machine;
  }

  send(frame: Frame, left?: () => void): void {
    const { machine, fabric } = this;
    machine.spend(fabric.options.sendMs(frame, machine), () => {
      this.queue.push(frame);
      this.pump();
      left?.();
    });
  }

  close(code: number, reason: string): void {
    for (const { handler, machine } of [this, this.peer]) {
      this.fabric.time.schedule(0, () => handler.closed(code, reason), machine.process);
    }
  }

  terminate(): void {
    this.close(1006, '');
  }

  private pump(): void {
    const frame = this.queue.at(0);
    if (this.isSending || !frame) return;
    this.isSending = true;
    const { fabric, machine, peer } = this;
    const { receiveMs } = fabric.options;
    const numBytes = frameBytes(frame);
    const left = () => {
      this.queue.shift();
      this.isSending = false;
      this.pump();
    };
    fabric.begin(machine, peer.machine, numBytes, left, () => {
      peer.machine.spend(receiveMs(frame, peer.machine), () => peer.handler.received(frame));
    });
  }
}
