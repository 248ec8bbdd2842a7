"""Token ids in, logits of the next token out: Llama's decoder for the CPU, several times as fast as the general one.

Rows of a batch share the keys and values of the tokens that they all begin with; those are computed once and kept for
the next batch. Prompts lie without padding in the matrix products; products of one input are one product. Architecture:
Llama 2 (Touvron et al. 2023), with grouped queries, rotary positions (Su et al. 2021) and RMSNorm.
"""

import torch
from linear import dtype_of, linear
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

POSITIONS = 4096
"""Tokens of a prompt and its text that there are rotations for, at least."""
LEAST_SHARED = 8
"""Fewer tokens are not worth keeping."""
MOST_SHARED = 8
"""Beginnings that are kept."""


def fits(config):
    """Whether a model of Hugging Face's is one that `Llama` computes."""
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type == "llama"
        and config.hidden_act == "silu"
        and not getattr(config, "attention_bias", False)
        and not getattr(config, "mlp_bias", False)
        and rope.get("rope_type", "default") == "default"
    )


class Llama:
    """The decoder in memory. model: LlamaForCausalLM, whose weights are copied. variant: of `linear.VARIANTS`."""

    def __init__(self, model, variant):
        config = model.config
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.dtype = dtype_of(variant)
        self._epsilon = config.rms_norm_eps
        kept = torch.float32 if variant == "fp32" else torch.bfloat16
        self._embedding = model.get_input_embeddings().weight.detach().to(kept)
        self._layers = [_Layer(layer, variant, self.dtype) for layer in model.model.layers]
        self._norm = model.model.norm.weight.detach().to(self.dtype)
        self._head = linear(model.get_output_embeddings().weight.detach(), variant)
        self._cos, self._sin = _rotation(
            config.rope_parameters["rope_theta"], self.width, max(config.max_position_embeddings, POSITIONS)
        )
        self._cos, self._sin = self._cos.to(self.dtype), self._sin.to(self.dtype)
        self._kept = []  # (ids, [(keys, values) per layer]), the latest used first
        self._last = []

    @property
    def hidden(self):
        """Components of a token's embedding."""
        return self._embedding.shape[1]

    def embed(self, ids):
        """Token ids int64 [n] to embeddings [n, hidden]."""
        return self._embedding[ids].to(self.dtype)

    def logits(self, states):
        """Last states [n, hidden] to float32 [n, vocabulary]."""
        return self._head(states).float()

    def begin(self, prompts, room, soft=None):
        """Read prompts.

        prompts: lists of at least one token id; a negative one stands for a row of `soft`. room: tokens that may follow.
        soft: per prompt [k, hidden] or None, in the place of its k negative ids.
        Returns (Run, last states [n, hidden] of the prompts' last tokens).
        """
        run, states = self._read(prompts, [1] * len(prompts), room, soft)
        lasts = torch.tensor([len(states_of) for states_of in run.unshared]).cumsum(0) - 1
        return run, states[lasts]

    def states(self, prompts, counts, soft=None):
        """Per prompt the last states [n, hidden] of its last n tokens, `counts` of them."""
        run, states = self._read(prompts, counts, 0, soft)
        parts = states.split([len(rest) for rest in run.unshared])
        return [part[-count:] for part, count in zip(parts, counts, strict=True)]

    def _read(self, prompts, counts, room, soft):
        keys, shared = self._begin_with(prompts, counts)
        run = Run(self, [prompt[shared:] for prompt in prompts], shared, room)
        if shared:
            for layer, (key, value) in enumerate(keys):
                run.keys[layer][:, :, :shared], run.values[layer][:, :, :shared] = key, value
        flat = torch.tensor([token for rest in run.unshared for token in rest])
        x = self.embed(flat.clamp(min=0))
        if soft is not None and any(s is not None for s in soft):
            x[flat < 0] = torch.cat([s for s in soft if s is not None]).to(self.dtype)
        states = rms_norm(self._decode(x, run.positions, run.attend_all), self._norm.shape, self._norm, self._epsilon)
        self._keep_shared(prompts, run)
        return run, states

    def _begin_with(self, prompts, counts):
        """Kept keys and values of what all prompts begin with, and how many tokens that is; `counts` are left to be read."""
        room = min(len(prompt) - count for prompt, count in zip(prompts, counts, strict=True))
        found = [min(room, *(_common(ids, prompt) for prompt in prompts)) for ids, _ in self._kept]
        most = max(found, default=0)
        if most < LEAST_SHARED:
            return [], 0
        best = self._kept.pop(found.index(most))
        self._kept.insert(0, best)
        return [(keys[:, :, :most], values[:, :, :most]) for keys, values in best[1]], most

    def _keep_shared(self, prompts, run):
        """Keep what these prompts have in common, or a single one with that before, where it is more than was found."""
        first = prompts[0]
        common = min(_common(first, prompt) for prompt in (prompts[1:] or [self._last]))
        self._last = first
        if common < run.shared + LEAST_SHARED:
            return
        start = run.start(0)
        end = start + common - run.shared
        layers = [
            tuple(torch.cat([t[:1, :, : run.shared], t[:1, :, start:end]], dim=2) for t in pair)
            for pair in zip(run.keys, run.values, strict=True)
        ]
        self._kept = [(first[:common], layers), *self._kept][:MOST_SHARED]

    def _decode(self, x, positions, attend):
        """Embeddings [n, hidden] of tokens at int64 [n] positions to their last states, before the last norm."""
        n, q, kv = len(x), self.heads, self.groups
        cos, sin = self._cos[positions].unsqueeze(1), self._sin[positions].unsqueeze(1)
        for number, layer in enumerate(self._layers):
            all_ = layer.qkv(rms_norm(x, layer.norm_1.shape, layer.norm_1, self._epsilon)).view(n, q + 2 * kv, -1)
            turned = all_[:, : q + kv]
            # Half of the components change places; their sign is in `sin`.
            turned = torch.addcmul(turned * cos, turned.roll(self.width // 2, -1), sin)
            seen = attend(number, turned[:, :q], turned[:, q:], all_[:, q + kv :])
            x = x + layer.out(seen.reshape(n, -1))
            gate, up = layer.gate_up(rms_norm(x, layer.norm_2.shape, layer.norm_2, self._epsilon)).chunk(2, dim=-1)
            x = x + layer.down(silu(gate) * up)
        return x


class Run:
    """The keys and values of a batch: [rows, groups, columns, width] per layer.

    Columns: what all rows share, then the rest of each prompt, aligned on the right, then what is generated.
    """

    def __init__(self, llama, unshared, shared, room):
        self._llama, self.unshared, self.shared = llama, unshared, shared
        lengths = torch.tensor([len(rest) for rest in unshared])
        rows, self._widest = len(unshared), int(lengths.max())
        self._column = shared + self._widest  # the next one to be written
        shape = (rows, llama.groups, self._column + room, llama.width)
        self.keys = [torch.zeros(shape, dtype=llama.dtype) for _ in llama._layers]
        self.values = [torch.zeros(shape, dtype=llama.dtype) for _ in llama._layers]
        self._row = torch.arange(rows).repeat_interleave(lengths)
        self._place = torch.cat([torch.arange(self._widest - n, self._widest) for n in lengths.tolist()])
        self._gap = self._widest - lengths  # columns between the shared ones and a row's own
        self.positions = shared + self._place - self._gap[self._row]
        self._next = shared + lengths
        self._mask = self._blank(self._column + room)

    def start(self, row):
        """First column of a row's own tokens."""
        return self.shared + int(self._gap[row])

    def _blank(self, columns):
        """What is added to attention: -inf over the columns that a row does not have; [rows, 1, 1, columns]."""
        mask = torch.zeros((len(self._gap), 1, 1, columns), dtype=self._llama.dtype)
        for row, gap in enumerate(self._gap.tolist()):
            mask[row, :, :, self.shared : self.shared + gap] = float("-inf")
        return mask

    def attend_all(self, layer, queries, keys, values):
        """Attention of the prompts' tokens: queries [n, heads, width], keys and values [n, groups, width]."""
        llama, columns = self._llama, self.shared + self._place
        self.keys[layer][self._row, :, columns], self.values[layer][self._row, :, columns] = keys, values
        rows, groups, each = len(self._gap), llama.groups, llama.heads // llama.groups
        padded = queries.new_zeros((rows, self._widest, groups, each, llama.width))
        padded[self._row, self._place] = queries.view(-1, groups, each, llama.width)
        # The heads of a group stand below each other, as if they were more tokens.
        padded = padded.permute(0, 2, 3, 1, 4).reshape(rows, groups, each * self._widest, llama.width)
        if layer == 0:
            self._causal = self._causal_mask().repeat(1, 1, each, 1)
        known = slice(0, self._column)
        seen = scaled_dot_product_attention(
            padded, self.keys[layer][:, :, known], self.values[layer][:, :, known], attn_mask=self._causal
        )
        seen = seen.view(rows, groups, each, self._widest, llama.width)
        return seen.permute(0, 3, 1, 2, 4)[self._row, self._place]

    def _causal_mask(self):
        """[rows, 1, widest, columns]. A place that holds nothing sees the shared or its own column: no 0/0."""
        mask = self._mask[:, :, :, : self._column].repeat(1, 1, self._widest, 1)
        later = torch.ones((self._widest, self._widest), dtype=torch.bool).triu(1)
        mask[:, :, :, self.shared :].masked_fill_(later, float("-inf"))
        own = torch.arange(self._widest)
        mask[:, :, own, self.shared + own] = 0.0
        return mask

    def next(self, tokens):
        """One token id per row to the last states [rows, hidden] after them."""
        llama, column = self._llama, self._column
        self._column += 1
        mask = self._mask[:, :, :, : self._column] if self._gap.any() else None

        def attend(layer, queries, keys, values):
            self.keys[layer][:, :, column], self.values[layer][:, :, column] = keys, values
            known = slice(0, column + 1)
            grouped = queries.reshape(len(queries), llama.groups, -1, llama.width)
            return scaled_dot_product_attention(
                grouped, self.keys[layer][:, :, known], self.values[layer][:, :, known], attn_mask=mask
            )

        x = llama._decode(llama.embed(torch.tensor(tokens)), self._next, attend)
        self._next = self._next + 1
        return rms_norm(x, llama._norm.shape, llama._norm, llama._epsilon)

    def keep(self, rows):
        """Go on with these rows only."""
        kept = torch.tensor(rows)
        self.keys, self.values = [k[kept] for k in self.keys], [v[kept] for v in self.values]
        self._gap, self._next, self._mask = self._gap[kept], self._next[kept], self._mask[kept]


class _Layer:
    def __init__(self, layer, variant, dtype):
        attention, mlp = layer.self_attn, layer.mlp
        heads = [p.weight.detach() for p in (attention.q_proj, attention.k_proj, attention.v_proj)]
        self.qkv = linear(torch.cat(heads), variant)
        self.out = linear(attention.o_proj.weight.detach(), variant)
        self.gate_up = linear(torch.cat([mlp.gate_proj.weight.detach(), mlp.up_proj.weight.detach()]), variant)
        self.down = linear(mlp.down_proj.weight.detach(), variant)
        self.norm_1 = layer.input_layernorm.weight.detach().to(dtype)
        self.norm_2 = layer.post_attention_layernorm.weight.detach().to(dtype)


def _rotation(theta, width, positions):
    """Cosine and signed sine float32 [positions, width] of the rotary embedding."""
    speeds = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), speeds)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)


def _common(one, other):
    """How many tokens both begin with; those that stand for a vector are never the same."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b or a < 0:
            break
        count += 1
    return count
