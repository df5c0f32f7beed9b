import { createHash, type KeyObject } from 'node:crypto';
import type { ClientRequest } from 'node:http';
import { TLSSocket } from 'node:tls';
import { UserError } from '../errors.js';

/** The pin by which workers recognize a coordinator: SHA-256 of its public key (SPKI), base64url. */
export function pinOf(publicKey: KeyObject): string {
  const der = publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(der).digest('base64url');
}

/** Holds the request, the first thing that we say, until the other side has shown that it has the key. */
export function sendIfPinned(pin: string) {
  return (request: ClientRequest) => {
    request.once('socket', (socket) => {
      socket.once('secureConnect', () => {
        const certificate = socket instanceof TLSSocket && socket.getPeerX509Certificate();
        if (certificate && pinOf(certificate.publicKey) === pin) request.end();
        else request.destroy(new UserError(WRONG_PIN));
      });
    });
  };
}

const WRONG_PIN =
  'The coordinator does not have the key named in the join line: it is another run, or the connection is intercepted; ' +
  'paste the line that the coordinator prints';
