/** `lockstep export`: writes a trained model in the formats of other libraries. */
import { join } from 'node:path';
import { findCheckpoint } from '../model/checkpoint.js';
import { exportModel, type ExportedFile } from '../model/export/export.js';
import { UserError, messageOf } from '../shared/errors.js';
import { formatCount } from '../shared/format.js';
import { withInput } from '../shared/node/input-file.js';
import { fileStorage } from '../shared/node/storage.js';
import { optionCommand } from './command.js';
import { warn } from './warn.js';

export function exportCommand() {
  return optionCommand(
    'export',
    'write a trained model for ONNX, PyTorch, TensorFlow.js or plain JavaScript, with a model card',
    'runs/first --format onnx --out exported',
    async ({ values: { format, out, force } }, [where]) => {
      const { checkpoint, path } = await findCheckpoint(fileStorage, where, warn);
      const files = exportModel(checkpoint, [...new Set(format)]);
      await write(out, files, force);
      console.log(`${path}: step ${formatCount(checkpoint.globalStep)}, epoch ${checkpoint.epoch}`);
      for (const { name, bytes } of files) {
        console.log(`  ${join(out, name)}  ${formatCount(bytes.length)} bytes`);
      }
    },
  ).argument('<checkpoint>', 'a file, or a run directory: its best checkpoint, or else its last');
}

/**
 * All of the files, or none where one of them would replace another file.
 *
 * @throws {UserError}
 */
async function write(
  dir: string,
  files: readonly ExportedFile[],
  isForced: boolean,
): Promise<void> {
  const wanted: ExportedFile[] = [];
  for (const file of files) {
    const path = join(dir, file.name);
    const isSame = await holds(path, file.bytes);
    if (isSame === true) continue;
    if (isSame === false && !isForced) {
      throw new UserError(
        `Cannot write ${path}: a different file exists; choose another --out, or give --force to replace it`,
      );
    }
    wanted.push(file);
  }
  try {
    for (const { name, bytes } of wanted) {
      await fileStorage.writeDurably(join(dir, name), bytes);
    }
  } catch (error) {
    throw new UserError(`Cannot write into ${dir}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * Whether the file has exactly these bytes; null if there is none.
 *
 * @throws {UserError} if it cannot be read, or is a folder, a pipe or a device: then it is not replaced either
 */
async function holds(path: string, bytes: Uint8Array): Promise<boolean | null> {
  try {
    return await withInput(
      path,
      async (file) =>
        file.size === bytes.length && Buffer.compare(await file.read(0, file.size), bytes) === 0,
    );
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw new UserError(`Cannot replace ${path}: ${messageOf(error)}`, { cause: error });
  }
}
