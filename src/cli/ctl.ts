/** `lockstep ctl`: controls a run in progress, like its page. */
import { stat } from 'node:fs/promises';
import { request as plainRequest } from 'node:http';
import { request as secureRequest } from 'node:https';
import { join } from 'node:path';
import { isInUse } from '../coordinator/run/run-lock.js';
import { ACTIONS, CONTROL_HEADER, type Action } from '../coordinator/page/control.js';
import { UsageError, UserError, messageOf } from '../shared/errors.js';
import { parseJoinLine, type JoinLine } from '../shared/join-line.js';
import { readInputText } from '../shared/node/input-file.js';
import { sendIfPinned } from '../shared/node/pin.js';
import { formatChoices, shorten } from '../shared/option.js';
import { printable } from '../shared/printable.js';
import { optionCommand } from './command.js';
import { readToken } from './token.js';

/** For the coordinator to answer, ms. */
const ANSWER_MS = 10_000;
/** Of a file with a join line. */
const MAX_LINE_BYTES = 10_000;
/** Of an answer; the rest is not read. */
const MAX_ANSWER_CHARS = 1_000;

export function ctlCommand() {
  return optionCommand(
    'ctl',
    'pause, resume, save or stop a run in progress, or evict one of its workers',
    'runs/first pause',
    async ({ values: { token, tokenFile } }, [where, action, ...names]) => {
      if (!isAction(action)) {
        throw new UsageError(
          `Cannot ask for "${shorten(action)}": expected ${formatChoices(ACTIONS)}`,
        );
      }
      const name = names.at(0) ?? null;
      if ((action === 'evict') !== (name !== null)) {
        throw new UsageError(
          action === 'evict' ? 'Cannot evict: name a worker' : `Cannot ${action} a worker`,
        );
      }
      const line = await lineOf(where);
      const given = readToken(token, tokenFile) ?? line.token;
      const { status, text } = await ask({ ...line, token: given }, action, name);
      if (status === 200) console.log(text);
      else throw new UserError(`Cannot ${action}: ${text}`);
    },
  )
    .argument('<run>', "the run's directory on this machine, or wss://HOST:7700#TOKEN.PIN")
    .argument('<action>', formatChoices(ACTIONS))
    .argument('[worker]', 'worker to evict, by name or id');
}

function isAction(text: string): text is Action {
  return ACTIONS.some((action) => action === text);
}

/** What the run's directory says of where it is served; or the line itself. */
async function lineOf(where: string): Promise<JoinLine> {
  const isFolder = await stat(where).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isFolder) {
    if (/^wss?:/i.test(where)) return parseJoinLine(where);
    throw new UsageError(
      `Cannot find the run ${shorten(where.split('#')[0])}: there is no such directory; expected a run's directory or wss://HOST:7700#TOKEN.PIN`,
    );
  }
  let line: JoinLine;
  try {
    line = parseJoinLine(await readInputText(join(where, 'join'), MAX_LINE_BYTES));
  } catch (error) {
    throw new UserError(`Cannot find where ${where} is served: ${messageOf(error)}`, {
      cause: error,
    });
  }
  // Where it was served another run may be served now.
  if (await isInUse(where)) return line;
  throw new UserError(`Cannot control ${where}: no coordinator is at work in it`);
}

function ask(
  { url, token, pin }: JoinLine,
  action: Action,
  name: string | null,
): Promise<{ status: number; text: string }> {
  const target = new URL(url.replace(/^ws/i, 'http'));
  target.pathname = `/api/control/${action}`;
  if (name !== null) target.searchParams.set('name', name);
  const isSecure = target.protocol === 'https:';
  const options = {
    method: 'POST',
    agent: false,
    signal: AbortSignal.timeout(ANSWER_MS),
    headers: {
      [CONTROL_HEADER]: '1',
      'content-length': '0',
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    },
  } as const;
  return new Promise((resolve, reject) => {
    const request = isSecure
      ? secureRequest(target, { ...options, rejectUnauthorized: pin === null })
      : plainRequest(target, options);
    request.once('error', (error) => {
      if (error instanceof UserError) reject(error);
      else {
        const why = error.name === 'AbortError' ? 'it does not answer' : error.message;
        reject(new UserError(`Cannot reach the run at ${url}: ${why}`, { cause: error }));
      }
    });
    request.once('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text = (text + chunk).slice(0, MAX_ANSWER_CHARS);
      });
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, text: printable(text.trim()) }),
      );
      response.once('error', reject);
    });
    if (isSecure && pin !== null) sendIfPinned(pin)(request);
    else request.end();
  });
}
