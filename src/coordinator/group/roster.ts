/** The workers that a run knows, in rank order: those that are connected, and those remembered while they are absent. */
import type { Member } from './connection.js';
import { whomToForget } from './membership.js';

export class Roster {
  /** By workerId, in rank order, which is the order of first hellos. */
  private readonly members = new Map<string, Member>();

  /** Those that are active, until one comes or goes: hundreds may be known that are not. */
  private ready: readonly Member[] | null = null;

  add(member: Member): void {
    this.members.set(member.workerId, member);
    this.changed();
  }

  /** To be called when a connection has become active, or has ceased to be. */
  changed(): void {
    this.ready = null;
  }

  get(workerId: string): Member | undefined {
    return this.members.get(workerId);
  }

  all(): Iterable<Member> {
    return this.members.values();
  }

  /** The workers that are ready for work, in rank order. */
  active(): readonly Member[] {
    this.ready ??= [...this.members.values()].filter(
      ({ connection }) => connection?.state === 'active',
    );
    return this.ready;
  }

  /** The connected workers with that name or id. */
  called(nameOrId: string): Member[] {
    return [...this.members.values()].filter(
      ({ name, workerId, connection }) => connection && [name, workerId].includes(nameOrId),
    );
  }

  /**
   * Marks the member absent, and forgets absent members beyond the limit. One that has not taken part is forgotten at once,
   * unless it is shut out: its id speaks for nobody.
   */
  leaveBehind(member: Member, now: number): void {
    this.changed();
    member.connection = null;
    member.absentSince = now;
    if (!member.hasTakenPart && member.history.keptOutUntil !== Infinity) {
      this.members.delete(member.workerId);
      return;
    }
    const absent = [...this.members.values()].filter(({ connection }) => connection === null);
    for (const { workerId } of whomToForget(absent)) this.members.delete(workerId);
  }
}
