/**
 * Installs @tensorflow/tfjs-node on a machine that cannot reach its download host, around a TensorFlow that is
 * already there.
 *
 *   node scripts/install-tensorflow.mjs PATH [--into DIR]
 *
 * PATH is one of
 *   - a Python wheel, such as tensorflow_cpu-2.21.0-….whl or tensorflow-2.21.0-….whl
 *   - the folder of an installed wheel: …/site-packages/tensorflow
 *   - an unpacked libtensorflow archive: a folder with lib/ and include/
 * DIR is the checkout to install into, this one by default.
 *
 * The package's own install script would wipe deps/ and download; it is skipped, the libraries are put in its place
 * (linked where PATH is a folder, unpacked where it is a wheel), and the addon is built with the C++ compiler at
 * hand. Nothing is written to package.json or the lockfile. About a minute, 800 MB on disk.  docs/gpu.md
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const VERSION = '4.22.0';
/** What the addon includes, below an include folder. */
const HEADERS = [
  'tensorflow/c',
  'tensorflow/core/platform',
  'tsl/platform',
  'xla/tsl/c',
  'xla/tsl/platform',
];

try {
  main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

function main() {
  const { values, positionals } = parseArgs({
    options: { into: { type: 'string' } },
    allowPositionals: true,
  });
  if (positionals.length !== 1) {
    throw new Error('Usage: node scripts/install-tensorflow.mjs PATH [--into DIR]');
  }
  if (process.platform !== 'linux') {
    throw new Error(
      `Cannot install on ${process.platform}: this script knows Linux libraries only; ` +
        `see docs/gpu.md, or take --engine webgpu`,
    );
  }
  const source = resolve(positionals[0]);
  const checkout = resolve(values.into ?? fileURLToPath(new URL('..', import.meta.url)));
  if (!existsSync(source)) throw new Error(`Cannot install TensorFlow: ${source} does not exist`);

  console.log(`1/3  @tensorflow/tfjs-node@${VERSION}, without its install script`);
  run(
    'npm',
    ['install', '--no-save', '--ignore-scripts', `@tensorflow/tfjs-node@${VERSION}`],
    checkout,
  );
  const packageDir = join(checkout, 'node_modules/@tensorflow/tfjs-node');

  console.log(`2/3  libraries and headers from ${source}`);
  const deps = join(packageDir, 'deps');
  rmSync(deps, { recursive: true, force: true });
  mkdirSync(join(deps, 'lib'), { recursive: true });
  if (statSync(source).isDirectory()) linkFolder(source, deps);
  else unpackWheel(source, deps);

  console.log('3/3  the addon');
  buildAddon(checkout, packageDir);
  const probe = `const tf = require('@tensorflow/tfjs-node'); console.log(tf.version_core, tf.getBackend(), require(
    require('@mapbox/node-pre-gyp').find(require.resolve('@tensorflow/tfjs-node/package.json'))).TF_Version)`;
  const found = run(process.execPath, ['-e', probe], checkout, 'pipe').trim().split('\n').at(-1);
  console.log(`Ready: tfjs, backend, TensorFlow = ${found}. Check with: lockstep doctor`);
}

/** An unpacked archive or an installed wheel: links, as the libraries are large and may be shared. */
function linkFolder(folder, deps) {
  const inside = existsSync(join(folder, 'lib')) ? join(folder, 'lib') : folder;
  const tensorflow = libraryIn(inside, [
    'libtensorflow.so',
    'libtensorflow.so.2',
    'libtensorflow_cc.so.2',
  ]);
  const framework = libraryIn(inside, [
    'libtensorflow_framework.so.2',
    'libtensorflow_framework.so',
  ]);
  place(tensorflow, framework, deps, (from, to) => symlinkSync(from, to));
  copyHeaders(join(folder, 'include'), deps);
}

function unpackWheel(wheel, deps) {
  const temporary = mkdtempSync(join(tmpdir(), 'lockstep-tensorflow-'));
  try {
    const wanted = ['tensorflow/libtensorflow_cc.so.2', 'tensorflow/libtensorflow_framework.so.2'];
    const headers = HEADERS.map((folder) => `tensorflow/include/${folder}/*`);
    run(
      'unzip',
      ['-q', '-o', wheel, ...wanted, ...headers, '-d', temporary],
      temporary,
      'inherit',
      [0, 11],
    );
    const folder = join(temporary, 'tensorflow');
    const tensorflow = libraryIn(folder, ['libtensorflow_cc.so.2']);
    const framework = libraryIn(folder, ['libtensorflow_framework.so.2']);
    place(tensorflow, framework, deps, move);
    copyHeaders(join(folder, 'include'), deps);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/**
 * Puts both libraries under the names that the linker asks for and under those that the loader asks for.
 */
function place(tensorflow, framework, deps, put) {
  const soname = (file) => file.slice(file.lastIndexOf('/') + 1);
  for (const [from, linkName] of [
    [tensorflow, 'libtensorflow.so'],
    [framework, 'libtensorflow_framework.so'],
  ]) {
    const name = soname(from);
    put(from, join(deps, 'lib', name));
    for (const alias of new Set([linkName, `${linkName}.2`])) {
      if (alias !== name) symlinkSync(name, join(deps, 'lib', alias));
    }
  }
}

function copyHeaders(include, deps) {
  if (!existsSync(join(include, 'tensorflow/c/c_api.h'))) {
    throw new Error(`Cannot build the addon: ${include} holds no tensorflow/c/c_api.h`);
  }
  for (const folder of HEADERS) {
    const from = join(include, folder);
    if (existsSync(from)) cpSync(from, join(deps, 'include', folder), { recursive: true });
  }
}

function buildAddon(checkout, packageDir) {
  // Node's own headers, where it was installed with them; else node-gyp downloads them.
  const prefix = dirname(dirname(process.execPath));
  const hasHeaders = existsSync(join(prefix, 'include/node/node_api.h'));
  run(
    process.execPath,
    [
      join(checkout, 'node_modules/@mapbox/node-pre-gyp/bin/node-pre-gyp'),
      'install',
      '--build-from-source',
      ...(hasHeaders ? [`--nodedir=${prefix}`] : []),
    ],
    packageDir,
  );
}

function libraryIn(folder, names) {
  const found = names.find((name) => existsSync(join(folder, name)));
  if (found === undefined) {
    throw new Error(
      `Cannot find TensorFlow in ${folder}: expected one of ${names.join(', ')}, ` +
        `found ${readdirSync(folder).slice(0, 8).join(', ')}`,
    );
  }
  return join(folder, found);
}

function move(from, to) {
  try {
    renameSync(from, to);
  } catch {
    cpSync(from, to);
  }
}

/** Runs a program to its end; `allowed` are the exit codes that are no failure. */
function run(program, args, cwd, stdout = 'inherit', allowed = [0]) {
  const path = [join(cwd, 'node_modules/.bin'), process.env.PATH].join(delimiter);
  try {
    const output = execFileSync(program, args, {
      cwd,
      stdio: ['ignore', stdout, 'inherit'],
      encoding: 'utf8',
      env: { ...process.env, PATH: path },
    });
    return output ?? '';
  } catch (error) {
    if (allowed.includes(error.status)) return '';
    const why = error.code === 'ENOENT' ? 'it is not installed' : `it ended with ${error.status}`;
    throw new Error(`Cannot run ${program}: ${why}`, { cause: error });
  }
}
