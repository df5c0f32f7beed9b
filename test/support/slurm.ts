/** A real Slurm on this machine, of one node: munged, slurmctld and slurmd, in a folder of their own. Linux, as root. */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { vi } from 'vitest';
import { freePort } from './lockstep.js';

const START_WITHIN_MS = 30_000;

/** Why there can be none on this machine; null if there can. */
export function whyNoSlurm(): string | null {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    return 'Slurm needs Linux, and root';
  }
  try {
    for (const program of ['munged', 'slurmctld', 'slurmd', 'sbatch']) {
      execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    }
    return null;
  } catch {
    return "there is none of Debian's packages slurmctld, slurmd, slurm-client and munge";
  }
}

export interface Slurm {
  /** The output of a command of Slurm's. */
  readonly run: (
    command: readonly string[],
    environment?: Readonly<Record<string, string>>,
  ) => Promise<string>;
  /** What `scontrol show job` says under a key; null where it knows no such job. */
  readonly jobField: (jobId: string, key: string) => Promise<string | null>;
  /** Ends all jobs, then the daemons. */
  readonly stop: () => Promise<void>;
}

export async function startSlurm(): Promise<Slurm> {
  const dir = await mkdtemp(join(tmpdir(), 'lockstep-slurm-'));
  const file = (name: string) => join(dir, name);
  const node = hostname().split('.')[0];
  for (const folder of ['state', 'spool']) await mkdir(file(folder));
  await writeFile(file('munge.key'), randomBytes(1024), { mode: 0o400 });
  await writeFile(
    file('slurm.conf'),
    [
      'ClusterName=lockstep',
      `SlurmctldHost=${node}(127.0.0.1)`,
      ...['SlurmUser=root', 'SlurmdUser=root'],
      ...[`SlurmctldPort=${await freePort()}`, `SlurmdPort=${await freePort()}`],
      // A job that is queued again waits until the credentials of its last start have expired, s.
      `AuthInfo=socket=${file('munge.socket')},cred_expire=5`,
      ...[`StateSaveLocation=${file('state')}`, `SlurmdSpoolDir=${file('spool')}`],
      ...[`SlurmctldPidFile=${file('slurmctld.pid')}`, `SlurmdPidFile=${file('slurmd.pid')}`],
      ...['ProctrackType=proctrack/linuxproc', 'TaskPlugin=task/none', 'SwitchType=switch/none'],
      ...['SelectType=select/cons_tres', 'SelectTypeParameters=CR_CPU', 'MpiDefault=none'],
      ...['SlurmdParameters=config_overrides', 'ReturnToService=2', 'KillWait=10'],
      `NodeName=${node} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN`,
      `PartitionName=all Nodes=${node} Default=YES State=UP`,
      '',
    ].join('\n'),
  );

  const SLURM_CONF = file('slurm.conf');
  const daemons: ChildProcess[] = [];
  let log = '';
  const startDaemon = (program: string, ...args: string[]) => {
    const daemon = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, SLURM_CONF },
    });
    for (const stream of [daemon.stdout, daemon.stderr]) {
      stream.on('data', (chunk: Buffer) => (log += chunk.toString()));
    }
    daemons.push(daemon);
  };
  const run: Slurm['run'] = async ([program, ...args], environment = {}) => {
    const env = { ...process.env, ...environment, SLURM_CONF };
    return (await promisify(execFile)(program, args, { env, timeout: 30_000 })).stdout.trim();
  };
  const stop = async () => {
    await run(['scancel', '--user=root', '--full']).catch(() => undefined);
    await vi
      .waitUntil(async () => (await run(['squeue', '--noheader']).catch(() => '')) === '', {
        timeout: START_WITHIN_MS,
        interval: 200,
      })
      .catch(() => undefined);
    for (const daemon of daemons.reverse()) {
      const ended = new Promise((resolve) => daemon.once('close', resolve));
      if (daemon.exitCode !== null || daemon.signalCode !== null) continue;
      daemon.kill('SIGTERM');
      await ended;
    }
    await rm(dir, { recursive: true, force: true });
  };

  startDaemon(
    'munged',
    ...['--foreground', '--force', `--socket=${file('munge.socket')}`],
    ...['key-file', 'log-file', 'pid-file', 'seed-file'].map(
      (kind) => `--${kind}=${file(`munge.${kind.split('-')[0]}`)}`,
    ),
  );
  const isReady = (check: () => Promise<boolean>) =>
    vi.waitUntil(() => check().catch(() => false), { timeout: START_WITHIN_MS, interval: 100 });
  try {
    await isReady(async () => (await readFile(file('munge.pid'))).length > 0);
    startDaemon('slurmctld', '-D');
    startDaemon('slurmd', '-D', '-N', node);
    await isReady(async () => (await run(['sinfo', '--noheader', '--format=%T'])) === 'idle');
  } catch {
    await stop();
    throw new Error(`Slurm does not start:\n${log}`);
  }
  return {
    run,
    jobField: async (jobId, key) => {
      const job = await run(['scontrol', 'show', 'job', jobId]).catch(() => '');
      return new RegExp(`\\b${key}=(\\S+)`).exec(job)?.[1] ?? null;
    },
    stop,
  };
}
