/** `lockstep summary`: the model as a table. */
import { Command } from 'commander';
import { buildModel } from '../model/lenet.js';
import { formatSummary } from '../model/summary.js';
import { addRunOptions, runConfigOf } from './run-options.js';

export function summaryCommand(): Command {
  const command = new Command('summary').description(
    'show the layers of the model, their weights and FLOPs',
  );
  addRunOptions(command, 'model');
  return command.action((values: Record<string, unknown>) => {
    console.log(formatSummary(buildModel(runConfigOf(values).hyperparameters)));
  });
}
