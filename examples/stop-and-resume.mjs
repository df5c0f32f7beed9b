// Stops a run after 20 steps and goes on: the weights are those of a run that nobody stopped.
//
//   node examples/stop-and-resume.mjs
import { loadDataset, train } from 'lockstep';

const all = await loadDataset('mnist');
const bytes = all.train.images.length / all.train.labels.length;
const first = ({ images, labels }, n) => ({
  images: images.slice(0, n * bytes),
  labels: labels.slice(0, n),
});
const dataset = { ...all, train: first(all.train, 2_000), test: first(all.test, 500) };
const options = { config: { epochs: 2 }, dataset };

const stop = new AbortController();
const stopped = await train({
  ...options,
  threads: 1,
  signal: stop.signal,
  onEvent(event) {
    if (event.type === 'step' && event.globalStep === 19) stop.abort();
  },
});
console.log(`${stopped.result.outcome} after ${stopped.result.globalStep} steps`);

const resumed = await train({ ...options, threads: 2, resumeFrom: stopped.last });
const whole = await train({ ...options, threads: 1 });
console.log(
  resumed.result.weightsSha256 === whole.result.weightsSha256 ? 'same bits' : 'other bits',
);
