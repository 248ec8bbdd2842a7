"""Token ids in, logits of the next token out, of any causal language model in `transformers`: what `Llama` is not made
for, and every model on another device than the CPU.
"""

import torch
from linear import dtype_of, linear
from transformers import DynamicCache


class General:
    """The model in memory, with the interface of `llama.Llama`. variant: int8 replaces linear layers on the CPU only."""

    def __init__(self, model, variant, device="cpu"):
        self.dtype = dtype_of(variant)
        self.model = model.to(self.dtype).eval()
        if variant == "int8":
            _quantise(self.model)
        self.model.to(device)
        self.device = device
        config = model.config.get_text_config()
        # What an architecture does to its logits lies in the part that is not asked here: Cohere, Granite, Gemma 2.
        self._scale = (getattr(config, "logit_scale", None) or 1) / (getattr(config, "logits_scaling", None) or 1)
        self._cap = getattr(config, "final_logit_softcapping", None)

    @property
    def hidden(self):
        """Components of a token's embedding."""
        return self.model.get_input_embeddings().embedding_dim

    def embed(self, ids):
        """Token ids int64 [n] to embeddings [n, hidden]."""
        return self.model.get_input_embeddings()(ids.to(self.device))

    def logits(self, states):
        """Last states [n, hidden] to float32 [n, vocabulary]."""
        logits = self.model.get_output_embeddings()(states).float().cpu() * self._scale
        return logits if self._cap is None else self._cap * torch.tanh(logits / self._cap)

    def begin(self, prompts, room, soft=None):  # noqa: ARG002
        """As `Llama.begin`; `room` is not needed here."""
        run = Run(self, prompts)
        return run, run.read(prompts, soft)[:, -1]

    def states(self, prompts, counts, soft=None):
        """As `Llama.states`."""
        states = Run(self, prompts).read(prompts, soft)
        return [row[-count:] for row, count in zip(states, counts, strict=True)]


class Run:
    """A batch on its way, padded on the left."""

    def __init__(self, general, prompts):
        self._general = general
        self._mask = torch.zeros((len(prompts), max(map(len, prompts))), dtype=torch.int64, device=general.device)
        for row, prompt in enumerate(prompts):
            self._mask[row, -len(prompt) :] = 1
        self._cache = DynamicCache(config=general.model.config)

    def read(self, prompts, soft):
        """Last states [rows, columns, hidden] of the prompts' tokens."""
        general, columns = self._general, self._mask.shape[1]
        ids = torch.zeros((len(prompts), columns), dtype=torch.int64, device=general.device)
        for row, prompt in enumerate(prompts):
            ids[row, -len(prompt) :] = torch.tensor(prompt)
        embedded = general.embed(ids.clamp(min=0))
        if soft is not None and any(s is not None for s in soft):
            embedded[ids < 0] = torch.cat([s for s in soft if s is not None]).to(embedded)
        return self._decode(embedded, self._mask.cumsum(1).sub(1).clamp(min=0))

    def next(self, tokens):
        """One token id per row to the last states [rows, hidden] after them."""
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(tokens), 1))], dim=1)
        embedded = self._general.embed(torch.tensor(tokens).unsqueeze(1))
        return self._decode(embedded, self._mask.sum(1, keepdim=True) - 1)[:, -1]

    def keep(self, rows):
        """Go on with these rows only."""
        kept = torch.tensor(rows, device=self._general.device)
        self._cache.batch_select_indices(kept)
        self._mask = self._mask[kept]

    def _decode(self, embedded, positions):
        decoder = self._general.model.get_decoder()
        return decoder(
            inputs_embeds=embedded, attention_mask=self._mask, position_ids=positions, past_key_values=self._cache
        ).last_hidden_state


class _Quantised(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self._product, self._bias, self._outputs = linear(layer.weight.detach(), "int8"), layer.bias, layer.out_features

    def forward(self, x):
        y = self._product(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], self._outputs)
        return y if self._bias is None else y + self._bias


def _quantise(module):
    for name, child in module.named_children():
        if isinstance(child, torch.nn.Linear):
            setattr(module, name, _Quantised(child))
        else:
            _quantise(child)
