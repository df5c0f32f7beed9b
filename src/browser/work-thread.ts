/** One core of the page /work: a dedicated thread that is one worker of the run. It is driven by messages, not timers. */
import { joinRun } from '../library/browser.js';
import { messageOf } from '../shared/errors.js';
import { openKeepsake } from './sample-store.js';
import type { FromThread, ToThread } from './messages.js';

const stop = new AbortController();
let isHidden = false;

addEventListener('message', ({ data }: MessageEvent<ToThread>) => {
  switch (data.type) {
    case 'join':
      isHidden = data.isHidden;
      // Or the page would wait for it.
      join(data).catch((error: unknown) =>
        say({ type: 'ended', outcome: { outcome: 'unable', reason: messageOf(error) } }),
      );
      break;
    case 'visibility':
      isHidden = data.isHidden;
      break;
    case 'leave':
      stop.abort();
      break;
  }
});

async function join({
  identity,
  maxStoredBytes,
  ...options
}: Extract<ToThread, { type: 'join' }>): Promise<void> {
  const keepsake = await openKeepsake(
    identity,
    (known) => say({ type: 'identity', identity: known }),
    maxStoredBytes,
  );
  const outcome = await joinRun({
    ...options,
    keepsake,
    signal: stop.signal,
    isHidden: () => isHidden,
    onProgress: (progress, sentAt) => say({ type: 'progress', progress, sentAt }),
    log: (level, message) => {
      if (level !== 'debug') say({ type: 'said', level, message });
    },
  });
  say({ type: 'ended', outcome });
}

function say(message: FromThread): void {
  postMessage(message);
}
