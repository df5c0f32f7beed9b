/** `lockstep doctor`: which engines this machine has, which one it would pick, and why not the others. */
import { diagnose, formatDiagnosis } from '../model/engine/doctor.js';
import { optionCommand } from './command.js';

export function doctorCommand() {
  return optionCommand(
    'doctor',
    'show which engines this machine has, measured, and what the others lack',
    '--json',
    async ({ values: { device = null, json } }) => {
      const diagnosis = await diagnose(device);
      console.log(json ? JSON.stringify(diagnosis, null, 2) : formatDiagnosis(diagnosis));
    },
  );
}
