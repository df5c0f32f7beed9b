/** The configuration of a run, from the options given or from the run being resumed; and its initial weights. */
import { initParamsFrom, type WeightsFile } from '../model/initial-params.js';
import type { Model } from '../model/lenet.js';
import { flatten, runConfigOf, type RunConfig } from '../shared/config.js';
import { UserError } from '../shared/errors.js';
import { textOf } from '../shared/option.js';
import { givenRunOptions, type RunSettings } from './settings.js';

/**
 * The configuration of a new run, or of the one that is resumed, which the given options must not contradict but may give
 * more epochs.
 *
 * @param stored that of the run that is resumed
 */
export function configure(
  settings: RunSettings,
  stored: RunConfig | null,
  init: WeightsFile | null,
): RunConfig {
  if (stored === null) {
    const config = runConfigOf(settings.values);
    return { ...config, ...checkedInit(config, init) };
  }
  const own = flatten(stored);
  const { epochs } = settings.values;
  const isExtended = settings.sources.has('epochs') && epochs > stored.epochs;
  for (const [key, value, source] of givenRunOptions(settings)) {
    if (textOf(value) === textOf(own[key]) || (key === 'epochs' && isExtended)) continue;
    throw new UserError(
      `Cannot resume with ${key} ${textOf(value)} (${source}): the run has ${textOf(own[key])}` +
        (key === 'epochs' ? ', and can only be given more' : ''),
    );
  }
  if (init !== null && stored.initSha256 === undefined) {
    throw new UserError(`Cannot resume with --init: the run started from random weights`);
  }
  checkedInit(stored, init);
  return isExtended ? { ...stored, epochs } : stored;
}

/** The hash of the first weights, for the configuration of a run that begins. */
function checkedInit({ initSha256 }: RunConfig, init: WeightsFile | null): Partial<RunConfig> {
  if (init === null) return {};
  if (initSha256 !== undefined && initSha256 !== init.sha256) {
    throw new UserError(
      `Cannot start from ${init.path}: its SHA-256 is ${init.sha256}, expected ${initSha256}`,
    );
  }
  return { initSha256: init.sha256 };
}

/** θ₀ of a run that has no checkpoint yet; null for that of the seed. */
export function initialParamsOf(
  config: RunConfig,
  model: Model,
  init: WeightsFile | null,
): Float32Array | null {
  if (init !== null) return initParamsFrom(init, model, config.seed);
  if (config.initSha256 === undefined) return null;
  throw new UserError(
    `Cannot start without the initial weights: give --init FILE, with the SHA-256 ${config.initSha256}`,
  );
}
