/** What more epochs mean for the learning rate of a run that is given them. */
import { createRunSchedule } from '../model/schedule.js';
import type { RunConfig } from '../shared/config.js';
import { formatNoun } from '../shared/format.js';
import type { Progress } from './progress.js';

/** @returns a sentence. @param config of the run as it is now */
export function describeExtension(
  { globalStep, epochs }: Progress['extensions'][number],
  config: RunConfig,
  stepsPerEpoch: number,
): string {
  const now = createRunSchedule(config, stepsPerEpoch);
  const before = createRunSchedule({ ...config, epochs }, stepsPerEpoch);
  const rate = (value: number) => String(Number(value.toPrecision(3)));
  return (
    `The run goes on to ${formatNoun(config.epochs, 'epoch')} instead of ${epochs}, and its schedule is ` +
    `that of all of them: the learning rate is ${rate(now(globalStep))}, ` +
    `it was ${rate(before(Math.max(0, globalStep - 1)))} before`
  );
}
