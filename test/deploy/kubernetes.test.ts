/** deploy/kubernetes, as kustomize puts it together, against the schemas and the types of Kubernetes' API. */
import { execFileSync } from 'node:child_process';
import { cp, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { temporaryDirectory } from '../support/temporary-directory.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const require = createRequire(import.meta.url);

type Labels = Record<string, string>;
interface Selector {
  readonly matchLabels: Labels;
}
interface Peer {
  readonly podSelector: Selector;
}
interface Container {
  readonly args: string[];
  readonly securityContext: object;
}
interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec?: {
    readonly selector?: Selector;
    readonly podSelector?: Selector;
    readonly ingress?: { readonly from: Peer[] }[];
    readonly egress?: { readonly to: Peer[] }[];
    readonly scaleTargetRef?: { readonly kind: string; readonly name: string };
    readonly template?: {
      readonly metadata: { readonly labels: Labels };
      readonly spec: { readonly securityContext: object; readonly containers: Container[] };
    };
  };
}

let kubectl = true;
try {
  execFileSync('kubectl', ['version', '--client'], { stdio: 'ignore' });
} catch {
  kubectl = false;
}
beforeAll(() => {
  if (!kubectl) console.warn('deploy/kubernetes is not tested: there is no kubectl');
});

/** What `kubectl apply -k` would send. */
async function render(overlay: string): Promise<Manifest[]> {
  const dir = await temporaryDirectory();
  await cp(join(ROOT, 'deploy/kubernetes'), dir, { recursive: true });
  await writeFile(join(dir, 'base/secret.env'), 'LOCKSTEP_TOKEN=secret\n');
  for (const file of ['tls.crt', 'tls.key']) await writeFile(join(dir, 'base', file), `${file}\n`);
  const text = execFileSync('kubectl', ['kustomize', join(dir, overlay)], { encoding: 'utf8' });
  return parseAllDocuments(text).map((document) => document.toJS() as Manifest);
}

/** The module of kubernetes-models that has a kind: `apps/v1`, `v1`. */
const moduleOf = ({ apiVersion }: Manifest) => `kubernetes-models/${apiVersion}`;

/** What the compiler says of the manifests as literals of their types: it knows no field that the API does not have. */
function typeErrors(manifests: readonly Manifest[]): string[] {
  const source = manifests
    .map((manifest, i) => {
      const type = `import('${moduleOf(manifest)}').I${manifest.kind}`;
      return `export const manifest${i}: ${type} = ${JSON.stringify(manifest)};`;
    })
    .join('\n');
  const name = join(ROOT, 'test/deploy/manifests-of-this-test.ts');
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    target: ts.ScriptTarget.ES2022,
  };
  const host = ts.createCompilerHost(options);
  const plain = { ...host };
  host.fileExists = (path) => path === name || plain.fileExists(path);
  host.getSourceFile = (path, ...rest) =>
    path === name
      ? ts.createSourceFile(path, source, ts.ScriptTarget.ES2022)
      : plain.getSourceFile(path, ...rest);
  return ts
    .getPreEmitDiagnostics(ts.createProgram([name], options, host))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '));
}

describe.skipIf(!kubectl).each(['cpu', 'nvidia'])('the overlay %s', (overlay) => {
  test('holds to the schemas of the API, and has no field that it does not know', async () => {
    const manifests = await render(overlay);
    expect(manifests.length).toBeGreaterThan(8);
    for (const manifest of manifests) {
      const module = require(moduleOf(manifest)) as Record<
        string,
        new (manifest: Manifest) => { validate(): void }
      >;
      expect(() => new module[manifest.kind](manifest).validate()).not.toThrow();
    }
    expect(typeErrors(manifests)).toEqual([]);
  });

  test('selects its own pods, by all of their names, and nobody else', async () => {
    const manifests = await render(overlay);
    const pods = manifests.flatMap(({ spec }) =>
      spec?.template ? [spec.template.metadata.labels] : [],
    );
    expect(pods).toHaveLength(2);
    const isOfOurs = ({ matchLabels }: Selector) =>
      pods.some((labels) =>
        Object.entries(matchLabels).every(([key, value]) => labels[key] === value),
      );
    const peers: Selector[] = [];
    for (const { kind, spec } of manifests) {
      const { selector, podSelector, ingress = [], egress = [], scaleTargetRef } = spec ?? {};
      const own = kind === 'Service' ? { matchLabels: selector as unknown as Labels } : selector;
      for (const one of [own, podSelector]) if (one) expect(one).toSatisfy(isOfOurs);
      peers.push(...ingress.flatMap(({ from }) => from.map((peer) => peer.podSelector)));
      peers.push(...egress.flatMap(({ to }) => to.map((peer) => peer.podSelector)));
      if (scaleTargetRef) {
        const { kind: target, name } = scaleTargetRef;
        expect(manifests.find((m) => m.kind === target && m.metadata.name === name)).toBeDefined();
      }
    }
    expect(peers.filter((peer) => !isOfOurs(peer)).map(({ matchLabels }) => matchLabels)).toEqual([
      { 'lockstep-viewer': 'true' },
      { 'k8s-app': 'kube-dns' },
    ]);
  });

  test('runs nothing as root, and nothing that could be written to', async () => {
    for (const { spec } of await render(overlay)) {
      if (!spec?.template) continue;
      const { securityContext, containers } = spec.template.spec;
      expect(securityContext).toMatchObject({
        runAsNonRoot: true,
        seccompProfile: { type: 'RuntimeDefault' },
      });
      for (const container of containers) {
        expect(container.securityContext).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
      }
    }
  });

  test('has command lines that lockstep takes', async () => {
    for (const { spec } of await render(overlay)) {
      for (const { args } of spec?.template?.spec.containers ?? []) {
        const main = join(ROOT, 'dist/cli/main.js');
        const printed = execFileSync(process.execPath, [main, ...args, '--print-config'], {
          encoding: 'utf8',
        });
        expect(printed).toMatch(/quiet/i);
      }
    }
  });
});

test('a field that the API does not have is found, wherever it stands', () => {
  const manifest = (spec: object) =>
    ({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'x' }, spec }) as Manifest;
  const container = { name: 'x', imagePullPolicies: 'Always' };
  const [error] = typeErrors([
    manifest({
      selector: { matchLabels: { app: 'x' } },
      template: { metadata: { labels: { app: 'x' } }, spec: { containers: [container] } },
    }),
  ]);
  expect(error).toMatch(/'"?imagePullPolicies"?' does not exist/);
});
