/** The commands that install what the GPU engines need: `doctor` prints them, `doctor --fix` runs them. */

/** A program and its arguments. */
export type Command = readonly string[];

/** The version that this code was made with. */
export const TFJS_VERSION = '4.22.0';

const TENSORFLOW_GPU = '@tensorflow/tfjs-node-gpu';

/**
 * Two steps, as npm leaves out an optional dependency whose install script failed, says nothing, and takes it for
 * installed when it is asked again: first the package without its script, then the script with its messages.
 */
export const INSTALL_TENSORFLOW: readonly Command[] = [
  ['npm', 'install', '--no-save', '--ignore-scripts', `${TENSORFLOW_GPU}@${TFJS_VERSION}`],
  ['npm', 'rebuild', '--foreground-scripts', TENSORFLOW_GPU],
];

export const INSTALL_WEBGPU: readonly Command[] = [['npm', 'ci', '--include=optional']];

/** The commands as one line for a shell. */
export function commandLine(commands: readonly Command[]): string {
  return commands.map((command) => command.join(' ')).join(' && ');
}

/** True where tfjs-node-gpu has a library that uses CUDA; on ARM and on macOS it installs one for the CPU. */
export function hasCudaBuild(platform: string): boolean {
  return platform === 'linux x64' || platform === 'win32 x64';
}
