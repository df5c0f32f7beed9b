import { describe, expect, it } from 'vitest';
import { formatJoinLine, parseJoinLine } from '../../src/shared/join-line.js';

const PIN = 'U-xVMDrCeSoTa1TH15Hz6qlKbvaQ4QPUJQJ3N_c_I1A';

describe('a join line', () => {
  it.each([
    ['ws://10.0.0.5:7700', { url: 'ws://10.0.0.5:7700', token: null, pin: null }],
    ['ws://10.0.0.5:7700#secret', { url: 'ws://10.0.0.5:7700', token: 'secret', pin: null }],
    [`wss://[::1]:7700#secret.${PIN}`, { url: 'wss://[::1]:7700', token: 'secret', pin: PIN }],
    [`wss://host:7700#.${PIN}`, { url: 'wss://host:7700', token: null, pin: PIN }],
    [
      `wss://host:1#a%2Eb%23c%25%20%C3%A9.${PIN}`,
      { url: 'wss://host:1', token: 'a.b#c% é', pin: PIN },
    ],
    ['wss://host/path', { url: 'wss://host/path', token: null, pin: null }],
  ])('%s has its parts, and comes from them', (line, parts) => {
    expect(parseJoinLine(line)).toEqual(parts);
    expect(formatJoinLine(parts)).toBe(line);
  });

  it('is taken with the end of its line', () => {
    expect(parseJoinLine(`wss://host:1#secret.${PIN}\r\n`).pin).toBe(PIN);
  });

  it.each([
    ['10.0.0.5:7700#hidden', 'expected a coordinator'],
    ['http://host#hidden', 'expected a coordinator'],
    ['wss://host#hidden.cut-off', 'paste the whole line'],
    ['wss://host#hidden.', 'paste the whole line'],
    [`wss://host#hidden.${PIN}.hidden`, 'paste the whole line'],
    [`ws://host#hidden.${PIN}`, 'a pin requires wss://'],
    ['ws://host#hidden%', 'write %25'],
  ])('%s is refused, and nothing secret is repeated', (line, message) => {
    let said = '';
    try {
      parseJoinLine(line);
    } catch (error) {
      said = (error as Error).message;
    }
    expect(said).toContain(message);
    expect(said).not.toContain('hidden');
  });
});
