"""Rows of many lengths in batches of a few static shapes; which rows a batch has is a function of its number.

Every shape is compiled once, so there are few. Rows are sorted into buckets by length; a bucket's rows are filled up to
its bound. An epoch draws an order of all rows from the seed and its own number alone, cuts the rows of each bucket into
batches in that order, and draws the order of the batches. Sorted by length before they are cut, as fairseq does, the
rows of a batch have nearly the same length; which of these meet is still drawn.
"""
import numpy as np

MULTIPLE = 8      # of which every length of a shape is; also what matrix units like
SHORT = 64        # up to here half as much: for rows of 17 tokens, 24 would be a third too many
TOLERANCE = 1.05  # fewer shapes are taken where they cost no more than so many times the tokens


class Buckets:
    """Batches of rows with similar lengths.

    Args:
        lengths: (N, axes) int: how long each row is on each axis (one for most tasks; source and target for pairs).
        shapes: (buckets, axes) int, ascending; see `choose_shapes`.
        batch_size: rows in a batch, or None.
        batch_tokens: instead, tokens in a batch, filling included, on the longest axis.
        seed: of the order.
        sort: by the first axis, then the next ones, before batches are cut.

    Raises: ValueError if a row is longer than the longest shape, or `batch_tokens` too small for a row.
    """

    def __init__(self, lengths, shapes, batch_size, batch_tokens, seed, sort=False):
        self.shapes = np.asarray(shapes)
        self.seed = seed
        self.bucket = _bucket_of(lengths, self.shapes)
        longest = self.shapes.max(axis=1)
        if batch_tokens is not None and batch_tokens < longest[-1]:
            raise ValueError(f"`batch_tokens` ({batch_tokens}) must be at least the length of the longest row, filled "
                             f"up ({longest[-1]}).")
        self.sizes = np.full(len(longest), batch_size) if batch_tokens is None else batch_tokens // longest
        self._keys = np.asarray(lengths).T[::-1] if sort else None  # the last key is lexsort's first
        self._tokens = np.asarray(lengths).sum(axis=1)
        self._plans = {}  # number of an epoch -> plan, of the last two: one may be read ahead
        self.batches_per_epoch = len(self._plan(0)[0])

    def batch(self, number):
        """(shape, rows, count): a tuple, (B,) int, and how many of the rows count; the others only fill up."""
        epoch, place = divmod(number, self.batches_per_epoch)
        bucket, rows = self._plan(epoch)[0][place]
        return tuple(int(length) for length in self.shapes[bucket]), np.resize(rows, self.sizes[bucket]), len(rows)

    def tokens(self, batches):
        """How many tokens of real rows the first `batches` hold, over all axes."""
        epochs, rest = divmod(batches, self.batches_per_epoch)
        return int(epochs * self._tokens.sum() + self._plan(epochs)[1][rest])

    def _plan(self, epoch):
        """([(bucket, rows)] of an epoch's batches, tokens before each and after the last)."""
        plans = self._plans
        if epoch not in plans:
            random = np.random.default_rng([self.seed, epoch])
            order = random.permutation(len(self.bucket))
            if self._keys is not None:
                order = order[np.lexsort(self._keys[:, order])]  # stable: rows of the same lengths stay shuffled
            plan, left = [], order[:0]
            for bucket, size in enumerate(self.sizes):
                rows = np.concatenate([left, order[self.bucket[order] == bucket]])
                # What does not make a whole batch fits into the next, longer shape; only the last may be incomplete.
                whole = len(rows) if bucket == len(self.sizes) - 1 else len(rows) // size * size
                plan += [(bucket, rows[start:min(start + size, whole)]) for start in range(0, whole, size)]
                left = rows[whole:]
            plan = [plan[place] for place in random.permutation(len(plan))]
            tokens = np.cumsum([0, *(self._tokens[rows].sum() for _, rows in plan)])
            plans = {**dict(list(plans.items())[-1:]), epoch: (plan, tokens)}
            self._plans = plans  # in one assignment: two threads may read
        return plans[epoch]


def in_order(lengths, shapes, sizes, rows):
    """[(shape, rows)] that hold the chosen rows once each, short ones first, in batches of at most `sizes` rows."""
    bucket = _bucket_of(np.asarray(lengths)[rows], shapes)
    result = []
    for number, (shape, size) in enumerate(zip(shapes, sizes, strict=True)):
        here = rows[bucket == number]
        result += [(tuple(int(length) for length in shape), here[start:start + size])
                   for start in range(0, len(here), size)]
    return result


def choose_shapes(lengths, most, limits=None):
    """Few shapes into which rows fit with little filling.

    Args:
        lengths: (N, axes) int; the longest axis of a row decides its bucket.
        most: number of shapes, at most.
        limits: of each axis, which does not get longer; the rows must fit.

    Returns: int (buckets, axes), ascending: the shapes that need the fewest tokens, in multiples of 4 or 8; fewer than
        `most` where these come close to as good.
    """
    lengths = np.asarray(lengths)
    longest = _rounded(lengths.max(axis=1))
    values, counts = np.unique(longest, return_counts=True)
    bounds = _best_bounds(values, counts, most)
    bucket = np.searchsorted(bounds, longest)
    shapes = np.array([_rounded(lengths[bucket == number].max(axis=0)) for number in range(len(bounds))])
    shapes = np.maximum.accumulate(shapes, axis=0)  # what is left of a bucket goes into the next
    return shapes if limits is None else np.minimum(shapes, limits)


def _best_bounds(values, counts, most):
    """The bounds, of at most `most` buckets, with the least filling: dynamic programming over the distinct lengths."""
    total = np.concatenate([[0], np.cumsum(counts)])
    cost = values * total[1:]                # of the first i + 1 lengths, all in one bucket
    costs, cuts = [cost], []
    for _ in range(min(most, len(values)) - 1):
        # [i, j]: lengths up to i as well as can be, those above it up to j in one more bucket
        with_one_more = costs[-1][:, None] + values * (total[None, 1:] - total[1:, None])
        with_one_more = np.where(np.arange(len(values))[:, None] < np.arange(len(values)), with_one_more, cost[-1] + 1)
        cuts.append(with_one_more.argmin(axis=0))
        costs.append(with_one_more.min(axis=0))
    buckets = next(number for number, each in enumerate(costs) if each[-1] <= TOLERANCE * costs[-1][-1])
    places = [len(values) - 1]
    for cut in reversed(cuts[:buckets]):
        places.append(int(cut[places[-1]]))
    return values[places[::-1]]


def _bucket_of(lengths, shapes):
    """(N,): the first shape that a row fits into on every axis."""
    lengths, shapes = np.asarray(lengths), np.asarray(shapes)
    fits = (lengths[:, None, :] <= shapes[None]).all(axis=2)                              # (N, buckets)
    if not fits[:, -1].all():
        raise ValueError(f"A row of {lengths[~fits[:, -1]][0].tolist()} tokens fits into none of the shapes "
                         f"{shapes.tolist()}.")
    return fits.argmax(axis=1)


def _rounded(lengths):
    multiple = np.where(lengths <= SHORT, MULTIPLE // 2, MULTIPLE)
    return -(-lengths // multiple) * multiple
