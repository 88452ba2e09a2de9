"""tokenizer_config.json and its older companions: which special tokens there are, and what they are for."""
from kzoo import files
from kzoo.tokenizers import ROLES

# Role -> the names it goes by, where no tokenizer_config.json says: RoBERTa and T5, BERT, GPT-2. RoBERTa's vocabulary
# holds GPT-2's token, too, without a use for it.
CONVENTIONS = {
    "bos": ("<s>", "<|endoftext|>"),
    "eos": ("</s>", "<|endoftext|>"),
    "unk": ("<unk>", "[UNK]", "<|endoftext|>"),
    "pad": ("<pad>", "[PAD]"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "mask": ("<mask>", "[MASK]"),
}

FLAGS = ("add_bos_token", "add_eos_token", "add_prefix_space", "do_lower_case", "split_special_tokens", "strip_accents",
         "tokenize_chinese_chars")


def read(folder):
    """The settings in a folder: special_tokens_map.json, then tokenizer_config.json on top."""
    settings = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).exists():
            settings.update(_checked(files.read_json(folder / name), folder / name))
    if "added_tokens_decoder" not in settings and (folder / "added_tokens.json").exists():
        path = folder / "added_tokens.json"
        rows = {str(index): {"content": token, "special": True} for token, index in files.read_json(path).items()}
        settings.update(_checked({"added_tokens_decoder": rows}, path))
    return settings


def _checked(settings, path):
    """The settings with each token as a plain str; ValueError for an entry of another form."""
    settings = dict(settings)

    def require(condition, name, what):
        if not condition:
            raise ValueError(f"{path}: `{name}` must be {what}. Received: {settings[name]!r:.200}.")

    for name in [f"{role}_token" for role in ROLES if f"{role}_token" in settings]:
        token = content(settings[name])
        require(token is None or isinstance(token, str), name, "a token, or a dict with its `content`")
        settings[name] = token
    if "additional_special_tokens" in settings:
        extra = settings["additional_special_tokens"] or []
        require(isinstance(extra, list) and all(isinstance(content(token), str) for token in extra),
                "additional_special_tokens", "a list of tokens")
        settings["additional_special_tokens"] = [content(token) for token in extra]
    added = settings.get("added_tokens_decoder") or {}
    require(isinstance(added, dict) and all(index.isdecimal() for index in added)
            and all(isinstance(entry, dict) and isinstance(entry.get("content"), str) for entry in added.values()),
            "added_tokens_decoder", "a dict from ids to dicts with a `content`")
    require(isinstance(settings.get("tokenizer_class") or "", str), "tokenizer_class", "a str")
    require(type(settings.get("extra_ids", 0)) is int and 0 <= settings.get("extra_ids", 0) < 10000, "extra_ids",
            "a number of tokens")
    for name in FLAGS:
        require(settings.get(name) in (None, True, False), name, "true, false or null")
    return settings


def common(settings, kind):
    """The arguments of `Tokenizer` that are the same for every kind of file."""
    split = settings.get("split_special_tokens")
    keep = ("model_max_length", "chat_template", "extra_ids")
    return {"recognises_special_tokens": kind == "wordpiece" if split is None else not split,
            "settings": {name: settings[name] for name in keep if name in settings}}


def class_name(settings):
    """The declared tokenizer_class, or "" where it tells nothing."""
    name = settings.get("tokenizer_class") or ""
    return "" if name in ("PreTrainedTokenizerFast", "TokenizersBackend") else name


def content(token):
    """A token is written as itself or as {"content": token, ...}."""
    return token.get("content") if isinstance(token, dict) else token


def roles(settings, vocabulary, candidates, folder):
    """role -> token: what the settings say, and the conventions among `candidates`."""
    found = {}
    for role in ROLES:
        token = settings.get(f"{role}_token")
        if token is not None and token not in vocabulary:
            raise ValueError(f"{folder} declares {token!r} as `{role}_token` (in tokenizer_config.json or "
                             "special_tokens_map.json), but the vocabulary does not hold it.")
        if token is None and f"{role}_token" not in settings:
            token = next((name for name in CONVENTIONS[role] if name in candidates and name in vocabulary), None)
        if token is not None:
            found[role] = token
    return found


def add_tokens(fast, settings, folder):
    """The tokens that were added to a vocabulary after its training, at the ids they were given."""
    import tokenizers
    declared = settings.get("added_tokens_decoder") or {}
    for index, entry in sorted((int(index), entry) for index, entry in declared.items()):
        token = entry["content"]
        if fast.token_to_id(token) is None:
            fast.add_tokens([tokenizers.AddedToken(token, special=entry.get("special", False), normalized=False)])
        if fast.token_to_id(token) != index:
            raise ValueError(f"{folder} gives the added token {token!r} the id {index} (in tokenizer_config.json or "
                             f"added_tokens.json), but by the vocabulary it is {fast.token_to_id(token)}.")
