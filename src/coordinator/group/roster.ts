/** The workers that a run knows, by rank: those that are there, and those that are remembered while they are away. */
import type { Member } from './connection.js';
import { whomToForget } from './membership.js';

export class Roster {
  /** By workerId, in the order of their first hello: their ranks. */
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

  /** Workers ready to work. */
  active(): Member[] {
    return [...this.members.values()].filter(({ connection }) => connection?.state === 'active');
  }

  /** Those there of that name or id. */
  called(nameOrId: string): Member[] {
    return [...this.members.values()].filter(
      ({ name, workerId, connection }) => connection && [name, workerId].includes(nameOrId),
    );
  }

  /** The member is away; of those that are, some may have to be forgotten. */
  leaveBehind(member: Member, now: number): void {
    member.connection = null;
    member.absentSince = now;
    const absent = [...this.members.values()].filter(({ connection }) => connection === null);
    for (const { workerId } of whomToForget(absent)) this.members.delete(workerId);
  }
}
