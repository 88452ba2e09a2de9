"""The .litertlm bundle of a TFLite decoder: model, tokenizer and token ids in one file for phones."""
import pathlib
import tempfile

METADATA = "llm_metadata.pb"


def write_litertlm(model_file, tokenizer_folder, path, stop_ids, max_num_tokens, start_id=None):
    """Write one file that the LiteRT-LM engine opens.

    Args:
        model_file: a .tflite file with `prefill_<T>` and `decode`.
        tokenizer_folder: where tokenizer.json is, or tokenizer.model for SentencePiece.
        path: the file to write.
        start_id: put before every prompt; None puts nothing.
        stop_ids: each ends a text; at least one, or the engine refuses the file.
        max_num_tokens: the context, prompt included.

    Raises: FileNotFoundError if there is no tokenizer; ImportError naming the extra.
    """
    try:
        import litert_lm_builder as builder
        from litert_lm_builder.runtime.proto import llm_metadata_pb2
    except ImportError as error:
        raise ImportError(f"Writing .litertlm needs litert-lm-builder ({error}). "
                          "Install it with: pip install 'kzoo[export]'.") from error
    folder = pathlib.Path(tokenizer_folder)
    metadata = llm_metadata_pb2.LlmMetadata(max_num_tokens=max_num_tokens, supports_thinking=False,
                                            supports_function_calling=False)
    metadata.llm_model_type.generic_model.SetInParent()
    # The engine wraps a conversation's text in these; a plain language model wants it as it is.
    metadata.jinja_prompt_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    if start_id is not None:
        metadata.start_token.token_ids.ids.append(start_id)
    for stop_id in stop_ids:
        metadata.stop_tokens.add().token_ids.ids.append(stop_id)
    with tempfile.TemporaryDirectory(dir=pathlib.Path(path).parent) as work:
        place = pathlib.Path(work, METADATA)
        place.write_bytes(metadata.SerializeToString())
        file = builder.LitertLmFileBuilder()
        file.add_system_metadata(builder.Metadata(key="Authors", value="kzoo", dtype=builder.DType.STRING))
        file.add_llm_metadata(str(place))
        if (folder / "tokenizer.model").is_file():
            file.add_sentencepiece_tokenizer(str(folder / "tokenizer.model"))
        elif (folder / "tokenizer.json").is_file():
            file.add_hf_tokenizer(str(folder / "tokenizer.json"))
        else:
            raise FileNotFoundError(f"{folder} has neither tokenizer.json nor tokenizer.model.")
        file.add_tflite_model(str(model_file), builder.TfLiteModelType.PREFILL_DECODE)
        with open(path, "wb") as stream:
            file.build(stream)
