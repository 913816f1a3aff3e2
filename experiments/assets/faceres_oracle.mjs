// Run the original faceres graph in tfjs: node faceres_oracle.mjs MODEL.json CHIPS.bin OUT.bin
// CHIPS.bin holds float32 chips (224, 224, 3); OUT.bin receives, for each, 1024 float32 of `global_pooling/Mean`.
// Needs npm @tensorflow/tfjs 4.22.0 in the folder it is started from.
import fs from 'node:fs';
import { createRequire } from 'node:module';

const tf = createRequire(process.cwd() + '/')('@tensorflow/tfjs');
const [modelPath, chipsPath, outPath] = process.argv.slice(2);
const model = JSON.parse(fs.readFileSync(modelPath));
const weights = fs.readFileSync(modelPath.replace(/json$/, 'bin'));
const graph = await tf.loadGraphModel({
  load: async () => ({
    modelTopology: model.modelTopology,
    signature: model.signature,
    weightSpecs: model.weightsManifest[0].weights,
    weightData: weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.byteLength),
  }),
});
const chips = fs.readFileSync(chipsPath);
const size = 224 * 224 * 3 * 4;
const out = [];
for (let start = 0; start < chips.length; start += size) {
  const values = new Float32Array(chips.buffer.slice(chips.byteOffset + start, chips.byteOffset + start + size));
  const chip = tf.tensor4d(values, [1, 224, 224, 3]);
  const results = graph.execute(chip);
  const descriptor = results.find((tensor) => tensor.shape[1] === 1024);
  out.push(Buffer.from((await descriptor.data()).buffer));
}
fs.writeFileSync(outPath, Buffer.concat(out));
