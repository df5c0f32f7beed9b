/**
 * WebGPU without a GPU: the SwiftShader driver that Debian's `chromium` ships. CI has it and must; elsewhere the cases
 * that need a device are left out, with a word.
 */
import { existsSync } from 'node:fs';

const ICD = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** Points Vulkan at SwiftShader; LOCKSTEP_TEST_GPU=1 asks for the machine's own driver instead. */
export function useWebgpu(): boolean {
  if (process.env.LOCKSTEP_TEST_GPU) return true;
  if (!existsSync(ICD)) {
    if (process.env.CI) throw new Error(`CI needs ${ICD}, of Debian's package chromium`);
    return false;
  }
  process.env.VK_ICD_FILENAMES = ICD;
  return true;
}
