/** Tells the user how the part of a worker or relay in a run ended. */
import { UserError } from '../shared/errors.js';
import type { Logger } from '../shared/node/log.js';
import type { WorkerOutcome } from '../worker/worker.js';

/**
 * @param where address that was given, without secrets
 * @param retryForS how long it was tried, s
 * @throws {UserError} if it ended otherwise than it should
 */
export function tellEnding(
  ending: WorkerOutcome,
  where: string,
  retryForS: number,
  log: Logger,
): void {
  switch (ending.outcome) {
    case 'finished':
      log.info(`The run is over: ${ending.reason}`);
      break;
    case 'left':
      log.info('Left the run');
      break;
    case 'refused':
      throw new UserError(`Refused by the coordinator: ${ending.reason}`);
    case 'unable':
      throw new UserError(ending.reason);
    case 'gaveUp':
      throw new UserError(
        `Cannot reach a coordinator at ${where} for ${retryForS} s (${ending.reason}); is it running, and is the address right?`,
      );
  }
}
