import { describe, expect, test } from 'vitest';
import { parseHostfile } from '../../src/cli/hostfile.js';

const parse = (text: string) => parseHostfile(text, 'hosts.txt');

describe('parseHostfile()', () => {
  test('has a worker for each host, or each of its GPUs', () => {
    expect(parse('anna\n# nobody\r\n  me@gpu1 gpus=2 engine=tensorflow # two\n\n')).toEqual([
      { host: 'anna', name: 'anna', device: null, engine: null, threads: null },
      { host: 'me@gpu1', name: 'gpu1-0', device: 0, engine: 'tensorflow', threads: 1 },
      { host: 'me@gpu1', name: 'gpu1-1', device: 1, engine: 'tensorflow', threads: 1 },
    ]);
  });

  test('has as many workers as a host is to have, on whichever GPU', () => {
    const places = parse('10.0.0.5 workers=2').map(({ name, device, threads }) => [
      name,
      device,
      threads,
    ]);
    expect(places).toEqual([
      ['10.0.0.5-0', null, 1],
      ['10.0.0.5-1', null, 1],
    ]);
    expect(parse('10.0.0.5 workers=2 threads=3')).toMatchObject([{ threads: 3 }, { threads: 3 }]);
  });

  test.each([
    ['-oProxyCommand=evil', '"-oProxyCommand=evil" is no host'],
    ['anna;reboot', '"anna;reboot" is no host'],
    ['$(reboot)', '"$(reboot)" is no host'],
    ['me@-x', '"me@-x" is no host'],
    ['anna gpus=0', 'gpus is "0"; expected a whole number from 1 to 64'],
    ['anna gpus=1e1', 'gpus is "1e1"'],
    ['anna workers=', 'workers is ""'],
    ['anna workers=65', 'workers is "65"'],
    ['anna slots=2', '"slots=2" is unknown; expected gpus=N, workers=N, threads=N or engine=NAME'],
    ['anna engine=cuda', 'no engine "cuda"; expected'],
    ['anna gpus=1 workers=2', 'gpus and workers exclude each other'],
  ])('refuses %j and names its line', (line, message) => {
    expect(() => parse(`bert\n${line}`)).toThrow(
      'Cannot launch on line 2 of hosts.txt: ' + message,
    );
  });

  test('refuses a file without hosts, and one with too many workers', () => {
    expect(() => parse('# nobody\n')).toThrow('Cannot launch: hosts.txt names no host');
    expect(() => parse('anna workers=64\n'.repeat(16))).toThrow('Cannot launch 1024 workers');
  });
});
