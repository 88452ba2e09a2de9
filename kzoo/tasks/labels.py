"""The names of a classifier's classes."""


def check_labels(labels):
    """`labels` as a tuple, in the order of the classes.

    Raises: TypeError if they are no list of texts; ValueError for fewer than two, or one that is there twice.
    """
    if isinstance(labels, (list, tuple)) and all(isinstance(label, str) for label in labels):
        labels = tuple(labels)
    else:
        raise TypeError("`labels` must name the classes, for example labels=('negative', 'positive'). "
                        f"Received: {labels!r}.")
    if len(labels) < 2:
        raise ValueError(f"`labels` must name at least two classes. Received: {labels!r}.")
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ValueError(f"`labels` names {twice!r} more than once. Received: {labels!r:.200}.")
    return labels
