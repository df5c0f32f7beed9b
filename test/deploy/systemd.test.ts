/** deploy/systemd against systemd's own checks. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const unit = (name: string) => join(ROOT, 'deploy/systemd', name);
const UNITS = ['lockstep-coordinator.service', 'lockstep-worker@.service'];
/** Of 100; what is left is the network, which is their work, and V8's compiler. */
const MOST_EXPOSURE = 20;

const { error, stdout } = spawnSync('systemd-analyze', ['--version'], { encoding: 'utf8' });
const version = error ? 0 : Number(/\d+/.exec(stdout)?.[0]);
// `security --offline` came with 250.
const reason = version < 250 ? 'there is no systemd-analyze of 250 or later' : null;
beforeAll(() => {
  if (reason !== null) console.warn(`The units are not analyzed: ${reason}`);
});

describe.each(UNITS)('%s', (name) => {
  test.skipIf(reason !== null)('passes `systemd-analyze verify` without a remark', () => {
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', unit(name)], {
      encoding: 'utf8',
    });
    // About units of the machine's own it may have something to say.
    expect(stderr.split('\n').filter((line) => line.includes('lockstep'))).toEqual([]);
    expect(status).toBe(0);
  });

  test.skipIf(reason !== null)('passes `systemd-analyze security`', () => {
    const args = ['security', '--no-pager', '--offline=true', `--threshold=${MOST_EXPOSURE}`];
    const { status, stdout } = spawnSync('systemd-analyze', [...args, unit(name)], {
      encoding: 'utf8',
    });
    expect(status, stdout).toBe(0);
  });

  test('starts a command line that lockstep takes', async () => {
    const text = await readFile(unit(name), 'utf8');
    const [, line] = /^ExecStart=\/usr\/bin\/node \/opt\/lockstep\/(.+)$/m.exec(text)!;
    const [main, ...args] = line
      .replace('${STATE_DIRECTORY}', '/var/lib/lockstep')
      .replace(
        '${LOCKSTEP_URL}',
        'wss://coordinator:7700#.U-xVMDrCeSoTa1TH15Hz6qlKbvaQ4QPUJQJ3N_c_I1A',
      )
      .replaceAll('%H-%i', 'host-0')
      .split(' ');
    const printed = execFileSync(process.execPath, [join(ROOT, main), ...args, '--print-config'], {
      encoding: 'utf8',
    });
    expect(printed).toMatch(/quiet/i);
  });

  test('takes a run that was stopped as asked for, and leaves KillMode as it is', async () => {
    const text = await readFile(unit(name), 'utf8');
    expect(text).toMatch(/^SuccessExitStatus=143 130$/m);
    expect(text).not.toMatch(/KillMode/);
  });
});
