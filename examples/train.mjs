// Trains LeNet-5 in this process, stops at 97 %, and writes the model as one JavaScript file.
//
//   node examples/train.mjs [FOLDER]     a new one: checkpoints of two runs do not go into one folder
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { modelFrom, train } from 'lockstep';

const folder = process.argv[2] ?? 'trained';

const { result, last } = await train({
  config: { epochs: 3, seed: 1 },
  targetAccuracy: 0.97,
  checkpointsPath: join(folder, 'checkpoints'),
  onEvent(event) {
    if (event.type === 'evaluation') {
      console.log(
        `epoch ${event.epoch}: ${(100 * event.accuracy).toFixed(2)} % of the test images`,
      );
    }
  },
});
console.log(`${result.outcome}, weights ${result.weightsSha256}`);

await mkdir(folder, { recursive: true });
for (const { name, bytes } of modelFrom(last).export('js')) {
  await writeFile(join(folder, name), bytes);
}
