/**
 * Checks the dashboard, the alert rules and the documentation against the metrics that exist.
 */
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { createPrometheus } from '../../../src/coordinator/observers/prometheus.js';

const docs = (name: string) => fileURLToPath(new URL(`../../../docs/${name}`, import.meta.url));

/** Names of series, including those that histograms add. */
const series = new Set<string>();
/** Names of our own metrics. */
const families = new Set<string>();
beforeAll(async () => {
  const text = await createPrometheus().metrics();
  for (const [, name, type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    series.add(name);
    if (!/^lockstep_(process|nodejs)_/.test(name)) families.add(name);
    if (type !== 'histogram') continue;
    for (const suffix of ['bucket', 'sum', 'count']) series.add(`${name}_${suffix}`);
  }
});

const namesIn = (text: string) => new Set(text.match(/\blockstep_\w+/g));

describe('docs/grafana-dashboard.json', () => {
  it('shows only metrics that exist', async () => {
    const dashboard = JSON.parse(await readFile(docs('grafana-dashboard.json'), 'utf8')) as {
      panels: { id: number; title: string; targets: { expr: string }[] }[];
    };
    expect(dashboard.panels.length).toBeGreaterThan(10);
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
    for (const { title, targets } of dashboard.panels) {
      for (const { expr } of targets) {
        for (const name of namesIn(expr)) expect(series, title).toContain(name);
      }
    }
  });
});

describe('docs/prometheus-alerts.yml', () => {
  it('alerts only on metrics that exist', async () => {
    const rules = await readFile(docs('prometheus-alerts.yml'), 'utf8');
    expect(namesIn(rules).size).toBeGreaterThan(5);
    for (const name of namesIn(rules)) expect(series).toContain(name);
  });

  const promtool = spawnSync('promtool', ['--version']);
  it.skipIf(promtool.error !== undefined)('passes `promtool check rules`', () => {
    const rules = docs('prometheus-alerts.yml');
    const { stdout, status } = spawnSync('promtool', ['check', 'rules', rules], {
      encoding: 'utf8',
    });
    expect(status, stdout).toBe(0);
  });
});

describe('docs/monitoring.md', () => {
  it('lists every metric', async () => {
    const text = await readFile(docs('monitoring.md'), 'utf8');
    const listed = new Set(Array.from(text.matchAll(/^\| `(lockstep_\w+)`/gm), ([, name]) => name));
    expect([...listed].sort()).toEqual([...families].sort());
  });
});
