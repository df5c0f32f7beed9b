/** The command line that resumes a stopped run: the one it was started with, plus its directory. */

/** Where the run is, which the new command says anew. */
const REPLACED = ['--out', '--resume', '--port'];
/** Of these alone, a value need not follow. */
const MAY_STAND_ALONE = ['--resume'];

/**
 * @param args the command and its flags, as they were given
 * @param run.port that others find the run at; null for one that the flags did not name and nobody needs to know
 * @returns a line for a shell; secrets stand in it as variables of the environment, which fail where they are not set
 */
export function resumeCommand(
  args: readonly string[],
  run: { readonly path: string; readonly port: number | null },
): string {
  const words: string[] = [];
  let { port } = run;
  for (let i = 0; i < args.length; i++) {
    const [name, ...rest] = args[i].split('=');
    const isSecret = /^--([a-z-]*-)?token$/.test(name);
    if (!isSecret && !REPLACED.includes(name)) {
      words.push(quoted(args[i]));
      continue;
    }
    let value: string | undefined = rest.length > 0 ? rest.join('=') : undefined;
    const next = args.at(i + 1);
    const takesNext =
      !MAY_STAND_ALONE.includes(name) || (next !== undefined && !next.startsWith('-'));
    if (value === undefined && takesNext) {
      value = next;
      i++;
    }
    if (isSecret) words.push(name, variable(name));
    if (name === '--port') port ??= Number(value);
  }
  if (port !== null) words.push('--port', String(port));
  // A value that may be left out cannot begin as a flag does.
  const path = run.path.startsWith('-') ? `./${run.path}` : run.path;
  return ['npx lockstep', ...words, '--resume', quoted(path)].join(' ');
}

/** `"${LOCKSTEP_TOKEN:?}"` for `--token`. */
function variable(flag: string): string {
  return `"\${LOCKSTEP_${flag.slice(2).replaceAll('-', '_').toUpperCase()}:?}"`;
}

/** For a POSIX shell. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
