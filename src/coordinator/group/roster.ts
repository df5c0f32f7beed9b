/** The workers that a run knows, in rank order: those that are connected, and those remembered while they are absent. */
import type { Member } from './connection.js';
import { whomToForget } from './membership.js';

export class Roster {
  /** By workerId, in rank order, which is the order of first hellos. */
  private readonly members = new Map<string, Member>();

  add(member: Member): void {
    this.members.set(member.workerId, member);
  }

  get(workerId: string): Member | undefined {
    return this.members.get(workerId);
  }

  all(): Iterable<Member> {
    return this.members.values();
  }

  /** The workers that are ready for work, in rank order. */
  active(): Member[] {
    const active: Member[] = [];
    for (const member of this.members.values()) {
      if (member.connection?.state === 'active') active.push(member);
    }
    return active;
  }

  /** The connected workers with that name or id. */
  called(nameOrId: string): Member[] {
    return [...this.members.values()].filter(
      ({ name, workerId, connection }) => connection && [name, workerId].includes(nameOrId),
    );
  }

  /** Marks the member absent, and forgets absent members beyond the limit. */
  leaveBehind(member: Member, now: number): void {
    member.connection = null;
    member.absentSince = now;
    const absent = [...this.members.values()].filter(({ connection }) => connection === null);
    for (const { workerId } of whomToForget(absent)) this.members.delete(workerId);
  }
}
