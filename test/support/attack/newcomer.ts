/**
 * A process whose workers come newly to a run, one after the other, as they are asked for: in the process of the attackers
 * they would wait for those. Each goes as soon as it is given work, and what is answered is how long that took, ms.
 */
import type { Frame } from '../../../src/shared/channel.js';
import { decodeCoordinatorMessage } from '../../../src/shared/codec.js';
import { startInsider } from './insider.js';
import { HONEST_ADDRESS, type Door } from './target.js';

/** For a new worker to be given work, at most, ms. */
const PATIENCE_MS = 20_000;

process.on('message', (door: Door) => void admit(door).then((ms) => process.send!(ms)));
process.on('disconnect', () => process.exit());

async function admit(door: Door): Promise<number> {
  const from = performance.now();
  const over = new AbortController();
  const late = setTimeout(() => over.abort(), PATIENCE_MS);
  let ms = PATIENCE_MS;
  const onFrame = (frame: Frame, sender: 'worker' | 'coordinator') => {
    if (sender === 'worker' || over.signal.aborted) return;
    const { type } = decodeCoordinatorMessage(frame);
    if (type !== 'samples' && type !== 'step') return;
    ms = performance.now() - from;
    over.abort();
  };
  await startInsider(door, { name: 'newcomer', address: HONEST_ADDRESS, onFrame }, over.signal);
  clearTimeout(late);
  return ms;
}
