"""Texts in, unit-length sentence embeddings out: the text encoder itself, without Triton.

Loads any Hugging Face encoder folder (AutoModel) in bfloat16 or float32, or an ONNX graph of one in 8 bits. A text's
vector is the same to the last bit whatever else is in its batch. Torch: every text passes the model in the shape that its
own length asks for (ROWS texts, padded to the next of LENGTHS), because matrix products of another shape round in another
way. 8 bits: every text passes alone, because a batch shares the scales that its activations are quantised with.
"""

import numpy as np
from weights import folder_of, onnx_session, read_json, version_of

ROWS = 8
"""Texts that pass the model together; missing ones are filled up. 16 is 8% faster in bulk, half as fast for one text."""
LENGTHS = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192]
"""Tokens per text, padding included."""
VARIANTS = ("bf16", "int8", "fp32")


class Encoder:
    """A sentence encoder in memory.

    model_dir: folder or hub name; empty: the demo's. variant: of VARIANTS. max_tokens: longer texts are cut; 0: what the
    model was trained for. device: of torch; the int8 variant knows the CPU only.
    """

    def __init__(self, model_dir="", variant="bf16", threads=1, max_tokens=0, device="cpu"):
        if variant not in VARIANTS:
            raise ValueError(f"variant is {variant!r}: {', '.join(VARIANTS)} are possible")
        folder = folder_of(model_dir, "text_encoder_int8" if variant == "int8" else "text_encoder")
        self._model = _Onnx(folder, threads) if variant == "int8" else _Torch(folder, variant, threads, device)
        self._first_token = read_json(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token", False)
        trained_for = read_json(folder / "sentence_bert_config.json").get("max_seq_length")
        positions = read_json(folder / "config.json").get("max_position_embeddings", 512)
        self.longest = min(self._model.max_length, positions, LENGTHS[-1])
        self.max_tokens = min(max_tokens or trained_for or self.longest, self.longest)
        # 8 bits are weights of their own, full precision is the same ones.
        self.version = version_of(folder, "fp32" if variant == "fp32" else "")

    def embed(self, texts):
        """texts: list of n > 0 strings. Returns float32 [n, d], rows of unit length."""
        tokens = self._model.tokens(texts, self.max_tokens)
        result = None
        for group, length in self._model.groups([len(ids) for ids in tokens], self.longest):
            part = self._model.pooled([tokens[i] for i in group], length, self._first_token)
            if result is None:
                result = np.empty((len(texts), part.shape[1]), dtype=np.float32)
            result[group] = part
        return result


class _Torch:
    def __init__(self, folder, variant, threads, device):
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self._torch, self._device = torch, device
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self.max_length = self._tokenizer.model_max_length
        dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[variant]
        self._model = AutoModel.from_pretrained(folder, dtype=dtype).eval().to(device)

    def tokens(self, texts, most):
        """Lists of at least one id and at most `most`."""
        nothing = [self._tokenizer.unk_token_id or 0]  # an empty text, where the tokenizer adds no marks of its own
        return [ids or nothing for ids in self._tokenizer(texts, truncation=True, max_length=most)["input_ids"]]

    def groups(self, lengths, longest):
        """Yields (numbers of texts, tokens that each is padded to)."""
        by_length = {}
        for i, length in enumerate(lengths):
            padded = min(next(n for n in LENGTHS if n >= length), longest)
            by_length.setdefault(padded, []).append(i)
        for length, rows in by_length.items():
            for i in range(0, len(rows), ROWS):
                yield rows[i : i + ROWS], length

    def pooled(self, tokens, length, first_token):
        """tokens: up to ROWS lists of up to `length` ids. Returns float32 [len(tokens), d]."""
        torch = self._torch
        ids = torch.full((ROWS, length), self._tokenizer.pad_token_id or 0, dtype=torch.int64)
        mask = torch.zeros((ROWS, length), dtype=torch.int64)
        for row in range(ROWS):
            text = tokens[row % len(tokens)]
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            if first_token:
                found = hidden[:, 0]
            else:
                weights = mask.unsqueeze(-1).float()
                found = (hidden * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(found, dim=1)[: len(tokens)].cpu().numpy()


class _Onnx:
    def __init__(self, folder, threads):
        from tokenizers import Tokenizer

        file = next((f for f in (folder / "model.onnx", folder / "onnx" / "model.onnx") if f.is_file()), None)
        if file is None:
            raise FileNotFoundError(f"variant int8 needs an ONNX graph, and {folder} has no model.onnx")
        # Without transformers, which would bring torch along: 0.7 GB of memory for nothing.
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self.max_length = read_json(folder / "tokenizer_config.json").get("model_max_length", LENGTHS[-1])
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

    def pooled(self, tokens, _length, first_token):
        """tokens: one list of ids. Returns float32 [1, d]."""
        ids = np.array(tokens)
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        given = {name: values[name].astype(kind) for name, kind in self._inputs.items()}
        hidden = self._session.run(None, given)[0]
        found = hidden[:, 0] if first_token else hidden.mean(axis=1)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
