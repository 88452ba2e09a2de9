import warnings

import numpy as np
import pytest

from kzoo.tasks.options import GenerationOptions


@pytest.mark.parametrize("name, value, error, words", [
    ("max_new_tokens", 0, ValueError, "at least 1"),
    ("max_new_tokens", 2.5, TypeError, "must be int"),
    ("min_new_tokens", -1, ValueError, "between 0 and max_new_tokens=64"),
    ("min_new_tokens", 65, ValueError, "between 0 and max_new_tokens=64"),
    ("do_sample", 1, TypeError, "must be bool"),
    ("num_beams", 0, ValueError, "at least 1"),
    ("num_beams", True, TypeError, "must be int"),
    ("temperature", 0.0, ValueError, "above 0 .for the likeliest token use do_sample=False"),
    ("temperature", float("nan"), ValueError, "must be finite"),
    ("temperature", float("inf"), ValueError, "must be finite"),
    ("temperature", "hot", TypeError, "must be float"),
    ("top_k", -1, ValueError, "at least 0"),
    ("top_p", 0.0, ValueError, "above 0 and at most 1"),
    ("top_p", 1.0001, ValueError, "above 0 and at most 1"),
    ("repetition_penalty", 0, ValueError, "must be above 0"),
    ("no_repeat_ngram_size", -1, ValueError, "at least 0; 0 means no limit"),
    ("no_repeat_ngram_size", 2.5, TypeError, "must be int"),
    ("early_stopping", "never", TypeError, "must be bool"),
    ("length_penalty", 11.0, ValueError, "between -10 and 10"),
    ("seed", -3, ValueError, "at least 0"),
    ("stop", ("a", ""), ValueError, "at least one character"),
    ("stop", (3,), TypeError, "must be tuple"),
    ("eos_token_id", (5, -1), ValueError, "at least 0"),
    ("pad_token_id", -1, ValueError, "at least 0"),
    ("forced_eos_token_id", -1, ValueError, "at least 0, or None"),
    ("suppress_tokens", (5, -1), ValueError, "at least 0"),
    ("suppress_tokens", 5, TypeError, "must be tuple"),
])
def test_refuses_illegal_values_by_name(name, value, error, words):
    with pytest.raises(error, match=f"`{name}` of GenerationOptions.*{words}"):
        GenerationOptions(**{name: value})


def test_refuses_beams_that_sample():
    with pytest.raises(ValueError, match="`num_beams`.*do_sample"):
        GenerationOptions(num_beams=3, do_sample=True)


def test_suggests_the_closest_name():
    with pytest.raises(ValueError, match="Unknown generation option 'temprature'. Did you mean 'temperature'"):
        GenerationOptions.from_dict({"temprature": 0.5})


@pytest.mark.parametrize("options, words", [
    ({"temperature": 0.5}, "`temperature` has no effect without do_sample=True"),
    ({"top_k": 5}, "`top_k` has no effect"),
    ({"top_p": 0.5}, "`top_p` has no effect"),
    ({"length_penalty": 2.0}, "`length_penalty` has no effect without num_beams above 1"),
    ({"early_stopping": True}, "`early_stopping` has no effect without num_beams above 1"),
])
def test_warns_of_options_without_effect(options, words):
    with pytest.warns(UserWarning, match=words):
        GenerationOptions(**options)
    switch = {"num_beams": 2} if "num_beams" in words else {"do_sample": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GenerationOptions(**options, **switch)


def test_takes_whole_numbers_lists_and_numpy_scalars():
    options = GenerationOptions(do_sample=True, temperature=2, stop="end", seed=np.int64(7), eos_token_id=[3, 5])
    assert (options.temperature, options.stop, options.seed, options.eos_token_id) == (2.0, ("end",), 7, (3, 5))
    assert GenerationOptions.from_dict(options.to_dict()) == options


class _WithEos:
    eos_id = 11


@pytest.mark.parametrize("option, tokenizer, expected", [
    (None, None, ()), (None, _WithEos, (11,)), (7, _WithEos, (7,)), ((), _WithEos, ()), ((5, 3), None, (5, 3))])
def test_eos_comes_from_the_option_then_the_tokenizer(option, tokenizer, expected):
    assert GenerationOptions(eos_token_id=option).eos_ids(tokenizer) == expected
