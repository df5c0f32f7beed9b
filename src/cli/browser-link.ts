/** Where browsers join a run: the link, and its QR code for a phone's camera. */
import { join } from 'node:path';
import { renderUnicodeCompact } from 'uqr';
import { writeSecret } from '../coordinator/secrets.js';
import { UserError, messageOf } from '../shared/errors.js';
import type { Logger } from '../shared/node/log.js';
import { pageUrl, type Access } from './access.js';

/** The fragment, which no browser sends, has the token. */
export function browserLink(access: Access, port: number): string {
  const { isLoopback, localHost, hosts } = access;
  const host = isLoopback ? localHost : hosts[0];
  const page = pageUrl(access, host, port, '/work');
  return access.token === null ? page : `${page}#${encodeURIComponent(access.token)}`;
}

/**
 * Says where browsers join. As the join line: a secret is shown on a terminal, and goes into no log.
 *
 * @param path the run directory, where the whole link is kept
 * @returns the whole link
 */
export async function sayBrowserLink(
  path: string,
  access: Access,
  port: number,
  quiet: boolean,
  log: Logger,
): Promise<string> {
  const { token, isLoopback } = access;
  const link = browserLink(access, port);
  const canShow = process.stdout.isTTY && !quiet;
  if (token !== null) {
    const file = join(path, 'browser-link');
    try {
      await writeSecret(file, `${link}\n`);
    } catch (error) {
      throw new UserError(`Cannot keep the link for browsers in ${file}: ${messageOf(error)}`, {
        cause: error,
      });
    }
    log.info(`Browsers join at ${link.split('#', 1)[0]}; the whole link is in ${file}`);
    if (canShow) process.stdout.write(`  ${link}\n`);
  } else {
    log.info(`Browsers join at ${link}`);
  }
  // No phone reaches this machine by its own name for itself.
  if (canShow && !isLoopback) process.stdout.write(`${codeOf(link)}\n`);
  return link;
}

/** Dark on light whatever the terminal's colours are, as some cameras read nothing else. */
function codeOf(link: string): string {
  return renderUnicodeCompact(link, { border: 2 })
    .split('\n')
    .map((line) => `\u001b[97;40m${line}\u001b[0m`)
    .join('\n');
}
