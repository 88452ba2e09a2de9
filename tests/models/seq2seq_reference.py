"""What the tests of encoder-decoders compare with: the folders that fixtures/make_seq2seq.py made."""
import functools
import pathlib

import numpy as np
from keras import ops

import kzoo
from kzoo.backend import compile_function
from kzoo.hugging_face import layout_of

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
NAMES = ("encoder_token_ids", "decoder_token_ids")


class Case:
    """A model with the reference's weights, and in `expected` what the reference computed."""

    def __init__(self, name):
        folder = FIXTURES / name
        self.name, self.model = name, kzoo.load(folder)
        with np.load(folder / "expected.npz", allow_pickle=False) as file:
            self.expected = dict(file)
        self.inputs = {name: self.expected[name] for name in NAMES}
        self._compiled = compile_function(self.model, lambda inputs: self.model(inputs))

    def logits(self, inputs):
        """Logits (B, T, V); each shape is compiled once."""
        return ops.convert_to_numpy(self._compiled({name: ops.convert_to_tensor(each) for name, each in
                                                    inputs.items()}))

    def padded(self, side):
        """Inputs cut to the lengths of the rows and filled up with noise, and a mask of the target's real tokens."""
        inputs, rng = {}, np.random.default_rng(0)
        for name, of in zip(NAMES, ("source_lengths", "target_lengths"), strict=True):
            ids = self.expected[name]
            mask = np.arange(ids.shape[1]) < self.expected[of][:, None]
            noise = rng.integers(0, ids.max() + 1, ids.shape).astype("int32")
            moved = mask if side == "right" else mask[:, ::-1]
            noise[moved] = ids[mask]
            inputs[name], inputs[name.replace("token_ids", "padding_mask")] = noise, moved
        return inputs, moved


read = functools.cache(Case)


def assert_equal(found, expected):
    """To 1e-5 of the scale of `expected`."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.std())


def assert_equal_logits(case):
    assert_equal(case.logits(case.inputs), case.expected["logits"])


def assert_equal_rows(case, side):
    """Each row of a padded batch is the row alone."""
    inputs, real = case.padded(side)
    kept = np.arange(real.shape[1]) < case.expected["target_lengths"][:, None]
    assert_equal(case.logits(inputs)[real], case.expected["row_logits"][kept])


def assert_told_apart(case, preset, changes):
    """A model that differs a little gives other logits."""
    other = kzoo.create(preset, **{**case.model.config.to_dict(), **changes})
    other.set_weights(case.model.get_weights())
    found = ops.convert_to_numpy(compile_function(other, lambda: other(case.inputs))())
    assert np.abs(found - case.expected["logits"]).max() > 1e-5 * case.expected["logits"].std()


def assert_equal_gradients(case, gradients):
    model, labels = case.model, case.expected["labels"][:, :, None]

    def loss():
        return -ops.mean(ops.take_along_axis(ops.log_softmax(model(case.inputs), axis=-1), labels, axis=2))

    np.testing.assert_allclose(float(loss()), float(case.expected["loss"]), rtol=1e-5)
    paths = [variable.path.split("/", 1)[1] for variable in model.trainable_variables]
    found = dict(zip(paths, gradients(model, loss), strict=True))
    entries = {entry.stored: entry for entry in layout_of(model).table(model).entries()}
    names = [name.removeprefix("gradient:") for name in case.expected if name.startswith("gradient:")]
    assert len(names) == 3
    for name in names:
        wanted, entry = case.expected[f"gradient:{name}"], entries[name]
        ours = entry.to_stored(found[entry.variables[0]])
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(), err_msg=name)


def assert_equal_ids(case):
    """Greedy search and beam search; the rows together, and one alone."""
    sources = [row[:length].tolist() for row, length in
               zip(case.expected["encoder_token_ids"], case.expected["source_lengths"], strict=True)]
    for kind, beams in (("greedy", 1), ("beams", 4)):
        wanted = [row[row >= 0].tolist() for row in case.expected[kind]]
        options = {"max_new_tokens": case.expected[kind].shape[1], "num_beams": beams}
        assert case.model.generate(sources, **options) == wanted, kind
        assert case.model.generate(sources[1], **options) == wanted[1], kind
