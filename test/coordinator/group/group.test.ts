import { describe, expect, it } from 'vitest';
import { MAX_ABSENT, MAX_ADDRESSES } from '../../../src/coordinator/group/membership.js';
import { AddressBook } from '../../../src/coordinator/group/address-book.js';
import { Identity } from '../../../src/coordinator/group/identity.js';
import { MORE_PROVING } from '../../../src/coordinator/group/reception.js';
import { CLOSE_CODES } from '../../../src/shared/errors.js';
import { createRandom } from '../../../src/shared/random.js';
import { startRun, type FakeWorker, type Harness } from '../../support/coordinator-harness.js';

const refusalOf = (worker: FakeWorker) => worker.channel.sentOf('refused').at(0);

async function comeWith(
  { connect, settle }: Harness,
  hello: Parameters<FakeWorker['hello']>[0],
  address?: string,
): Promise<FakeWorker> {
  const worker = connect(address);
  worker.hello(hello);
  if (worker.closeCode === null) worker.ready();
  await settle();
  return worker;
}

describe('an id', () => {
  it('belongs only to the worker that has its secret', async () => {
    const harness = await startRun();
    const anna = await harness.join();
    const { workerId } = anna;
    for (const secret of [null, 'ab'.repeat(32)]) {
      const thief = await comeWith(harness, { workerId, secret });
      expect(thief.workerId).not.toBe(workerId);
      thief.say(anna.partialOf([0, 1]));
      expect(thief.closeCode).toBe(4422);
    }
    expect(anna.closeCode).toBeNull();
    const { secret } = anna.channel.sentOf('welcome')[0];
    const again = await comeWith(harness, { workerId, secret });
    expect(again.workerId).toBe(workerId);
    expect(anna.closeCode).toBe(4409);
  });

  it('stays with its owner after a restart of the coordinator with the same key', async () => {
    const { workerId, channel } = await (await startRun()).join();
    const { secret } = channel.sentOf('welcome')[0];
    const restarted = await startRun();
    expect((await comeWith(restarted, { workerId, secret })).workerId).toBe(workerId);
    const elsewhere = await startRun({
      workerKey: Buffer.alloc(32, 'another'),
      random: createRandom(2, 'elsewhere'),
    });
    expect((await comeWith(elsewhere, { workerId, secret })).workerId).not.toBe(workerId);
  });

  it('has no record of its own until it has taken part, but that of its address', async () => {
    const harness = await startRun();
    const hoarder = harness.connect();
    hoarder.hello();
    const { workerId } = hoarder;
    hoarder.channel.break();
    const codeOf = async () => (await comeWith(harness, { workerId })).closeCode;
    expect(await codeOf()).toBeNull();

    const another = harness.connect();
    another.hello();
    const { workerId: hoarded } = another;
    another.channel.break();
    for (let i = 0; i < 4; i++) await comeWith(harness, { token: `guess ${i}` });
    expect((await comeWith(harness, { workerId: hoarded })).closeCode).toBe(4429);
    expect(await codeOf()).toBeNull();
  });

  it('never has its secret disclosed in events or checkpoints', async () => {
    const harness = await startRun({ checkpointEverySteps: 1 });
    const anna = await harness.join();
    await anna.answer(anna.rangesOf(0));
    const { secret } = anna.channel.sentOf('welcome')[0];
    expect(harness.saved).not.toEqual([]);
    expect(JSON.stringify([harness.events, harness.saved])).not.toContain(secret);
  });
});

describe('Identity', () => {
  it('accepts only the secret of the id', () => {
    const identity = new Identity(Buffer.alloc(32, 'key'));
    const secret = identity.secretOf('w1');
    expect(secret).toMatch(/^[0-9a-f]{64}$/);
    expect(identity.isOwner('w1', secret)).toBe(true);
    expect(identity.isOwner('w2', secret)).toBe(false);
    for (const wrong of [
      '',
      secret.slice(1),
      `${secret}0`,
      secret.replace(/./, (c) => (c === '0' ? '1' : '0')),
    ]) {
      expect(identity.isOwner('w1', wrong)).toBe(false);
    }
  });
});

describe('an address', () => {
  it('that guesses tokens has to wait, even with the right one; its known workers and other addresses do not', async () => {
    const harness = await startRun();
    const anna = await harness.join();
    const { workerId } = anna;
    const guesses = [];
    for (let i = 0; i < 1000; i++) guesses.push(await comeWith(harness, { token: `guess ${i}` }));
    const numTried = guesses.filter(({ closeCode }) => closeCode === 4401).length;
    expect(numTried).toBe(4);

    const right = await comeWith(harness, {});
    expect(right.closeCode).toBe(4429);
    expect(refusalOf(right)).toMatchObject({ retryAfterMs: 1000 });
    expect(refusalOf(right)?.reason).toMatch(/this address; .* 1\.0 s/);
    anna.channel.break();
    expect((await comeWith(harness, { workerId })).closeCode).toBeNull();
    expect((await comeWith(harness, {}, '192.0.2.9')).closeCode).toBeNull();
    await harness.time.advance(1000);
    expect((await comeWith(harness, {})).closeCode).toBeNull();
  });

  it('with one worker shut out gets another on probation; with two, it has to wait', async () => {
    const draws = [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
    const auditRandom = { ...createRandom(1, 'x'), float: () => draws.shift() ?? 1 };
    // Only the first answer of the run is audited at random.
    const harness = await startRun({ audit: 0.5, auditRandom });
    const lie = async (worker: FakeWorker) => {
      const [[lo]] = worker.rangesOf(0);
      const truth = worker.partialOf([lo, lo + 1]);
      worker.say({ ...truth, gradient: truth.gradient.map((byte) => byte ^ 1) });
      await harness.time.advance(1);
    };
    const codes = [];
    for (let i = 0; i < 3; i++) {
      const liar = await harness.join();
      if (liar.closeCode === null) await lie(liar);
      codes.push(liar.closeCode);
      if (i === 2) expect(refusalOf(liar)).toMatchObject({ retryAfterMs: 59_999 });
    }
    expect(codes).toEqual([4460, 4460, 4429]);
    const honest = await comeWith(harness, {}, '192.0.2.9');
    await honest.answer(honest.rangesOf(0));
    const [step] = harness.eventsOf('step');
    expect(step.params).toEqual(harness.training.params[1]);
  });

  it('is one of a bounded number remembered', () => {
    const book = new AddressBook();
    for (let i = 0; i < 3000; i++) book.failed(0, `10.0.${i >> 8}.${i & 255}`);
    expect(book.size).toBe(MAX_ADDRESSES);
    expect(book.of('10.0.0.1').failedAt).toEqual([]);
    expect(book.of('10.0.11.183').failedAt).toEqual([0]);
  });
});

describe('workers that have not passed their proof', () => {
  it('do not take the places of those that have, and are bounded', async () => {
    const harness = await startRun({ maxWorkers: 2 });
    const idle = Array.from({ length: 500 }, (_, i) => {
      const worker = harness.connect(`10.0.0.${i % 8}`);
      worker.hello();
      return worker;
    });
    const open = () => idle.filter(({ closeCode }) => closeCode === null);
    expect(open()).toHaveLength(MORE_PROVING + 2);
    const workers = [await harness.join(), await harness.join()];
    expect(workers.map(({ closeCode }) => closeCode)).toEqual([null, null]);
    // A worker that passes its proof once the run is full is refused then; one that says hello now, at once.
    open()[0].ready();
    expect(idle.filter(({ closeCode }) => closeCode === CLOSE_CODES.full)).toHaveLength(1);
    const late = harness.connect();
    late.hello();
    expect(late.closeCode).toBe(CLOSE_CODES.full);
  });
});

describe('the members', () => {
  it('are bounded, however many workers join without an id', async () => {
    const harness = await startRun();
    for (let i = 0; i < 2000; i++) {
      const worker = harness.connect();
      worker.hello();
      worker.channel.break();
    }
    // Those who never took part are nobody.
    expect(harness.coordinator.numMembers).toBe(0);
    for (let i = 0; i < MAX_ABSENT + 10; i++) (await harness.join()).channel.break();
    expect(harness.coordinator.numMembers).toBe(MAX_ABSENT);
    const last = await harness.join();
    expect(harness.coordinator.numWorkers).toBe(1);
    last.channel.break();
    expect(harness.coordinator.numWorkers).toBe(0);
  });
});
