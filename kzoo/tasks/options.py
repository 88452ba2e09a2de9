"""What a caller may ask of generation, checked once. Imports neither Keras nor TensorFlow."""
import dataclasses
import warnings

import numpy as np

from kzoo.config import Config
from kzoo.errors import unknown


@dataclasses.dataclass(frozen=True)
class GenerationOptions(Config):
    """How to continue a prompt; names and meanings are those of Hugging Face `generate`.

    Attributes:
        max_new_tokens: stop after this many tokens beyond the prompt.
        min_new_tokens: no end-of-sequence token before this many. Stop strings end a text at any length.
        do_sample: draw tokens; otherwise take the likeliest.
        num_beams: hypotheses kept by beam search; 1 = no beams. Not together with `do_sample`.
        temperature: divides the logits before drawing, above 0.
        top_k: draw among this many of the likeliest tokens; 0 = all.
        top_p: draw among the fewest tokens whose probabilities reach this, 0 < top_p <= 1.
        repetition_penalty: logits of tokens in the prompt or the text so far are divided by it if positive and
            multiplied by it if negative; 1 = none (Keskar et al. 2019, section 4.1, arXiv 1909.05858).
        no_repeat_ngram_size: no run of this many tokens occurs twice in a prompt and its continuation together; 0 = any
            may (Paulus et al. 2018, section 2.5, arXiv 1705.04304, with 3). Of a translation or a summary, the answer
            alone counts. It is not a ban on what the options force.
        length_penalty: a finished beam's log probability is divided by its number of new tokens to this power.
        early_stopping: end a beam search as soon as `num_beams` hypotheses are finished; otherwise when no running one
            could beat the worst of them, were it to end now.
        seed: row i of a batch draws from a stream made of (seed, i); None = a different draw at every call.
        stop: texts that end a continuation. The returned text ends before the stop text; returned ids hold the token
            that completed it.
        eos_token_id: id or ids that end a row; None = the tokenizer's; () = none.
        forced_eos_token_id: id of the last token of a row that does not end before; None = none.
        suppress_tokens: ids that are never generated.
        pad_token_id: fills the left of shorter prompts; it is masked, so any id serves.

    Raises: ValueError or TypeError naming the option; a warning for an option that has no effect.
    """
    max_new_tokens: int = 64
    min_new_tokens: int = 0
    do_sample: bool = False
    num_beams: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    length_penalty: float = 1.0
    early_stopping: bool = False
    seed: int | None = None
    stop: tuple[str, ...] = ()
    eos_token_id: int | tuple[int, ...] | None = None
    forced_eos_token_id: int | None = None
    suppress_tokens: tuple[int, ...] = ()
    pad_token_id: int = 0

    def __post_init__(self):
        for name in self.field_names():
            value = getattr(self, name)
            if isinstance(value, np.generic):  # a seed or an id taken out of an array
                object.__setattr__(self, name, value.item())
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        super().__post_init__()

    def check(self):
        self.require(self.max_new_tokens >= 1, "max_new_tokens", "must be at least 1")
        self.require(0 <= self.min_new_tokens <= self.max_new_tokens, "min_new_tokens",
                     f"must be between 0 and max_new_tokens={self.max_new_tokens}")
        self.require(self.num_beams >= 1, "num_beams", "must be at least 1")
        self.require(self.num_beams == 1 or not self.do_sample, "num_beams",
                     "must be 1 when do_sample=True: beams are searched, not drawn")
        self.require(self.temperature > 0, "temperature",
                     "must be above 0 (for the likeliest token use do_sample=False)")
        self.require(self.top_k >= 0, "top_k", "must be at least 0; 0 means all tokens")
        self.require(0 < self.top_p <= 1, "top_p", "must be above 0 and at most 1")
        self.require(self.repetition_penalty > 0, "repetition_penalty", "must be above 0")
        self.require(self.no_repeat_ngram_size >= 0, "no_repeat_ngram_size", "must be at least 0; 0 means no limit")
        self.require(-10 <= self.length_penalty <= 10, "length_penalty", "must be between -10 and 10")
        self.require(self.seed is None or self.seed >= 0, "seed", "must be at least 0, or None")
        self.require(all(self.stop), "stop", "must hold texts of at least one character")
        self.require(all(token_id >= 0 for token_id in self.eos_ids()), "eos_token_id", "must be at least 0")
        self.require((self.forced_eos_token_id or 0) >= 0, "forced_eos_token_id", "must be at least 0, or None")
        self.require(all(token_id >= 0 for token_id in self.suppress_tokens), "suppress_tokens", "must be at least 0")
        self.require(self.pad_token_id >= 0, "pad_token_id", "must be at least 0")
        self._warn_without_effect()

    def eos_ids(self, tokenizer=None):
        """The ids that end a row, as a tuple; `tokenizer` answers where the option is None."""
        eos = self.eos_token_id
        if eos is None:
            eos = getattr(tokenizer, "eos_id", None)
        return () if eos is None else eos if isinstance(eos, tuple) else (eos,)

    def named_ids(self):
        """Every id that an option names."""
        forced = () if self.forced_eos_token_id is None else (self.forced_eos_token_id,)
        return (*self.eos_ids(), *forced, *self.suppress_tokens, self.pad_token_id)

    def _warn_without_effect(self):
        idle = [] if self.do_sample else [(name, "do_sample=True") for name in ("temperature", "top_k", "top_p")]
        idle += [] if self.num_beams > 1 else [(name, "num_beams above 1") for name in ("length_penalty",
                                                                                        "early_stopping")]
        for name, wanted in idle:
            if getattr(self, name) != getattr(type(self), name):  # the class attribute is the default
                warnings.warn(f"`{name}` has no effect without {wanted}.", stacklevel=6)

    @classmethod
    def refuse_unknown(cls, values):
        for name in values:
            if name not in cls.field_names():
                raise ValueError(unknown("generation option", name, cls.field_names()))
