"""The transformers library's BERT or Marian under torch.compile: python fit_encoder_torch.py KIND SIZES THREADS"""
import sys
import time

import fitting
import fitting_encoders
import torch
from serving import serve
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification, MarianConfig, MarianMTModel

kind, sizes, threads = sys.argv[1], fitting.read_sizes(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(0)


def tensors(arrays):
    return [torch.from_numpy(array).long() for array in arrays]


if kind == "encoder":
    model = BertForSequenceClassification(BertConfig(
        vocab_size=sizes.vocabulary, num_hidden_layers=sizes.layers, num_attention_heads=sizes.heads,
        hidden_size=sizes.width, intermediate_size=4 * sizes.width, hidden_dropout_prob=sizes.dropout,
        attention_probs_dropout_prob=sizes.dropout, num_labels=2))
    token_ids, labels = tensors(fitting_encoders.classified_rows(sizes))
    columns = (token_ids, labels)

    def loss(token_ids, labels):
        return functional.cross_entropy(step_model(input_ids=token_ids).logits, labels)
else:
    model = MarianMTModel(MarianConfig(
        vocab_size=sizes.vocabulary, d_model=sizes.width, encoder_layers=sizes.layers, decoder_layers=sizes.layers,
        encoder_attention_heads=sizes.heads, decoder_attention_heads=sizes.heads, encoder_ffn_dim=4 * sizes.width,
        decoder_ffn_dim=4 * sizes.width, activation_function="relu", scale_embedding=True, dropout=sizes.dropout,
        max_position_embeddings=512, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0))
    columns = tensors(fitting_encoders.pairs(sizes))

    def loss(source, decoder, targets):
        logits = step_model(input_ids=source, decoder_input_ids=decoder, use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

model.train()
step_model = torch.compile(model)
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)


def measure():
    start = time.perf_counter()
    for first in range(0, len(columns[0]), sizes.batch):
        optimizer.zero_grad(set_to_none=True)
        loss(*(column[first:first + sizes.batch] for column in columns)).backward()
        optimizer.step()
    return {"tokens_per_second": sizes.tokens / (time.perf_counter() - start)}


measure()
serve("peers", ["torch", "transformers", "numpy"], measure,
      parameters=sum(weight.numel() for weight in model.parameters()))
