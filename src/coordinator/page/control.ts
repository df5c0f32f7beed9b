/**
 * Controls a run in progress over HTTP, for the page's buttons and `lockstep ctl`.
 *
 *   POST /api/control/stop | pause | resume | save
 *   POST /api/control/evict?name=NAME      a worker, by its name or id
 *
 * Requires the joining token in a header, which no other site can make a browser send.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { printable } from '../../shared/printable.js';
import type { Gate } from './gate.js';
import { answerText } from './page-assets.js';

const PREFIX = '/api/control/';
/** A required header: from another site's page, the browser would have to send a preflight request, which is refused. */
export const CONTROL_HEADER = 'x-lockstep-control';
export const ACTIONS = ['stop', 'pause', 'resume', 'save', 'evict'] as const;
export type Action = (typeof ACTIONS)[number];

/** The actions of a run; each takes effect between two steps. */
export interface RunControls {
  /** False once the run is over. */
  readonly isOn: boolean;
  /** Finishes the current step, saves and ends the run. */
  stop(): void;
  /** Takes no further step until `resume`. */
  pause(): void;
  resume(): void;
  /** Writes a checkpoint. */
  save(): void;
  /** Sends away the connected workers with that name or id, for the rest of the run. @returns how many */
  evict(name: string): number;
}

export interface ControlOptions {
  readonly gate: Pick<Gate, 'mayChange'>;
  readonly controls: RunControls;
  /** For the log and the page: what was requested, and from where. */
  readonly say: (message: string) => void;
}

/** @returns a handler that answers a request if its path is one of these; requests pass the gate first */
export function controlHandler({ gate, controls, say }: ControlOptions) {
  return (request: IncomingMessage, response: ServerResponse): boolean => {
    const [path, query = ''] = (request.url ?? '').split('?', 2);
    if (!path.startsWith(PREFIX)) return false;
    const action = ACTIONS.find((name) => path === PREFIX + name);
    if (action === undefined) {
      answerText(response, 404, `No such action; there are ${ACTIONS.join(', ')}`);
    } else if (request.method !== 'POST') {
      answerText(response, 405, 'Use POST', { Allow: 'POST' });
    } else if (request.headers[CONTROL_HEADER] === undefined) {
      answerText(response, 403, `Send the header ${CONTROL_HEADER}: 1`);
    } else if (gate.mayChange(request, response)) {
      const name = new URLSearchParams(query).get('name') ?? '';
      const { status, text } = act(controls, action, name);
      const from = request.socket.remoteAddress ?? 'unknown';
      say(`${printable(text)} (asked for from ${from})`);
      answerText(response, status, text);
    }
    return true;
  };
}

function act(
  controls: RunControls,
  action: Action,
  name: string,
): { status: number; text: string } {
  if (!controls.isOn) return { status: 409, text: 'The run is over' };
  switch (action) {
    case 'stop':
      controls.stop();
      return { status: 200, text: 'The run stops after this step, and saves its state' };
    case 'pause':
      controls.pause();
      return { status: 200, text: 'The run pauses after this step' };
    case 'resume':
      controls.resume();
      return { status: 200, text: 'The run resumes' };
    case 'save':
      controls.save();
      return { status: 200, text: 'A checkpoint is written after this step' };
    case 'evict': {
      const numEvicted = name === '' ? 0 : controls.evict(name);
      const shown = name.slice(0, 100);
      return numEvicted === 0
        ? { status: 404, text: `There is no worker "${shown}"` }
        : {
            status: 200,
            text: `${numEvicted === 1 ? 'The worker' : `${numEvicted} workers`} "${shown}" sent away`,
          };
    }
  }
}
