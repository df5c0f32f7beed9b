/** Decides which connection to drop when too many unknown ones arrive. */
import { networkOf } from './membership.js';

/**
 * Room for a number of guests that nobody knows yet: connections without a request, without a hello, without a name.
 *
 * It never turns anyone away. Where it is full, the one goes that has waited longest of the address with the most
 * guests: so a crowd of one address costs the others nothing, and where all come from one address (a proxy, this
 * machine), who says at once what he wants is through before he is pushed out.
 */
export class WaitingRoom<T> {
  private readonly capacity: number;
  private readonly evict: (guest: T) => void;
  /** By address, oldest first. */
  private readonly guests = new Map<string, Set<T>>();
  private readonly addresses = new Map<T, string>();

  /** @param evict called with each guest that has to go, after it has left */
  constructor(capacity: number, evict: (guest: T) => void) {
    this.capacity = capacity;
    this.evict = evict;
  }

  get size(): number {
    return this.addresses.size;
  }

  /** @param address of IPv4 or IPv6; of the latter the network counts, as a machine has 2⁶⁴ of them */
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
