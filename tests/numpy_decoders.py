"""Small decoders in plain numpy, written out, that stand in for a runtime when generation is tested."""
import json

import numpy as np
import safetensors.numpy

from kzoo.tasks.generate import TokenDecoder


class TableDecoder(TokenDecoder):
    """Logits from a table: of the last two tokens and of the position, so that padding and order both matter."""

    def __init__(self, vocabulary_size=29, max_sequence_length=23, seed=5, spread=2.0):
        random = np.random.default_rng(seed)
        self.vocabulary_size, self.max_sequence_length = vocabulary_size, max_sequence_length
        self.pairs = random.normal(0, spread, (vocabulary_size, vocabulary_size, vocabulary_size)).astype("float32")
        self.positions = random.normal(0, spread / 2, (max_sequence_length, vocabulary_size)).astype("float32")
        self.batches = []  # rows of every call: prefill first

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        assert token_ids.dtype == np.int32 and padding_mask.dtype == bool and padding_mask[:, -1].all()
        assert token_ids.shape[1] + max_new_tokens <= self.max_sequence_length
        self.batches.append(len(token_ids))
        before = [row[mask][-2] if mask.sum() > 1 else 0 for row, mask in zip(token_ids, padding_mask, strict=True)]
        return self._logits(np.array(before), token_ids[:, -1], padding_mask.sum(axis=1))

    def decode(self, token_ids, state):
        assert token_ids.dtype == np.int32 and len(token_ids) == len(state[0])
        self.batches.append(len(token_ids))
        return self._logits(state[0], token_ids, state[1] + 1)

    def reorder(self, state, rows):
        return tuple(part[rows] for part in state)

    def _logits(self, before, last, lengths):
        return self.pairs[before, last] + self.positions[lengths - 1], (last, lengths)

    def next_logits(self, ids):
        """The logits after a whole row, for tests that search by hand."""
        return self._logits(np.array([ids[-2] if len(ids) > 1 else 0]), np.array([ids[-1]]), np.array([len(ids)]))[0][0]


class NumpyGPT2(TokenDecoder):
    """GPT-2 from a Hugging Face folder, with a growing cache, in float64.

    Args:
        folder: holds config.json and model.safetensors; or pass `config` and `weights` themselves.
    """

    def __init__(self, folder=None, config=None, weights=None):
        if folder is not None:
            config = json.loads((folder / "config.json").read_text())
            weights = safetensors.numpy.load_file(folder / "model.safetensors")
        self.weights = {name.removeprefix("transformer."): np.asarray(value, "float64")
                        for name, value in weights.items()}
        self.layers, self.heads, self.epsilon = config["n_layer"], config["n_head"], config["layer_norm_epsilon"]
        self.vocabulary_size, self.max_sequence_length = config["vocab_size"], config["n_positions"]

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        nothing = np.zeros((len(token_ids), self.heads, 0, self.weights["wte.weight"].shape[1] // self.heads))
        state = (padding_mask[:, :0], [(nothing, nothing)] * self.layers)
        return self._forward(token_ids, padding_mask, state)

    def decode(self, token_ids, state):
        return self._forward(token_ids[:, None], np.ones((len(token_ids), 1), bool), state)

    def reorder(self, state, rows):
        return state[0][rows], [(keys[rows], values[rows]) for keys, values in state[1]]

    def _forward(self, token_ids, new_mask, state):
        mask = np.concatenate([state[0], new_mask], axis=1)  # (B, S)
        past, (rows, length) = state[0].shape[1], token_ids.shape
        positions = np.maximum(mask.cumsum(axis=1) - 1, 0)[:, past:]
        x = self.weights["wte.weight"][token_ids] + self.weights["wpe.weight"][positions]  # (B, T, E)
        allowed = np.arange(past + length) <= np.arange(past, past + length)[:, None]  # (T, S)
        allowed = (allowed & mask[:, None, :])[:, None]  # (B, 1, T, S)
        caches = []
        for i in range(self.layers):
            name = f"h.{i}."
            parts = np.split(self._linear(self._norm(x, name + "ln_1"), name + "attn.c_attn"), 3, axis=-1)
            query, keys, values = (part.reshape(rows, length, self.heads, -1).swapaxes(1, 2) for part in parts)
            keys = np.concatenate([state[1][i][0], keys], axis=2)  # (B, H, S, D)
            values = np.concatenate([state[1][i][1], values], axis=2)
            caches.append((keys, values))
            scores = query @ keys.swapaxes(2, 3) / np.sqrt(query.shape[-1])  # (B, H, T, S)
            scores = np.exp(np.where(allowed, scores - scores.max(axis=-1, keepdims=True), -1e9))
            mixed = scores / np.maximum(scores.sum(axis=-1, keepdims=True), 1e-30) @ values
            x = x + self._linear(mixed.swapaxes(1, 2).reshape(rows, length, -1), name + "attn.c_proj")
            up = self._linear(self._norm(x, name + "ln_2"), name + "mlp.c_fc")
            up = up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3))) / 2
            x = x + self._linear(up, name + "mlp.c_proj")
        logits = self._norm(x[:, -1], "ln_f") @ self.weights["wte.weight"].T  # (B, V)
        return logits.astype("float32"), (mask, caches)

    def _linear(self, x, name):
        return x @ self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def _norm(self, x, name):
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + self.epsilon)
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]


class BytesTokenizer:
    """Token ids are UTF-8 bytes; 256 begins a text and 257 ends it."""

    vocabulary_size, bos_id, eos_id, pad_id, unk_id = 258, 256, 257, None, None

    def encode(self, text, add_special_tokens=True):
        return list(text.encode())

    def decode(self, ids, skip_special_tokens=True):
        return bytes(each for each in ids if each < 256).decode(errors="replace")
