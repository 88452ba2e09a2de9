"""What families with an encoder and a decoder have in common."""
from keras import ops

from kzoo.layers import Context, DecoderCache, locate
from kzoo.models.base import Backbone, check_inputs, check_length

SOURCE, TARGET = "encoder_token_ids", "decoder_token_ids"


class EncoderDecoder(Backbone):
    """Source and target token ids to hidden states of the target.

    A family writes `encode`, `decode` and `logits`, and keeps its decoder's blocks, each with cross-attention, in
    `decoder_blocks`. Its config has `max_sequence_length` (None: no limit), and `layer_counts` with the encoder's
    layers as "i" and the decoder's as "j".

    Inputs: dict with `encoder_token_ids` (B, S) and `decoder_token_ids` (B, T), int32, optionally
    `encoder_padding_mask` (B, S) and `decoder_padding_mask` (B, T), bool.

    Attributes:
        source_vocabulary_size, target_vocabulary_size: number of ids that may come in, and that logits are for.
    """

    @property
    def source_vocabulary_size(self):
        return self.config.vocabulary_size

    @property
    def target_vocabulary_size(self):
        return self.config.vocabulary_size

    @property
    def max_target_length(self):
        """Most tokens of a target; None = no limit."""
        return self.config.max_sequence_length

    def encode(self, token_ids, positions, training=None):
        """Encoder hidden states.

        Args:
            token_ids: int32 (B, S).
            positions: `Positions` of the source.

        Returns: (B, S, E).
        """
        raise NotImplementedError(f"{type(self).__name__} must define `encode`.")

    def decode(self, token_ids, positions, context, cache=None, training=None):
        """Decoder hidden states.

        Args:
            token_ids: int32 (B, T).
            positions: `Positions` of the target.
            context: `Context` of the source.
            cache: tuple of one `DecoderCache` a layer, or None.

        Returns: (hidden_states, cache): (B, T, E), and the tuple to pass to the next call (None if none was given).
        """
        raise NotImplementedError(f"{type(self).__name__} must define `decode`.")

    def logits(self, hidden_states):
        """Of the next token: (B, T, E) -> float32 (B, T, V)."""
        raise NotImplementedError(f"{type(self).__name__} must define `logits`.")

    def locate(self, token_ids, padding_mask=None, positions=None, cache=None):
        """`Positions` of a stack's tokens, as `kzoo.layers.locate` counts them; a family may count otherwise."""
        return locate(token_ids, padding_mask, positions, cache)

    def locate_source(self, inputs):
        """`Positions` of the encoder's tokens, from the inputs of `read_source`."""
        return self.locate(inputs[SOURCE], inputs.get("encoder_padding_mask"))

    def forward(self, inputs, cache=None, training=None):
        """The one pass for training, prefill, decode and export.

        Args:
            inputs: see the class; with a cache the source's ids are not needed, and `decoder_padding_mask` (B, C) is
                over all of the target's keys, as in `Backbone.forward`.
            cache: what `start_cache` or an earlier call returned: then the encoder does not run; or None.

        Returns: (hidden_states, cache): (B, T, E), and the tuple to pass to the next call (None if none was given).
        Raises: ValueError for ids beyond `max_sequence_length`.
        """
        self._check_length(inputs, TARGET, self.max_target_length)
        token_ids = inputs[TARGET]
        positions = self.locate(token_ids, inputs.get("decoder_padding_mask"), inputs.get("positions"),
                                cache and cache[0].own)
        if cache is None:
            hidden_states, source = self._read(inputs, training)
        else:  # only the number of the source's tokens and their padding still matter
            hidden_states, source = None, self.locate(cache[0].context.keys, inputs.get("encoder_padding_mask"))
        context = Context(hidden_states, positions._replace(key=source.key, padding_mask=source.padding_mask))
        return self.decode(token_ids, positions, context, cache, training)

    def read_source(self, inputs):
        """The encoder's output (B, S, E).

        Args:
            inputs: dict with `encoder_token_ids` (B, S) and optionally `encoder_padding_mask` (B, S).
        """
        return self._read(inputs, training=False)[0]

    def read_context(self, inputs, hidden_states=None):
        """Let each decoder layer read the encoder's output.

        Args:
            inputs: as in `read_source`.
            hidden_states: what `read_source` gave, then `encoder_token_ids` is not needed; None runs the encoder.

        Returns: tuple of one `ContextCache` a decoder layer.
        """
        if hidden_states is None:
            hidden_states, source = self._read(inputs, training=False)
        else:
            source = self.locate(hidden_states, inputs.get("encoder_padding_mask"))
        return tuple(block.cross_attention.read_context(hidden_states, source) for block in self.decoder_blocks)

    def start_cache(self, inputs, capacity=None, hidden_states=None):
        """What decoding begins with: the context, and an empty cache of the target.

        Args:
            inputs, hidden_states: as in `read_context`.
            capacity: slots for the target; None means a cache that grows.

        Returns: tuple of one `DecoderCache` a layer.
        """
        contexts = self.read_context(inputs, hidden_states)
        own = self.empty_cache(ops.shape(contexts[0].keys)[0], capacity)
        return tuple(DecoderCache(*layer) for layer in zip(own, contexts, strict=True))

    def _read(self, inputs, training):
        """(hidden_states, positions) of the source."""
        self._check_length(inputs, SOURCE, self.config.max_sequence_length)
        positions = self.locate_source(inputs)
        return self.encode(inputs[SOURCE], positions, training), positions

    def _check_length(self, inputs, name, longest):
        if longest is not None:
            same = longest == self.config.max_sequence_length
            check_length(inputs[name], longest, name, "max_sequence_length" if same else "max_target_length")

    def num_cached_layers(self):
        return self.config.layer_counts()["j"]

    def call(self, inputs, training=None):
        return self.forward(check_inputs(inputs, (SOURCE, TARGET)), training=training)[0]

    def compute_output_shape(self, input_shape):
        return (*input_shape[TARGET], self.config.hidden_dim)
