/** Ctrl-C and its like, as an AbortSignal. */

/**
 * Aborts on the first SIGINT or SIGTERM; the second ends the process at once.
 *
 * A process that `lockstep train` started leaves Ctrl-C to its parent, which the terminal tells too, and ends when
 * the parent is gone.
 */
export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  const isManaged = process.channel !== undefined;
  const stop = (signal: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(signal === 'SIGINT' ? 130 : 143);
    controller.abort();
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', isManaged ? () => undefined : stop);
  if (isManaged) process.once('disconnect', () => process.exit(0));
  return controller.signal;
}
