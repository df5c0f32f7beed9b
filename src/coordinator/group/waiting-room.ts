/** Decides which connection to drop when too many unidentified ones arrive. */
import { networkOf } from './membership.js';

/**
 * Holds a bounded number of guests: connections that have not identified themselves yet.
 *
 * It never turns a newcomer away. When full, it evicts the guest that has waited longest among those of the address with
 * the most guests. So a flood from one address does not affect the others; and if all come from one address (a proxy, this
 * machine), a guest that identifies itself promptly is through before it can be evicted.
 */
export class WaitingRoom<T> {
  private readonly capacity: number;
  private readonly evict: (guest: T) => void;
  /** By address, oldest first. */
  private readonly guests = new Map<string, Set<T>>();
  private readonly addresses = new Map<T, string>();

  /** @param evict called with each evicted guest, after it has left */
  constructor(capacity: number, evict: (guest: T) => void) {
    this.capacity = capacity;
    this.evict = evict;
  }

  get size(): number {
    return this.addresses.size;
  }

  /** @param address IPv4 or IPv6; IPv6 addresses count by /64 network, since one machine may have 2⁶⁴ of them */
  enter(guest: T, address: string): void {
    if (this.addresses.has(guest)) return;
    const key = networkOf(address);
    this.addresses.set(guest, key);
    const others = this.guests.get(key);
    if (others) others.add(guest);
    else this.guests.set(key, new Set([guest]));
    if (this.size <= this.capacity) return;
    const [oldest] = this.largest();
    this.leave(oldest);
    this.evict(oldest);
  }

  /** Does nothing if the guest is absent. */
  leave(guest: T): void {
    const key = this.addresses.get(guest);
    if (key === undefined) return;
    this.addresses.delete(guest);
    const others = this.guests.get(key)!;
    others.delete(guest);
    if (others.size === 0) this.guests.delete(key);
  }

  private largest(): Set<T> {
    let largest = new Set<T>();
    for (const guests of this.guests.values()) if (guests.size > largest.size) largest = guests;
    return largest;
  }
}
