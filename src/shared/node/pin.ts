import { createHash, type KeyObject } from 'node:crypto';

/** What workers know a coordinator by: SHA-256 of its public key (SPKI), base64url. */
export function pinOf(publicKey: KeyObject): string {
  const der = publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(der).digest('base64url');
}
