/**
 * WebGPU in tests. CI must have the SwiftShader driver that Debian's `chromium` ships: no GPU, minutes of work.
 * LOCKSTEP_TEST_GPU=1 asks for the GPU of the machine. Elsewhere WebGPU is left out, with a word.
 */
import { existsSync } from 'node:fs';

const ICD = '/usr/lib/chromium/vk_swiftshader_icd.json';

const isCi = Boolean(process.env.CI);
const hasGpu = Boolean(process.env.LOCKSTEP_TEST_GPU);
export const isThorough = isCi || hasGpu;

/** Points Vulkan at SwiftShader, unless there is a GPU. */
export function useWebgpu(): boolean {
  if (!isThorough) return false;
  if (hasGpu) return true;
  if (!existsSync(ICD)) throw new Error(`CI needs ${ICD}, of Debian's package chromium`);
  process.env.VK_ICD_FILENAMES = ICD;
  return true;
}
