/** A proxy in front of a coordinator that puts a test's own scripts before those of its pages, in any browser. */
import { createServer, request as ask, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

const HOST = '127.0.0.1';

/**
 * @param port of the coordinator, which need not be there all the time
 * @param scripts by the path of the script that each goes before
 * @returns the address that pages are opened at
 */
export async function putBefore(
  port: number,
  scripts: Readonly<Record<string, string>>,
): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((incoming, outgoing) => {
    const { url = '/', method, headers } = incoming;
    const options = { host: HOST, port, path: url, method };
    const upstream = ask({ ...options, headers: { ...headers, 'accept-encoding': 'identity' } });
    upstream.once('response', (answer) => {
      const script = scripts[url] as string | undefined;
      if (script !== undefined) delete answer.headers['content-length'];
      outgoing.writeHead(answer.statusCode!, answer.headers);
      if (script !== undefined) outgoing.write(`${script}\n`);
      answer.pipe(outgoing);
    });
    upstream.once('error', () => outgoing.destroy());
    incoming.pipe(upstream);
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('upgrade', (incoming: IncomingMessage, socket: Socket, head: Buffer) => {
    const upstream = connect(port, HOST);
    const lines = [`GET ${incoming.url} HTTP/1.1`];
    for (let i = 0; i < incoming.rawHeaders.length; i += 2) {
      lines.push(`${incoming.rawHeaders[i]}: ${incoming.rawHeaders[i + 1]}`);
    }
    upstream.write(`${lines.join('\r\n')}\r\n\r\n`);
    upstream.write(head);
    for (const [one, other] of [
      [socket, upstream],
      [upstream, socket],
    ]) {
      one.pipe(other);
      one.on('error', () => undefined);
      one.once('close', () => other.destroy());
    }
  });
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  return `http://${HOST}:${(server.address() as AddressInfo).port}`;
}
