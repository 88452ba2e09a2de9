"""Labels are a list of different texts, two at least."""
import pytest

from kzoo.tasks.labels import check_labels


def test_a_list_becomes_a_tuple():
    assert check_labels(["no", "yes"]) == check_labels(("no", "yes")) == ("no", "yes")


@pytest.mark.parametrize("labels, error, words", [
    (None, TypeError, "`labels` must name the classes, for example labels=.'negative', 'positive'.. Received: None"),
    (3, TypeError, "`labels` must name the classes"),
    ("no", TypeError, "`labels` must name the classes"),
    ([1, 2], TypeError, "`labels` must name the classes"),
    (["yes"], ValueError, "`labels` must name at least two classes. Received: .'yes'"),
    (["a", "b", "a"], ValueError, "`labels` names 'a' more than once"),
])
def test_what_does_not_fit_is_refused(labels, error, words):
    with pytest.raises(error, match=words):
        check_labels(labels)
