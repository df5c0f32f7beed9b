/** A real sshd on the loopback address, with keys of its own, gone with the test. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { onTestFinished, vi } from 'vitest';
import { freePort, isFree } from './lockstep.js';
import { temporaryDirectory } from './temporary-directory.js';

const SSHD = '/usr/sbin/sshd';

/** Why there is none on this machine; null if there is. */
export function whyNoSshd(): string | null {
  if (process.platform !== 'linux') return 'processes are looked at in /proc';
  if (process.getuid?.() !== 0) return 'sshd is started as root';
  if (!existsSync(SSHD)) return `there is no ${SSHD}, of Debian's package openssh-server`;
  return null;
}

/** @returns the command line of an ssh that reaches it as 127.0.0.1 and as localhost */
export async function startSshd(): Promise<string> {
  const dir = await temporaryDirectory();
  const port = await freePort();
  const file = (name: string) => join(dir, name);
  for (const key of ['host', 'user']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file(key)]);
  }
  const hostKey = (await readFile(file('host.pub'), 'utf8')).trim();
  const known = ['127.0.0.1', 'localhost'].map((name) => `[${name}]:${port} ${hostKey}\n`);
  await writeFile(file('known_hosts'), known.join(''));
  await writeFile(
    file('sshd_config'),
    [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${file('host')}`,
      `AuthorizedKeysFile ${file('user.pub')}`,
      'PidFile none',
      'StrictModes no',
      'UsePAM no',
      'PermitRootLogin yes',
      'MaxStartups 100',
    ].join('\n'),
  );
  // Where Debian's sshd separates its privileges; a service manager makes it.
  mkdirSync('/run/sshd', { recursive: true });
  const sshd = spawn(SSHD, ['-D', '-e', '-f', file('sshd_config')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  sshd.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const ended = new Promise<void>((resolve) => sshd.once('close', () => resolve()));
  onTestFinished(async () => {
    sshd.kill('SIGTERM');
    await ended;
  });
  await vi
    .waitUntil(async () => !(await isFree(port)), { timeout: 20_000 })
    .catch(() => {
      throw new Error(`sshd does not listen: ${log}`);
    });
  return [
    ...['ssh', '-F', 'none', '-p', String(port), '-i', file('user')],
    ...['-o', `UserKnownHostsFile=${file('known_hosts')}`, '-o', 'StrictHostKeyChecking=yes'],
    ...['-o', 'IdentitiesOnly=yes', '-o', 'AddressFamily=inet', '-o', 'LogLevel=ERROR'],
  ].join(' ');
}
