/** What the scripts answer to `--help`: the comment that each of them opens with. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * Prints what the script does and how it is called, and ends the process, where it is asked for.
 *
 * @param {string} url of the script
 * @param {readonly string[]} args
 */
export function helpIfAsked(url, args = process.argv.slice(2)) {
  if (!args.includes('--help') && !args.includes('-h')) return;
  const [, comment] = /^\/\*\*(.*?)\*\//s.exec(readFileSync(fileURLToPath(url), 'utf8'));
  const lines = comment.split('\n').map((line) => line.replace(/^ \* ?/, '').trimEnd());
  process.stdout.write(`${lines.join('\n').trim()}\n`);
  process.exit();
}
