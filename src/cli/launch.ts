/** `lockstep launch`: a coordinator here, and a worker on each machine of a hostfile, over ssh. */
import { randomBytes } from 'node:crypto';
import { UsageError, UserError, messageOf } from '../shared/errors.js';
import { readShortText } from '../shared/node/input-file.js';
import { optionCommand } from './command.js';
import { parseHostfile } from './hostfile.js';
import { SAME_PROGRAM, startRemoteWorkers } from './remote-workers.js';
import { checkCrewSize, serveOptionsOf } from './serve-options.js';
import { serveRun } from './serve-run.js';

/** A thousand lines have less. */
const MAX_HOSTFILE_BYTES = 2 ** 20;

export function launchCommand() {
  return optionCommand(
    'launch',
    'train with a coordinator here and a worker on each machine of a hostfile, over ssh',
    'hosts.txt --epochs 5',
    async (settings, [path]) => {
      const { values } = settings;
      const places = parseHostfile(readHostfile(path), path);
      checkCrewSize(values, places.length);
      const ssh = values.ssh.split(/\s+/).filter((word) => word !== '');
      if (ssh.length === 0) throw new UsageError('Cannot use an empty --ssh');
      const launcher = {
        places,
        ssh,
        program: values.program ?? SAME_PROGRAM,
        engine: values.engine,
      };
      const serve = serveOptionsOf(values);
      const token = serve.token ?? randomBytes(16).toString('hex');
      await serveRun(settings, { ...serve, token }, [], {
        numWorkers: places.length,
        start: (link) => startRemoteWorkers({ ...launcher, ...link }),
      });
    },
  ).argument('<hostfile>', 'lines such as: anna | bert workers=2 | me@gpu1 gpus=8 engine=webgpu');
}

function readHostfile(path: string): string {
  try {
    return readShortText(path, MAX_HOSTFILE_BYTES);
  } catch (error) {
    throw new UserError(`Cannot read the hostfile ${path}: ${messageOf(error)}`, { cause: error });
  }
}
