"""Texts in, unit-length sentence embeddings out: the text encoder itself, without Triton.

Loads any Hugging Face encoder folder (AutoModel) in bfloat16, float16 or float32, of a CLIP-like one the text tower with
its projection; or an ONNX graph of one in 8 bits. A text's vector is the same to the last bit whatever else is in its
batch. Torch: every text passes the model in the shape that its own length asks for (ROWS texts, padded to the next of
LENGTHS), because matrix products of another shape round in another way. 8 bits: every text passes alone, because a batch
shares the scales that its activations are quantised with.
"""

import numpy as np
from weights import folder_of, onnx_session, pretrained, read_json, read_model, version_of

ROWS = 8
"""Texts that pass the model together; missing ones are filled up. 16 is 8% faster in bulk, half as fast for one text."""
LENGTHS = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192]
"""Tokens per text, padding included."""
VARIANTS = ("bf16", "fp16", "fp32", "int8")
POOLINGS = ("mean", "first", "last")
"""Of the last layer's states: their mean, the first token's, the last token's."""


class Encoder:
    """A sentence encoder in memory.

    model_dir: folder or hub name; empty: the demo's. variant: of VARIANTS. max_tokens: longer texts are cut; 0: what the
    model was trained for. device: of torch; the int8 variant knows the CPU only. pooling: of POOLINGS; empty: what the
    folder says, else the mean. A CLIP-like model has its own.
    """

    def __init__(self, model_dir="", variant="bf16", threads=1, max_tokens=0, device="cpu", pooling=""):
        if variant not in VARIANTS:
            raise ValueError(f"variant is {variant!r}: {', '.join(VARIANTS)} are possible")
        folder = folder_of(model_dir, "text_encoder_int8" if variant == "int8" else "text_encoder")
        own = _pooling(folder)
        self._pooling = pooling or own
        if self._pooling not in POOLINGS:
            raise ValueError(f"pooling is {self._pooling!r}: {', '.join(POOLINGS)} are possible")
        self._model = _Onnx(folder, threads) if variant == "int8" else _Torch(folder, variant, threads, device)
        if self._model.projects and pooling:
            raise ValueError(f"{folder} is a CLIP-like model, which pools in its own way: leave pooling empty")
        trained_for = read_json(folder / "sentence_bert_config.json").get("max_seq_length")
        self.longest = min(self._model.longest, LENGTHS[-1])
        self.max_tokens = min(max_tokens or trained_for or self.longest, self.longest)
        # 8 bits are weights of their own; other precisions and another pooling make other vectors of the same ones.
        made = [variant] if variant in {"fp16", "fp32"} else []
        made += [self._pooling] if self._pooling != own else []
        self.version = version_of(folder, "-".join(made))

    def embed(self, texts):
        """texts: list of n > 0 strings. Returns float32 [n, d], rows of unit length."""
        tokens = self._model.tokens(texts, self.max_tokens)
        result = None
        for group, length in self._model.groups([len(ids) for ids in tokens], self.longest):
            part = self._model.pooled([tokens[i] for i in group], length, self._pooling)
            if result is None:
                result = np.empty((len(texts), part.shape[1]), dtype=np.float32)
            result[group] = part
        return result


def _pooling(folder):
    """What a folder of sentence-transformers was trained with; "mean" where it says nothing.

    Raises ValueError on layers after pooling, and on poolings, that are not made here.
    """
    after = [str(part.get("type", "")).rpartition(".")[2] for part in read_json(folder / "modules.json") or ()]
    if other := set(after) - {"Transformer", "Pooling", "Normalize"}:
        raise ValueError(f"{folder} has a layer that is not known here: {', '.join(sorted(other))} in modules.json")
    told = read_json(folder / "1_Pooling" / "config.json")
    modes = {"cls_token": "first", "mean_tokens": "mean", "lasttoken": "last"}
    chosen = [
        name.removeprefix("pooling_mode_") for name, on in told.items() if name.startswith("pooling_mode_") and on
    ]
    if len(chosen) > 1 or set(chosen) - set(modes):
        raise ValueError(f"{folder} pools by {', '.join(chosen)}, which is not known here")
    return modes[chosen[0]] if chosen else "mean"


class _Torch:
    def __init__(self, folder, variant, threads, device):
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self._torch, self._device = torch, device
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[variant]
        found, _ = read_model(AutoModel, folder, dtype=dtype)
        self._tokenizer = pretrained(AutoTokenizer, folder)
        found.config.use_cache = False  # a decoder keeps nothing for a next token here
        self.projects = hasattr(found, "get_text_features")
        if self.projects:
            found.vision_model = None  # the other tower is the image encoder's
        elif found.config.is_encoder_decoder:
            found = found.get_encoder()
        self._model = found.to(device)
        self.longest = min(self._tokenizer.model_max_length, _positions(found))
        # SigLIP was trained on texts padded to the full length, and reads the padding.
        self._padded = found.config.model_type.startswith("siglip")

    def tokens(self, texts, most):
        """Lists of at least one id and at most `most`."""
        nothing = [self._tokenizer.unk_token_id or 0]  # an empty text, where the tokenizer adds no marks of its own
        return [ids or nothing for ids in self._tokenizer(texts, truncation=True, max_length=most)["input_ids"]]

    def groups(self, lengths, longest):
        """Yields (numbers of texts, tokens that each is padded to)."""
        by_length = {}
        for i, length in enumerate(lengths):
            padded = longest if self._padded else min(next(n for n in LENGTHS if n >= length), longest)
            by_length.setdefault(padded, []).append(i)
        for length, rows in by_length.items():
            for i in range(0, len(rows), ROWS):
                yield rows[i : i + ROWS], length

    def pooled(self, tokens, length, pooling):
        """tokens: up to ROWS lists of up to `length` ids. Returns float32 [len(tokens), d]."""
        torch = self._torch
        ids = torch.full((ROWS, length), self._tokenizer.pad_token_id or 0, dtype=torch.int64)
        mask = torch.zeros((ROWS, length), dtype=torch.int64)
        for row in range(ROWS):
            text = tokens[row % len(tokens)]
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        given = {"input_ids": ids.to(self._device)}
        if not self._padded:
            given["attention_mask"] = mask.to(self._device)
        with torch.inference_mode():
            if self.projects:
                found = self._model.get_text_features(**given)
                found = getattr(found, "pooler_output", found).float()
            else:
                found = _pool(self._model(**given).last_hidden_state.float(), given["attention_mask"], pooling)
            return torch.nn.functional.normalize(found, dim=1)[: len(tokens)].cpu().numpy()


def _pool(hidden, mask, pooling):
    """States float32 [rows, tokens, d] and mask int64 [rows, tokens], padded on the right, to [rows, d]."""
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[range(len(hidden)), mask.sum(1) - 1]
    weights = mask.unsqueeze(-1).float()
    return (hidden * weights).sum(1) / weights.sum(1)


def _positions(found):
    """Tokens that the model has positions for."""
    positions = getattr(found.config.get_text_config(), "max_position_embeddings", None) or 512
    for name, layer in found.named_modules():
        # RoBERTa and its kin begin to count behind the padding's own position.
        if name.endswith("position_embeddings") and getattr(layer, "padding_idx", None) is not None:
            return positions - layer.padding_idx - 1
    return positions


class _Onnx:
    projects = False

    def __init__(self, folder, threads):
        from tokenizers import Tokenizer

        file = next((f for f in (folder / "model.onnx", folder / "onnx" / "model.onnx") if f.is_file()), None)
        if file is None:
            raise FileNotFoundError(f"variant int8 needs an ONNX graph, and {folder} has no model.onnx")
        # Without transformers, which would bring torch along: 0.7 GB of memory for nothing.
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self.longest = min(
            read_json(folder / "tokenizer_config.json").get("model_max_length", LENGTHS[-1]),
            read_json(folder / "config.json").get("max_position_embeddings", 512),
        )
        self._session = onnx_session(file, threads)
        kinds = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
        self._inputs = {given.name: kinds[given.type] for given in self._session.get_inputs()}

    def tokens(self, texts, most):
        """Lists of at least one id and at most `most`."""
        self._tokenizer.enable_truncation(most)
        return [found.ids or [0] for found in self._tokenizer.encode_batch(texts)]

    def groups(self, lengths, _longest):
        """Yields (number of a text, its tokens)."""
        for i, length in enumerate(lengths):
            yield [i], length

    def pooled(self, tokens, _length, pooling):
        """tokens: one list of ids. Returns float32 [1, d]."""
        ids = np.array(tokens)
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        given = {name: values[name].astype(kind) for name, kind in self._inputs.items()}
        hidden = self._session.run(None, given)[0]
        found = {"mean": hidden.mean(axis=1), "first": hidden[:, 0], "last": hidden[:, -1]}[pooling]
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
