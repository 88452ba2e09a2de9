"""What the contenders of fit_encoders.py share beyond fitting.py: their data."""


def classified_rows(sizes):
    """int32 (N, T) ids and (N,) labels, the same for everybody."""
    import numpy as np

    random = np.random.default_rng(0)
    rows = sizes.steps * sizes.batch
    return (random.integers(0, sizes.vocabulary, (rows, sizes.block)).astype("int32"),
            random.integers(0, 2, rows).astype("int32"))


def pairs(sizes):
    """int32 (N, T) source ids, decoder inputs and targets, the same for everybody."""
    import numpy as np

    ids = np.random.default_rng(0).integers(0, sizes.vocabulary, (3, sizes.steps * sizes.batch, sizes.block))
    return tuple(ids.astype("int32"))


def seq2seq_inputs(sizes):
    """The dict that Keras models of pairs take, and the targets; nothing is padded."""
    import numpy as np

    source, decoder, targets = pairs(sizes)
    return {"encoder_token_ids": source, "encoder_padding_mask": np.ones(source.shape, bool),
            "decoder_token_ids": decoder, "decoder_padding_mask": np.ones(source.shape, bool)}, targets


def encoder_inputs(sizes):
    """The same for models of single rows."""
    import numpy as np

    token_ids, labels = classified_rows(sizes)
    return {"token_ids": token_ids, "segment_ids": np.zeros_like(token_ids),
            "padding_mask": np.ones(token_ids.shape, bool)}, labels
