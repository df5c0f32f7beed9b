/**
 * Samples that outlast the page, stored as received in the browser's IndexedDB, if it is available. All threads of all tabs
 * write to one database; each reads what all have written when it starts.
 *
 * The id of a data set is a hash of its entire content, so cached samples stay valid forever.
 */
import { SampleCache } from '../worker/sample-cache.js';
import type { Identity, Keepsake } from '../worker/keepsake.js';
import type { Message } from '../shared/protocol.js';

const DATABASE = 'lockstep-samples';
const SAMPLES = 'samples';
const SHAPES = 'shapes';
/** Samples are read in batches of so many messages, each of 64 KB at most. */
const BATCH = 64;
/** A browser that says nothing, as some do in private windows, keeps nothing. */
const OPEN_MS = 2_000;

/** What samples of a data set look like. */
interface Shape {
  readonly datasetId: string;
  readonly numSamples: number;
  readonly imageBytes: number;
}
/** What one message brought. */
interface Stored {
  readonly datasetId: string;
  readonly message: Message<'samples'>;
}

/**
 * @param remember keeps an identity for the next page
 * @param maxBytes of samples that this thread may store; none once all threads together have stored as much
 */
export async function openKeepsake(
  identity: Identity | null,
  remember: (identity: Identity) => void,
  maxBytes: number,
): Promise<Keepsake> {
  const database = await openDatabase().catch(() => null);
  const kept = database && (await readSamples(database).catch(() => null));
  let datasetId = kept?.samples.datasetId ?? null;
  let freeBytes = maxBytes - (kept?.numBytes ?? 0);
  const keepsake = {
    identity,
    samples: kept?.samples ?? null,
    keepWelcome(known: Identity, samples: SampleCache) {
      remember(known);
      // Those of another dataset are not held beside the new ones.
      if (samples !== keepsake.samples) keepsake.samples = null;
      if (!database || samples.datasetId === datasetId) return;
      datasetId = samples.datasetId;
      freeBytes = maxBytes;
      const { numSamples, memory } = samples;
      const shape: Shape = { datasetId, numSamples, imageBytes: memory.imageBytes };
      replaceDataset(database, shape);
    },
    keepSamples(message: Message<'samples'>) {
      freeBytes -= message.pixels.length;
      if (!database || datasetId === null || freeBytes < 0) return;
      const { type, indices, labels, pixels } = message;
      // Copies, as each is a view of a whole frame.
      const copy = {
        type,
        indices: indices.slice(),
        labels: labels.slice(),
        pixels: pixels.slice(),
      };
      write(database, (store) => store.add({ datasetId, message: copy }));
    },
  };
  return keepsake;
}

function openDatabase(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    // Firefox throws where storage is forbidden.
    const request = indexedDB.open(DATABASE, 1);
    const late = setTimeout(() => reject(new Error('IndexedDB does not answer')), OPEN_MS);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(SAMPLES, { autoIncrement: true });
      request.result.createObjectStore(SHAPES);
    };
    request.onsuccess = () => {
      clearTimeout(late);
      resolve(request.result);
    };
    request.onerror = () => reject(request.error ?? new Error('IndexedDB cannot be opened'));
  });
}

/** Everything kept of the last data set. */
async function readSamples(
  database: IDBDatabase,
): Promise<{ readonly samples: SampleCache; readonly numBytes: number } | null> {
  const shape = (await read(database, SHAPES, (store) => store.get(0))) as Shape | undefined;
  if (!shape) return null;
  const samples = SampleCache.create(shape.datasetId, shape.numSamples, shape.imageBytes);
  let numBytes = 0;
  let after = 0;
  for (;;) {
    const range = IDBKeyRange.lowerBound(after, true);
    const [keys, batch] = await readBatch(database, range);
    if (batch.length === 0) return { samples, numBytes };
    for (const { datasetId, message } of batch) {
      if (datasetId !== shape.datasetId) continue;
      numBytes += message.pixels.length;
      samples.store(message);
    }
    after = keys.at(-1) as number;
  }
}

/** At once, or another thread could write in between. */
function readBatch(database: IDBDatabase, range: IDBKeyRange): Promise<[IDBValidKey[], Stored[]]> {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(SAMPLES);
    const store = transaction.objectStore(SAMPLES);
    const [keys, batch] = [store.getAllKeys(range, BATCH), store.getAll(range, BATCH)];
    transaction.oncomplete = () => resolve([keys.result, batch.result as Stored[]]);
    transaction.onabort = () => reject(transaction.error ?? new Error('IndexedDB cannot be read'));
  });
}

/** Whatever another data set left goes. */
function replaceDataset(database: IDBDatabase, shape: Shape): void {
  write(database, (samples, shapes) => {
    const before = shapes.get(0);
    before.onsuccess = () => {
      // Another thread may have been faster.
      if ((before.result as Shape | undefined)?.datasetId === shape.datasetId) return;
      samples.clear();
      shapes.put(shape, 0);
    };
  });
}

/** What cannot be kept, as where the disk is full, is sent again another time. */
function write(
  database: IDBDatabase,
  action: (samples: IDBObjectStore, shapes: IDBObjectStore) => void,
): void {
  try {
    const transaction = database.transaction([SAMPLES, SHAPES], 'readwrite');
    transaction.onerror = (event) => event.preventDefault();
    action(transaction.objectStore(SAMPLES), transaction.objectStore(SHAPES));
  } catch {
    // Closed under us: the user has cleared the site's data.
  }
}

function read<T>(
  database: IDBDatabase,
  name: string,
  action: (store: IDBObjectStore) => IDBRequest<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = action(database.transaction(name).objectStore(name));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error('IndexedDB cannot be read'));
  });
}
