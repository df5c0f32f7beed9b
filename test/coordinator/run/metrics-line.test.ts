import { describe, expect, it } from 'vitest';
import { eventOfLine, parseLine, textOfLine } from '../../../src/coordinator/run/metrics-line.js';
import * as events from '../../support/run-events.js';

describe('a line of metrics.jsonl', () => {
  it.each([
    events.step(3, { workers: [events.share('anna'), events.share('bert')] }),
    events.step(4, { loss: NaN }),
    events.evaluation(),
    events.evaluation({ set: 'validation', loss: NaN }),
  ])('is read back as the event that it was written for: %o', (event) => {
    const line = parseLine(textOfLine(event));
    expect(line).not.toBeNull();
    const again = eventOfLine(line!);
    expect(textOfLine(again)).toBe(textOfLine(event));
    for (const key of ['type', 'time', 'globalStep', 'epoch', 'loss', 'accuracy'] as const) {
      expect(again[key], key).toEqual(event[key]);
    }
  });

  it.each(['', '17', '{"type":"step"}', '{"type":"other","globalStep":1}'])(
    'cannot be %j',
    (text) => expect(parseLine(text)).toBeNull(),
  );
});
