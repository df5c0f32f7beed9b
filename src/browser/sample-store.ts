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
/** Kept at most, of all data sets together; MNIST has 55 MB. */
const MAX_BYTES = 256e6;
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

/** @param remember keeps an identity for the next page */
export async function openKeepsake(
  identity: Identity | null,
  remember: (identity: Identity) => void,
): Promise<Keepsake> {
  const database = await openDatabase().catch(() => null);
  const kept = database && (await readSamples(database).catch(() => null));
  let datasetId = kept?.samples.datasetId ?? null;
  let freeBytes = MAX_BYTES - (kept?.numBytes ?? 0);
  return {
    identity,
    samples: kept?.samples ?? null,
    keepWelcome(known, samples) {
      remember(known);
      if (!database || samples.datasetId === datasetId) return;
      datasetId = samples.datasetId;
      freeBytes = MAX_BYTES;
      const { numSamples, memory } = samples;
      const shape: Shape = { datasetId, numSamples, imageBytes: memory.imageBytes };
      replaceDataset(database, shape);
    },
    keepSamples(message) {
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
      write(database, SAMPLES, (store) => store.add({ datasetId, message: copy }));
    },
  };
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
    const keys = await read(database, SAMPLES, (store) => store.getAllKeys(range, BATCH));
    const batch = (await read(database, SAMPLES, (store) =>
      store.getAll(range, BATCH),
    )) as Stored[];
    if (batch.length === 0) return { samples, numBytes };
    for (const { datasetId, message } of batch) {
      if (datasetId !== shape.datasetId) continue;
      numBytes += message.pixels.length;
      samples.store(message);
    }
    after = keys.at(batch.length - 1) as number;
  }
}

/** Whatever another data set left goes. */
function replaceDataset(database: IDBDatabase, shape: Shape): void {
  const transaction = database.transaction([SAMPLES, SHAPES], 'readwrite');
  transaction.onerror = (event) => event.preventDefault();
  const shapes = transaction.objectStore(SHAPES);
  const before = shapes.get(0);
  before.onsuccess = () => {
    // Another thread may have been faster.
    if ((before.result as Shape | undefined)?.datasetId === shape.datasetId) return;
    transaction.objectStore(SAMPLES).clear();
    shapes.put(shape, 0);
  };
}

/** What cannot be kept, as where the disk is full, is sent again another time. */
function write(database: IDBDatabase, name: string, action: (store: IDBObjectStore) => void): void {
  try {
    const transaction = database.transaction(name, 'readwrite');
    transaction.onerror = (event) => event.preventDefault();
    action(transaction.objectStore(name));
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
