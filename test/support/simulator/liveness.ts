/**
 * The rule that no step stands still: where a unit of work is open and a worker has nothing to do, either the worker is
 * given the unit now, or a timer runs until those who hold the unit are late. A relay without workers must not keep its
 * work either.
 */
import type { Coordinator } from '../../../src/coordinator/coordinator.js';
import type { Crew } from '../../../src/relay/crew.js';
import type { WorkerGroup } from '../../../src/coordinator/group/group.js';
import type { Dispatcher, Work } from '../../../src/coordinator/round/dispatcher.js';
import type { Round } from '../../../src/coordinator/round/round.js';
import type { Timer } from '../../../src/shared/clock.js';

/** What of the inside of a coordinator, or of a relay's crew, the rule looks at. */
interface Inside {
  readonly group: WorkerGroup;
  readonly gatherer: { readonly failure: Error | null; readonly dispatcher: Dispatcher };
}

interface CrewInside {
  readonly absence: Timer | null;
  readonly isDeserted: boolean;
}

interface DispatcherInside {
  readonly current: { readonly work: Work; readonly round: Round } | null;
  readonly timer: Timer | null;
}

/** @returns that the crew has work and nobody for it, and no timer after which it gives the work back; null if not */
export function keptWork(crew: Crew, isPending: (timer: Timer) => boolean): string | null {
  const { group, gatherer } = crew as unknown as Inside;
  const { absence, isDeserted } = crew as unknown as CrewInside;
  const { current } = gatherer.dispatcher as unknown as DispatcherInside;
  if (!current || isDeserted || group.active().length > 0) return null;
  return absence && isPending(absence)
    ? null
    : 'it has work and no workers, and no timer is running';
}

/** @returns what stands still, in words; null if nothing does */
export function standstill(
  hub: Coordinator | Crew,
  isPending: (timer: Timer) => boolean,
): string | null {
  const { group, gatherer } = hub as unknown as Inside;
  const { dispatcher } = gatherer;
  const { current, timer } = dispatcher as unknown as DispatcherInside;
  if (!current || gatherer.failure) return null;
  const { work, round } = current;
  if (timer && isPending(timer) && round.nextLateAt !== Infinity) return null;
  const open = Array.from({ length: work.numUnits }, (_, unit) => unit).filter((unit) =>
    work.isOpen(unit),
  );
  const idle = group
    .active()
    .filter((member) => round.isIdle(member.workerId) && dispatcher.isFree(member));
  if (open.length === 0 || idle.length === 0) return null;
  return `units ${open.join(', ')} are open, ${idle.map(({ name }) => name).join(', ')} idle, and no timer is running`;
}
