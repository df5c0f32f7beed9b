// Loads the best checkpoint of a run, tells what it is worth, and reads ten digits.
//
//   node examples/predict.mjs RUN
import { loadDataset, loadModel } from 'lockstep';

const model = await loadModel(process.argv[2] ?? 'trained');
const { test } = await loadDataset('mnist');

const { accuracy, loss, classes } = await model.evaluate(test);
console.log(`accuracy ${(100 * accuracy).toFixed(2)} %, loss ${loss.toFixed(4)}`);
const hardest = [...classes].sort((a, b) => a.recall - b.recall)[0];
console.log(`hardest: ${(100 * hardest.recall).toFixed(1)} % of its images are recognised`);

const { channels, height, width } = model.input;
const ten = test.images.subarray(0, 10 * channels * height * width);
for (const [index, { name, probability }] of model.predict(ten).entries()) {
  console.log(`image ${index}: ${name} (${(100 * probability).toFixed(1)} %)`);
}
