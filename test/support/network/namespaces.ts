/** Two network namespaces with a link between them that has a delay or a rate, loses packets, or can be cut. Linux, as root. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

const SLOW_LINK = fileURLToPath(new URL('slow-link.py', import.meta.url));

export interface Network {
  /** Command lines that run a program in the one namespace and in the other. */
  readonly near: readonly string[];
  readonly far: readonly string[];
  /** Takes the cable out, with no word to either side, or puts it back. */
  readonly setCut: (isCut: boolean) => void;
}

/** Why there can be no such network on this machine; null if there can. */
export function whyNoNetwork(): string | null {
  if (process.platform !== 'linux') return 'network namespaces are a thing of Linux';
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  if (!existsSync('/dev/net/tun')) return 'there is no /dev/net/tun';
  const name = `lockstep-${process.pid}-try`;
  try {
    run('python3', ['-c', 'import selectors']);
    run('ip', ['netns', 'add', name]);
    run('ip', ['netns', 'delete', name]);
    return null;
  } catch (error) {
    return (error as Error).message.split('\n')[0];
  }
}

export interface Link {
  readonly delayMs?: number;
  /** Share of packets that vanish. */
  readonly loss?: number;
  readonly bytesPerSecond?: number;
}

/** A network that is gone with the test. */
export async function createNetwork(link: Link): Promise<Network> {
  const { delayMs = 0, loss = 0, bytesPerSecond = Infinity } = link;
  const [near, far] = ['near', 'far'].map((end) => `lockstep-${process.pid}-${end}`);
  onTestFinished(() => {
    for (const name of [near, far]) run('ip', ['netns', 'delete', name]);
  });
  for (const name of [near, far]) run('ip', ['netns', 'add', name]);
  const carrier = spawn(
    'python3',
    [SLOW_LINK, near, far, ...[delayMs, loss, bytesPerSecond, 1].map(String)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const ended = new Promise<void>((resolve) => carrier.once('close', () => resolve()));
  onTestFinished(async () => {
    carrier.kill('SIGKILL');
    await ended;
  });
  await new Promise<void>((resolve, reject) => {
    carrier.stdout.once('data', () => resolve());
    void ended.then(() => reject(new Error('The link ended before it was ready')));
  });
  return {
    near: ['ip', 'netns', 'exec', near],
    far: ['ip', 'netns', 'exec', far],
    setCut: (isCut) => run('ip', ['-n', far, 'link', 'set', 'cable', isCut ? 'down' : 'up']),
  };
}

/** @throws {Error} if it fails */
function run(program: string, args: readonly string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
