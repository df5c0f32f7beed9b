/** What a tab remembers across a reload: that it works, and as which workers. In sessionStorage, so no other tab is the same worker. */
import type { Identity } from '../worker/keepsake.js';

const KEY = 'lockstep-work';

export interface TabMemory {
  readonly name: string;
  /** One for each core. */
  readonly identities: readonly (Identity | null)[];
}

/** Null where there is nothing, or nothing that makes sense. */
export function recall(maxCores: number): TabMemory | null {
  try {
    const { name, identities } = JSON.parse(
      sessionStorage.getItem(KEY) ?? '{}',
    ) as Partial<TabMemory>;
    if (typeof name !== 'string' || !Array.isArray(identities)) return null;
    if (identities.length < 1 || identities.length > maxCores) return null;
    return { name, identities: identities.map((known) => (isIdentity(known) ? known : null)) };
  } catch {
    return null;
  }
}

/** Where storage is forbidden, a reload begins anew. */
export function remember(memory: TabMemory): void {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(memory));
  } catch {
    return;
  }
}

export function forget(): void {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    return;
  }
}

function isIdentity(value: unknown): value is Identity {
  const { workerId, secret } = (value ?? {}) as Partial<Identity>;
  return typeof workerId === 'string' && typeof secret === 'string';
}
