// Open a bundle in transformers.js and print what it makes of token ids; run by test_javascript.py.
//
//     node clients.mjs CLIENT BUNDLE DTYPE ARGUMENTS     (of the client's function below, each as JSON)
//
// KZOO_NODE_MODULES names the folder node_modules with @huggingface/transformers. Nothing of kzoo.
import { createRequire } from "node:module";
import path from "node:path";

const { AutoModelForCausalLM, AutoModelForSeq2SeqLM, Tensor, env } =
    createRequire(path.resolve(process.env.KZOO_NODE_MODULES, "..", "x.js"))("@huggingface/transformers");

function inputsOf(ids) {
    const tensor = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    return { input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) };
}

async function write(cls, bundle, dtype, ids, settings) {
    const model = await cls.from_pretrained(bundle, { dtype });
    return (await model.generate({ ...inputsOf(ids), do_sample: false, ...settings })).tolist()[0].map(Number);
}

const CLIENTS = {
    continue: (bundle, dtype, ids, tokens) =>
        write(AutoModelForCausalLM, bundle, dtype, ids, { max_new_tokens: tokens }),
    translate: (bundle, dtype, ids, tokens) =>
        write(AutoModelForSeq2SeqLM, bundle, dtype, ids, { max_new_tokens: tokens }),
};

const [client, bundle, dtype, ...given] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = path.dirname(bundle) + "/";
console.log(JSON.stringify(await CLIENTS[client](path.basename(bundle), dtype, ...given.map((text) => JSON.parse(text)))));
