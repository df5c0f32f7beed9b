/**
 * Samples that outlast the page, stored as received in the browser's IndexedDB, if it is available. All threads of all tabs
 * write to one database, each sample once; each reads what all have written when it starts.
 *
 * The id of a data set is a hash of its entire content, so cached samples stay valid forever.
 */
import { SampleCache } from '../worker/sample-cache.js';
import type { Identity, Keepsake } from '../worker/keepsake.js';
import type { Message } from '../shared/protocol.js';
import { withoutKept, type KeptSamples } from './kept-samples.js';

const DATABASE = 'lockstep-samples';
/** 1 stored a sample once for each thread. */
const VERSION = 2;
const SAMPLES = 'samples';
const DATASETS = 'datasets';
/** The only data set that is kept. */
const LATEST = 0;
/** Samples are read in batches of so many messages, each of 64 KB at most. */
const BATCH = 64;
/** A browser that says nothing, as some do in private windows, keeps nothing. */
const OPEN_MS = 2_000;

/** @param remember keeps an identity for the next page */
export async function openKeepsake(
  identity: Identity | null,
  remember: (identity: Identity) => void,
): Promise<Keepsake> {
  const database = await openDatabase().catch(() => null);
  const kept = database && (await readSamples(database).catch(() => null));
  let datasetId = kept?.datasetId ?? null;
  return {
    identity,
    samples: kept,
    keepWelcome(known, { datasetId: id, numSamples, memory }) {
      remember(known);
      if (!database || id === datasetId) return;
      datasetId = id;
      const { imageBytes } = memory;
      const shape: KeptSamples = {
        ...{ datasetId: id, numSamples, imageBytes },
        ...{ kept: new Uint8Array(Math.ceil(numSamples / 8)), numKept: 0 },
      };
      replaceDataset(database, shape);
    },
    keepSamples(message) {
      if (!database || datasetId === null) return;
      const id = datasetId;
      write(database, (samples, datasets) => {
        const found = datasets.get(LATEST);
        found.onsuccess = () => {
          const before = found.result as KeptSamples | undefined;
          // Another tab may have joined a run with another data set.
          if (before?.datasetId !== id) return;
          const { kept: after, message: rest } = withoutKept(before, message);
          if (rest === null) return;
          samples.add(rest);
          datasets.put(after, LATEST);
        };
      });
    },
  };
}

function openDatabase(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    // Firefox throws where storage is forbidden.
    const request = indexedDB.open(DATABASE, VERSION);
    const late = setTimeout(() => reject(new Error('IndexedDB does not answer')), OPEN_MS);
    request.onupgradeneeded = () => {
      for (const name of request.result.objectStoreNames) request.result.deleteObjectStore(name);
      request.result.createObjectStore(SAMPLES, { autoIncrement: true });
      request.result.createObjectStore(DATASETS);
    };
    request.onsuccess = () => {
      clearTimeout(late);
      // A later version of the page, in another tab, is not to wait for this one.
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
    request.onerror = () => reject(request.error ?? new Error('IndexedDB cannot be opened'));
  });
}

/** Everything kept of the last data set; null if there is none. */
async function readSamples(database: IDBDatabase): Promise<SampleCache | null> {
  const [dataset] = await read(database, (_, datasets) => [datasets.get(LATEST)]);
  if (dataset === undefined) return null;
  const { datasetId, numSamples, imageBytes } = dataset as KeptSamples;
  const samples = SampleCache.create(datasetId, numSamples, imageBytes);
  for (let after = 0; ;) {
    const range = IDBKeyRange.lowerBound(after, true);
    // At once, or another thread could write in between.
    const [now, keys, messages] = await read(database, (store, datasets) => [
      datasets.get(LATEST),
      store.getAllKeys(range, BATCH),
      store.getAll(range, BATCH),
    ]);
    if ((now as KeptSamples).datasetId !== datasetId) return null;
    for (const message of messages as Message<'samples'>[]) samples.store(message);
    if ((keys as number[]).length === 0) return samples;
    after = (keys as number[]).at(-1)!;
  }
}

/** Whatever another data set left goes. */
function replaceDataset(database: IDBDatabase, dataset: KeptSamples): void {
  write(database, (samples, datasets) => {
    const before = datasets.get(LATEST);
    before.onsuccess = () => {
      // Another thread may have been faster.
      if ((before.result as KeptSamples | undefined)?.datasetId === dataset.datasetId) return;
      samples.clear();
      datasets.put(dataset, LATEST);
    };
  });
}

/** What cannot be kept, as where the disk is full, is sent again another time. */
function write(
  database: IDBDatabase,
  action: (samples: IDBObjectStore, datasets: IDBObjectStore) => void,
): void {
  try {
    const transaction = database.transaction([SAMPLES, DATASETS], 'readwrite');
    transaction.onerror = (event) => event.preventDefault();
    action(transaction.objectStore(SAMPLES), transaction.objectStore(DATASETS));
  } catch {
    // Closed under us: the user has cleared the site's data.
  }
}

/** The results of some requests, of one moment. */
function read(
  database: IDBDatabase,
  action: (samples: IDBObjectStore, datasets: IDBObjectStore) => IDBRequest[],
): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction([SAMPLES, DATASETS]);
    const requests = action(transaction.objectStore(SAMPLES), transaction.objectStore(DATASETS));
    transaction.oncomplete = () => resolve(requests.map((request) => request.result as unknown));
    transaction.onabort = () => reject(transaction.error ?? new Error('IndexedDB cannot be read'));
  });
}
