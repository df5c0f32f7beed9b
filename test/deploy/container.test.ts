/** deploy/container and deploy/compose, as far as they can be checked without building an image. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const file = (name: string) => readFile(join(ROOT, name), 'utf8');
const COMPOSE = 'deploy/compose/compose.yaml';

interface Service {
  readonly image: string;
  readonly command?: string[];
  readonly volumes?: string[];
  readonly environment?: Record<string, string>;
  readonly secrets?: string[];
  readonly read_only?: boolean;
  readonly cap_drop: string[];
  readonly build?: { readonly context: string; readonly dockerfile: string };
}

/** The instructions of each stage, by its name. */
async function stages(): Promise<Map<string, string[]>> {
  const text = (await file('deploy/container/Dockerfile'))
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n\s*/g, '');
  const found = new Map<string, string[]>();
  let current: string[] = [];
  for (const line of text.split('\n').filter((line) => line !== '')) {
    const stage = /^FROM \S+ AS (\S+)$/.exec(line)?.[1];
    if (stage !== undefined) found.set(stage, (current = []));
    else current.push(line);
  }
  return found;
}

describe('Dockerfile', () => {
  test('copies what there is, and what .dockerignore lets through', async () => {
    const allowed = (await file('.dockerignore'))
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    for (const instructions of (await stages()).values()) {
      for (const line of instructions) {
        const copy = /^COPY (?!--from)(.+) \S+$/.exec(line);
        for (const source of copy?.[1].split(' ') ?? []) {
          expect(existsSync(join(ROOT, source)), source).toBe(true);
          expect(allowed).toContain(source);
        }
      }
    }
  });

  test('leaves no secret, no source and no tool in what runs, and runs it as nobody in particular', async () => {
    for (const name of ['lockstep', 'gpu']) {
      const instructions = (await stages()).get(name)!;
      const text = instructions.join('\n');
      expect(text).toContain('USER 10001:10001');
      expect(text).toContain('HEALTHCHECK');
      expect(text).toContain('ENTRYPOINT ["node", "/app/dist/cli/main.js"]');
      expect(text).not.toMatch(/npm|COPY src|TOKEN|ADD /);
    }
    expect([...(await stages()).keys()].at(-1), 'what is built without --target').toBe('lockstep');
  });
});

describe('compose.yaml', () => {
  test('mounts files that there are', async () => {
    const { services, volumes } = parse(await file(COMPOSE), { merge: true }) as {
      services: Record<string, Service>;
      volumes: Record<string, unknown>;
    };
    expect(Object.keys(services).sort()).toEqual([
      'coordinator',
      'grafana',
      'prometheus',
      'worker',
    ]);
    const folder = dirname(join(ROOT, COMPOSE));
    for (const service of Object.values(services)) {
      expect(service.cap_drop).toEqual(['ALL']);
      for (const volume of service.volumes ?? []) {
        const [source] = volume.split(':');
        if (source.startsWith('.')) expect(existsSync(join(folder, source)), source).toBe(true);
        else expect(volumes).toHaveProperty(source);
      }
    }
    const { build } = services.coordinator;
    expect(existsSync(join(folder, build!.context, build!.dockerfile))).toBe(true);
  });

  test.each(['coordinator', 'worker'])(
    'has a command line of %s that lockstep takes',
    async (name) => {
      const { services } = parse(await file(COMPOSE), { merge: true }) as {
        services: Record<string, Service>;
      };
      expect(services[name]).toMatchObject({ image: 'lockstep', read_only: true });
      const main = join(ROOT, 'dist/cli/main.js');
      const args = [main, ...services[name].command!, '--print-config'];
      expect(execFileSync(process.execPath, args, { encoding: 'utf8' })).toMatch(/quiet/i);
    },
  );

  test('Prometheus reads the alerts where they are mounted, and scrapes the coordinator', async () => {
    const { services } = parse(await file(COMPOSE), { merge: true }) as {
      services: Record<string, Service>;
    };
    const { rule_files, scrape_configs } = parse(await file('deploy/compose/prometheus.yml')) as {
      rule_files: string[];
      scrape_configs: {
        authorization: { credentials_file: string };
        static_configs: { targets: string[] }[];
      }[];
    };
    const mounted = services.prometheus.volumes!.map((volume) => volume.split(':')[1]);
    for (const path of rule_files) expect(mounted).toContain(path);
    expect(scrape_configs[0].static_configs[0].targets).toEqual(['coordinator:7700']);
    // Both are given the looking token, at one path.
    const path = scrape_configs[0].authorization.credentials_file;
    expect(services.coordinator.environment).toEqual({ LOCKSTEP_LOOK_TOKEN_FILE: path });
    for (const { secrets } of [services.coordinator, services.prometheus]) {
      expect(secrets?.map((name) => `/run/secrets/${name}`)).toContain(path);
    }
    // Where the root is read-only, Compose can give a service no secret from the environment.
    const { secrets } = parse(await file(COMPOSE)) as { secrets: Record<string, object> };
    for (const secret of Object.values(secrets)) expect(Object.keys(secret)).toEqual(['file']);
  });
});
