/**
 * All deadlines in one place: most are nested in another one, and must end before it.
 */

export const DEADLINES = {
  /** Worker: for the TCP connection and the upgrade to a WebSocket, ms. */
  dialMs: 5_000,
  /**
   * Coordinator: for the first byte of a connection, and from then on for a request of HTTP, an upgrade among them, ms. Over TLS,
   * the handshake has as long in between.
   */
  requestMs: 5_000,
  /** Coordinator: for an answer of HTTP to be read on, ms. The page's event stream says something more often. */
  responseStallMs: 30_000,
  /** Page: between two signs of life in the event stream, ms. */
  streamKeepAliveMs: 15_000,
  /** Coordinator: for hello, ms. */
  helloMs: 5_000,
  /** Worker: for the welcome, ms. From then on both sides keep the run's heartbeat timeout. */
  welcomeMs: 10_000,
  /** Worker: for an engine's thread to be there, ms. */
  engineStartMs: 60_000,
  /** Worker: for one call of an engine, ms. */
  engineCallMs: 300_000,
  /** Coordinator: for ready, that is, for an engine to start and to compute the proof, ms. */
  readyMs: 390_000,
  /** Coordinator: for an answer to any of the work that a worker has, ms; one that only answers pings goes. */
  answerMs: 330_000,
  /** Worker: for an engine's thread to end by itself, ms. */
  engineDisposeMs: 5_000,
  /** Coordinator: for the step under way after the word to stop, ms. */
  finishStepMs: 1_000,
  /** Either side: for the other one's answer to a close, ms. */
  closeMs: 2_000,
  /** Worker: for the coordinator to close after `leave`, ms. */
  goodbyeMs: 500,
  /** Coordinator: for a worker that it started to end after SIGTERM, ms. */
  localWorkerEndMs: 1_000,
  /** Coordinator: for all connections to have closed at its end, ms. */
  serverCloseMs: 500,
} as const;
export type Deadlines = Readonly<Record<keyof typeof DEADLINES, number>>;

/**
 * @throws {RangeError} if a wait would be over before what it waits for may be: who waits would give up a partner that
 *   keeps its own deadline
 */
export function checkDeadlines(deadlines: Deadlines): void {
  const { engineStartMs, engineCallMs } = deadlines;
  const order: readonly (readonly [inner: string, innerMs: number, outer: keyof Deadlines])[] = [
    ['helloMs', deadlines.helloMs, 'welcomeMs'],
    ['engineStartMs + engineCallMs', engineStartMs + engineCallMs, 'readyMs'],
    ['engineCallMs', engineCallMs, 'answerMs'],
    ['streamKeepAliveMs', deadlines.streamKeepAliveMs, 'responseStallMs'],
    ['goodbyeMs', deadlines.goodbyeMs, 'closeMs'],
    ['goodbyeMs', deadlines.goodbyeMs, 'localWorkerEndMs'],
    ['serverCloseMs', deadlines.serverCloseMs, 'closeMs'],
  ];
  for (const [inner, innerMs, outer] of order) {
    if (innerMs < deadlines[outer]) continue;
    throw new RangeError(
      `Deadlines out of order: ${inner} (${innerMs} ms) must be shorter than ${outer} (${deadlines[outer]} ms)`,
    );
  }
}

checkDeadlines(DEADLINES);
