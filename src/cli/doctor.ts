/** `lockstep doctor`: which engines this machine has, which one it would pick, and why not the others. */
import { Command, InvalidArgumentError } from '@commander-js/extra-typings';
import { diagnose, formatDiagnosis } from '../model/engine/doctor.js';

export function doctorCommand() {
  return new Command('doctor')
    .description('show which engines this machine has, measured, and what the others lack')
    .option(
      '--device <n>',
      'the GPU to look at, counted from 0 (default: the preferred one)',
      parseDevice,
    )
    .option('--json', 'print JSON for scripts')
    .action(async ({ device, json }) => {
      const diagnosis = await diagnose(device ?? null);
      console.log(json ? JSON.stringify(diagnosis, null, 2) : formatDiagnosis(diagnosis));
    });
}

function parseDevice(text: string): number {
  if (!/^\d{1,3}$/.test(text)) throw new InvalidArgumentError('Expected a number from 0 on.');
  return Number(text);
}
