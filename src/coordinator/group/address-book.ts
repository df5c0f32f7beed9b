/** Remembers workers' failures by network address, in bounded memory. */
import {
  MAX_ADDRESSES,
  UNKNOWN_ADDRESS,
  networkOf,
  recordFailure,
  recordShutOut,
  type AddressHistory,
} from './membership.js';

export class AddressBook {
  /** By network, least recently changed first. */
  private readonly histories = new Map<string, AddressHistory>();

  get size(): number {
    return this.histories.size;
  }

  of(address: string): AddressHistory {
    return this.histories.get(networkOf(address)) ?? UNKNOWN_ADDRESS;
  }

  /** A connection from this address gave a wrong token, failed its proof, broke the protocol or sent bad numbers. */
  failed(now: number, address: string): void {
    this.set(address, recordFailure(now, this.of(address)));
  }

  /** A worker from this address was shut out. */
  shutOut(now: number, address: string): void {
    this.set(address, recordShutOut(now, this.of(address)));
  }

  private set(address: string, history: AddressHistory): void {
    const network = networkOf(address);
    this.histories.delete(network);
    this.histories.set(network, history);
    if (this.histories.size <= MAX_ADDRESSES) return;
    const [oldest] = this.histories.keys();
    this.histories.delete(oldest);
  }
}
