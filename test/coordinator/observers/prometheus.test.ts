import { spawnSync } from 'node:child_process';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import parsePrometheusTextFormat from 'parse-prometheus-text-format';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { RunEvent } from '../../../src/coordinator/events.js';
import {
  createPrometheus,
  type Prometheus,
} from '../../../src/coordinator/observers/prometheus.js';
import * as events from '../../support/run-events.js';

function prometheusAfter(stream: RunEvent[]): Prometheus {
  const prometheus = createPrometheus();
  for (const event of stream) prometheus.observe(event);
  return prometheus;
}

/** Values by name and labels, `lockstep_loss{set="test"}`, as a third-party parser reads them. */
async function valuesOf(prometheus: Prometheus): Promise<Record<string, number>> {
  const values: Record<string, number> = {};
  for (const { name, metrics } of parsePrometheusTextFormat(await prometheus.metrics())) {
    for (const { labels = {}, value, count, sum } of metrics) {
      const text = Object.entries(labels)
        .map(([key, label]) => `${key}="${label}"`)
        .join(',');
      const key = `${name}${text === '' ? '' : `{${text}}`}`;
      if (value !== undefined) values[key] = Number(value);
      if (count !== undefined) values[`${key} count`] = Number(count);
      if (sum !== undefined) values[`${key} sum`] = Number(sum);
    }
  }
  return values;
}

const start: RunEvent[] = [
  events.started(),
  events.joined('anna'),
  events.joined('bert', { engine: 'webgpu', device: 'H100', isExact: false, worldSize: 2 }),
];
const busy: RunEvent[] = [
  ...start,
  events.pinged('anna'),
  events.step(0),
  events.step(1, {
    workers: [events.share('anna', { numImages: 64 })],
    queuedBytes: new Map([['anna', 1_500]]),
  }),
  events.evaluation(),
  events.checkpoint(),
  events.notice('Disk full', 'warn'),
];

describe('createPrometheus()', () => {
  it('exports the state of the run', async () => {
    const values = await valuesOf(prometheusAfter(busy));
    expect(values).toMatchObject({
      'lockstep_run_info{run_id="run-1",run="first",dataset="mnist",optimizer="adam",seed="1"}': 1,
      lockstep_planned_steps: 11_256,
      lockstep_run_finished: 0,
      lockstep_global_step: 2,
      lockstep_epoch: expect.closeTo(2 / 938) as number,
      lockstep_steps_total: 2,
      lockstep_images_total: 128,
      'lockstep_loss{set="training"}': 0.5,
      'lockstep_loss{set="test"}': 0.0921,
      'lockstep_accuracy_ratio{set="training"}': 0.875,
      'lockstep_accuracy_ratio{set="test"}': 0.9731,
      lockstep_learning_rate: 0.006,
      lockstep_workers: 2,
      lockstep_worker_joins_total: 2,
      lockstep_checkpoint_size_bytes: 741_000,
      lockstep_last_checkpoint_global_step: 938,
      lockstep_last_checkpoint_timestamp_seconds: events.START / 1000 + 4.01,
      'lockstep_notices_total{level="warn"}': 1,
    });
  });

  it('has histograms of the steps and of their parts', async () => {
    const prometheus = prometheusAfter(busy);
    const values = await valuesOf(prometheus);
    expect(values['lockstep_step_seconds count']).toBe(2);
    expect(values['lockstep_step_seconds sum']).toBeCloseTo(0.008);
    expect(values['lockstep_checkpoint_seconds sum']).toBe(0.008);
    // The parser does not support labels on histograms.
    const text = await prometheus.metrics();
    const seconds = Array.from(
      text.matchAll(/^lockstep_step_part_seconds_sum\{part="(\w+)"\} (.+)$/gm),
      ([, part, sum]) => [part, Number(sum)] as const,
    );
    expect(seconds.map(([part]) => part)).toEqual([
      'plan',
      'broadcast',
      'compute',
      'wire',
      'reduce',
      'update',
      'wait',
    ]);
    expect(seconds.reduce((sum, [, value]) => sum + value, 0)).toBeCloseTo(0.008);
    expect(text).toContain('lockstep_step_part_seconds_bucket{le="0.005",part="compute"} 2');
    expect(text).toContain('lockstep_evaluation_seconds_sum{set="test"} 0.31');
  });

  it('exports what each worker did', async () => {
    const values = await valuesOf(prometheusAfter(busy));
    const anna = '{worker="anna",name="anna"}';
    const bert = '{worker="bert",name="bert"}';
    expect(values).toMatchObject({
      'lockstep_worker_info{worker="bert",name="bert",host="box",engine="webgpu",device="H100",exact="false"}': 1,
      [`lockstep_worker_images_total${anna}`]: 96,
      [`lockstep_worker_images_total${bert}`]: 32,
      [`lockstep_worker_compute_seconds_total${anna}`]: 0.006,
      [`lockstep_worker_share_ratio${anna}`]: 1,
      [`lockstep_worker_queued_bytes${anna}`]: 1_500,
      [`lockstep_worker_ping_seconds${anna}`]: 0.0005,
      [`lockstep_worker_clock_offset_seconds${anna}`]: 0.0015,
    });
  });

  it('drops the series of a lost worker, even if the step still counts its work', async () => {
    const prometheus = prometheusAfter([...busy, events.lost('bert'), events.step(2)]);
    const text = await prometheus.metrics();
    expect(text).not.toContain('bert');
    expect(text).toContain('anna');
    expect(await valuesOf(prometheus)).toMatchObject({
      'lockstep_worker_losses_total{phase="computing"}': 1,
      lockstep_workers: 2,
    });
    prometheus.observe(events.joined('bert', { isReturn: true, host: 'other' }));
    expect(await prometheus.metrics()).toMatch(/lockstep_worker_info\{.*bert.*other.*\} 1/);
  });

  it('counts workers that said goodbye separately from lost ones', async () => {
    const prometheus = prometheusAfter([...busy, events.lost('bert', { isGraceful: true })]);
    expect(await valuesOf(prometheus)).toMatchObject({
      lockstep_worker_leaves_total: 1,
      'lockstep_worker_losses_total{phase="computing"}': 0,
    });
  });

  it('has every series of a counter from the start, so that increase() sees the first count', async () => {
    const before = await valuesOf(createPrometheus());
    const happened = [events.lost('anna'), events.lost('bert', { isGraceful: true })];
    const after = await valuesOf(prometheusAfter([...busy, ...happened]));
    const counters = Object.keys(after).filter((key) => /_total(\{|$)/.test(key));
    // A worker's series begin when it joins, at 0.
    const ofRun = counters.filter((key) => !key.includes('worker="'));
    expect(ofRun.length).toBeGreaterThan(8);
    for (const key of ofRun) expect(before, key).toHaveProperty([key]);
  });

  it('escapes the names of workers', async () => {
    const name = 'a"b\\c\nlockstep_forged 1';
    const prometheus = prometheusAfter([
      ...start,
      events.joined('carl', { workerId: 'carl', name }),
    ]);
    const families = parsePrometheusTextFormat(await prometheus.metrics());
    expect(families.map((family) => family.name)).not.toContain('lockstep_forged');
    const infos = families.find((family) => family.name === 'lockstep_worker_info')!.metrics;
    expect(infos.map(({ labels }) => labels!.name)).toContain(name);
  });

  it('prefixes and documents every metric', async () => {
    const families = parsePrometheusTextFormat(await prometheusAfter(busy).metrics());
    for (const { name, help } of families) {
      expect(name).toMatch(/^lockstep_/);
      expect(help).not.toBe('');
    }
  });

  const promtool = spawnSync('promtool', ['--version']);
  it.skipIf(promtool.error !== undefined)('passes `promtool check metrics`', async () => {
    const text = await prometheusAfter(busy).metrics();
    const { stderr, status } = spawnSync('promtool', ['check', 'metrics'], {
      input: text,
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });
});

describe('handle()', () => {
  async function serve(prometheus: Prometheus): Promise<string> {
    const server = createServer((request: IncomingMessage, response: ServerResponse) => {
      if (!prometheus.handle(request, response)) response.writeHead(404).end();
    });
    onTestFinished(() => void server.close());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  it('serves the metrics', async () => {
    const url = await serve(prometheusAfter(busy));
    const response = await fetch(`${url}/metrics?x=1`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(await response.text()).toContain('\nlockstep_workers 2\n');
  });

  it('does not handle other paths', async () => {
    const url = await serve(createPrometheus());
    expect((await fetch(`${url}/metricsx`)).status).toBe(404);
    expect((await fetch(`${url}/`)).status).toBe(404);
  });

  it('is healthy as long as it answers, and ready while it trains with workers', async () => {
    const prometheus = createPrometheus();
    const url = await serve(prometheus);
    const ask = async (path: string) => {
      const response = await fetch(`${url}${path}`);
      return `${response.status} ${(await response.text()).trim()}`;
    };
    expect(await ask('/readyz')).toBe('503 not ready');
    prometheus.observe(events.started());
    expect(await ask('/readyz')).toBe('503 not ready');
    prometheus.observe(events.joined('anna'));
    expect(await ask('/readyz')).toBe('200 ok');
    // A worker is there, but not as many as are wanted.
    prometheus.observe({ type: 'waiting', time: events.START, numActive: 1, minWorkers: 2 });
    expect(await ask('/readyz')).toBe('503 not ready');
    prometheus.observe(events.step(0));
    expect(await ask('/readyz')).toBe('200 ok');
    prometheus.observe(events.lost('anna', { worldSize: 0 }));
    expect(await ask('/readyz')).toBe('503 not ready');
    prometheus.observe(events.finished());
    expect(await ask('/readyz')).toBe('503 not ready');
    expect(await ask('/healthz')).toBe('200 ok');
  });

  it('answers HEAD without a body, and refuses other methods', async () => {
    const url = await serve(prometheusAfter(busy));
    const head = await fetch(`${url}/metrics`, { method: 'HEAD' });
    expect(head.status).toBe(200);
    expect(await head.text()).toBe('');
    const post = await fetch(`${url}/metrics`, { method: 'POST' });
    expect(post.status).toBe(405);
    expect(post.headers.get('allow')).toBe('GET, HEAD');
  });
});
