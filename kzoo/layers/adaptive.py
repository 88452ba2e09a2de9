"""Embedding and softmax of large vocabularies: rare tokens in clusters of their own, with narrower vectors.

Tokens are numbered by frequency. `cutoffs` are the numbers at which a cluster ends and the next, rarer one begins.
"""
import keras
from keras import ops


def cluster_sizes(vocabulary_size, cutoffs):
    """How many tokens each cluster has, the most frequent ones first."""
    ends = (*cutoffs, vocabulary_size)
    return tuple(end - begin for begin, end in zip((0, *cutoffs), ends, strict=True))


@keras.saving.register_keras_serializable("kzoo")
class AdaptiveEmbedding(keras.layers.Layer):
    """One vector a token, sqrt(E) times as long as its row; a cluster's rows are projected to the model's width.

    With `width_divisor` 1 all rows are of one width: one table, and one projection where that is not E.

    Args:
        vocabulary_size: V.
        embedding_dim: width of the first cluster's rows.
        hidden_dim: E.
        cutoffs: where clusters end, ascending; empty for one cluster.
        width_divisor: each cluster's rows are so many times narrower than those of the one before.
        initializer: of rows and projections.

    Attributes:
        tables: (rows, width) variables.
        projections: (E, width) variables, one a table, or none.

    Source: Baevski and Auli 2018, section 3 (arXiv 1809.10853); as Dai et al. 2019 use it (arXiv 1901.02860).
    """

    def __init__(self, vocabulary_size, embedding_dim, hidden_dim, cutoffs=(), width_divisor=1,
                 initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.embedding_dim = embedding_dim
        self.hidden_dim = hidden_dim
        self.cutoffs = tuple(cutoffs)
        self.width_divisor = width_divisor
        self.initializer = keras.initializers.get(initializer)

    def table_shapes(self):
        """(rows, width) of each table."""
        if self.width_divisor == 1:
            return [(self.vocabulary_size, self.embedding_dim)]
        return [(size, self.embedding_dim // self.width_divisor ** cluster)
                for cluster, size in enumerate(cluster_sizes(self.vocabulary_size, self.cutoffs))]

    def build(self, input_shape):
        def add(name, shape):
            return self.add_weight(name=name, shape=shape, initializer=self.initializer.clone())

        self.tables, self.projections = [], []
        for cluster, (rows, width) in enumerate(self.table_shapes()):
            self.tables.append(add(f"embeddings_{cluster}", (rows, width)))
            if self.width_divisor > 1 or width != self.hidden_dim:
                self.projections.append(add(f"projection_{cluster}", (self.hidden_dim, width)))

    def call(self, token_ids):
        """int32 (B, T) -> (B, T, E)."""
        tables = [ops.cast(table, self.compute_dtype) for table in self.tables]
        if len(tables) == 1:
            vectors = self._vectors(0, ops.take(tables[0], token_ids, axis=0))
        else:  # every token is looked up in every cluster, which keeps shapes static, and kept from its own
            vectors, begin = 0.0, 0
            for cluster, table in enumerate(tables):
                rows = table.shape[0]
                index = token_ids - begin
                inside = (index >= 0) & (index < rows)                                     # (B, T)
                # Not a clip: of whole numbers from 0 to 6 TFLite makes a ReLU6, which it has for others alone.
                found = self._vectors(cluster, ops.take(table, ops.where(inside, index, 0), axis=0))
                vectors = vectors + ops.where(ops.expand_dims(inside, -1), found, 0.0)     # (B, T, E)
                begin += rows
        return vectors * self.hidden_dim ** 0.5

    def _vectors(self, cluster, rows):
        """(B, T, width) -> (B, T, E)."""
        if not self.projections:
            return rows
        return multiply(rows, ops.transpose(ops.cast(self.projections[cluster], self.compute_dtype)))

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.hidden_dim)

    def get_config(self):
        return {**super().get_config(), "vocabulary_size": self.vocabulary_size, "embedding_dim": self.embedding_dim,
                "hidden_dim": self.hidden_dim, "cutoffs": self.cutoffs, "width_divisor": self.width_divisor,
                "initializer": keras.initializers.serialize(self.initializer)}


@keras.saving.register_keras_serializable("kzoo")
class AdaptiveSoftmax(keras.layers.Layer):
    """Log-probabilities of all tokens, through those of clusters; of a single cluster logits.

    The first cluster's softmax has one more class for each rarer cluster c: log p(token) is that class's
    log-probability plus the token's within the cluster. So several clusters give numbers whose exponentials add up to
    1; a softmax leaves them as they are, and losses and sampling that expect logits give the same with either. All
    tokens are computed, in training as well: that costs time and memory for V, where the paper's loss visits the
    clusters that a batch has targets in.

    Args:
        embedding: the `AdaptiveEmbedding` whose clusters these are.
        tie_embeddings: read out with the embedding's rows.
        tie_projections: project with the embedding's projections, but for that of the first cluster.
        initializer: of what is not tied.

    Source: Grave et al. 2017, section 4 (arXiv 1609.04309); clusters are numbered upwards, as in the checkpoints of
        transformers and TensorFlow. The original PyTorch code numbers them from the end.
    """

    def __init__(self, embedding, tie_embeddings=True, tie_projections=True, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding
        self.tie_embeddings = tie_embeddings
        self.tie_projections = tie_projections
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape=None):
        def add(name, shape, initializer=None):
            return self.add_weight(name=name, shape=shape, initializer=initializer or self.initializer.clone())

        embedding = self.embedding
        if not embedding.built:
            embedding.build(None)
        clusters, width = len(embedding.cutoffs) + 1, embedding.embedding_dim
        self.tables, self.biases, self.projections = [], [], []
        for number, shape in enumerate(embedding.table_shapes()):
            tied = self.tie_embeddings
            self.tables.append(embedding.tables[number] if tied else add(f"embeddings_{number}", shape))
            self.biases.append(add(f"bias_{number}", shape[:1], "zeros"))
        for cluster in range(clusters if embedding.projections else 0):
            shared = embedding.projections[min(cluster, len(embedding.projections) - 1)]
            tied = self.tie_projections and cluster > 0
            self.projections.append(shared if tied else add(f"projection_{cluster}", tuple(shared.shape)))
        self.cluster_embeddings = self.cluster_bias = None
        if clusters > 1:
            self.cluster_embeddings = add("cluster_embeddings", (clusters - 1, width), "zeros")
            self.cluster_bias = add("cluster_bias", (clusters - 1,), "zeros")

    def call(self, hidden_states):
        """(B, T, E) -> float32 (B, T, V)."""
        clusters = self._clusters()
        rows, bias = clusters[0]
        if len(clusters) == 1:
            return self._scores(hidden_states, 0, rows, bias)
        rows = ops.concatenate([rows, self._cast(self.cluster_embeddings)], axis=0)
        bias = ops.concatenate([bias, self._cast(self.cluster_bias)], axis=0)
        first = self._log_softmax(hidden_states, 0, rows, bias)                      # (B, T, V_0 + clusters - 1)
        size = self.embedding.cutoffs[0]
        parts = [first[..., :size]]
        for cluster, (rows, bias) in enumerate(clusters[1:], 1):
            within = self._log_softmax(hidden_states, cluster, rows, bias)           # (B, T, V_c)
            parts.append(within + first[..., size + cluster - 1:size + cluster])
        return ops.concatenate(parts, axis=-1)

    def _clusters(self):
        """(rows, bias) of each cluster."""
        tables, biases = [self._cast(table) for table in self.tables], [self._cast(bias) for bias in self.biases]
        sizes = cluster_sizes(self.embedding.vocabulary_size, self.embedding.cutoffs)
        if len(tables) == len(sizes):
            return list(zip(tables, biases, strict=True))
        ends = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
        return [(tables[0][begin:end], biases[0][begin:end]) for begin, end in zip(ends, ends[1:], strict=False)]

    def _scores(self, hidden_states, cluster, rows, bias):
        if self.projections:
            hidden_states = multiply(hidden_states, self._cast(self.projections[cluster]))
        return ops.cast(multiply(hidden_states, ops.transpose(rows)) + bias, "float32")

    def _log_softmax(self, *arguments):
        return ops.log_softmax(self._scores(*arguments), axis=-1)

    def _cast(self, weight):
        return ops.cast(weight, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.embedding.vocabulary_size)

    def get_config(self):
        return {**super().get_config(), "embedding": keras.saving.serialize_keras_object(self.embedding),
                "tie_embeddings": self.tie_embeddings, "tie_projections": self.tie_projections,
                "initializer": keras.initializers.serialize(self.initializer)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "embedding": keras.saving.deserialize_keras_object(config["embedding"])})


def multiply(x, matrix):
    """(B, T, in) times (in, out), as one product of rows; see `kzoo.layers.projection`."""
    rows = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), matrix)
    return ops.reshape(rows, (-1, ops.shape(x)[1], matrix.shape[-1]))
