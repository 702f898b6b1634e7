"""Writes a language model of half a megabyte, for tests that need a real server and no download.

Its weights are random, so that it writes noise until it is cut off; or they are set so that it always gives the same
answer. This imports nothing of the package.
"""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

WIDTH, DEPTH, HEADS, INNER = 64, 2, 4, 128
END = "<|im_end|>"

#: ChatML without tools.
PLAIN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

#: ChatML with tools, in the Hermes form. After a tool result the answer begins on a new line.
TOOLS = (
    "{% set line = '\n' %}"
    "{% if tools %}<|im_start|>system\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content + line + line }}{% endif %}"
    "You can call these tools:\n<tools>{% for tool in tools %}{{ line + (tool | tojson) }}{% endfor %}\n</tools>\nby\n"
    '<tool_call>\n{"name": <its name>, "arguments": <its arguments>}\n</tool_call><|im_end|>\n{% endif %}'
    "{% for message in messages %}"
    "{% if message.role == 'tool' %}"
    "<|im_start|>user\n<tool_response>\n{{ message.content }}\n</tool_response><|im_end|>\n"
    "{% elif not (tools and loop.first and message.role == 'system') %}"
    "<|im_start|>{{ message.role + line + (message.content or '') }}"
    "{% for call in message.tool_calls or [] %}{{ line }}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ line if messages[-1].role == 'tool' else '' }}{% endif %}"
)


def write_tiny_gguf(
    path: Path,
    *,
    seed: int = 0,
    chat_template: str | None = None,
    context: int = 2048,
    says: str | None = None,
    says_after_tool: str | None = None,
    loops: bool = False,
    control: Sequence[str] = (),
) -> Path:
    """Write the model and return its path.

    `says` is its answer to everything (again and again if it `loops`), `says_after_tool` its answer to a tool result
    (with the template `TOOLS`); no word may occur twice in them. `control` are more tokens that the tokenizer treats as
    special wherever they occur.
    """
    random = np.random.default_rng(seed)
    letters = [bytes([byte]) for byte in range(256)]
    answers = {b"\n": _pieces(says), b"\n\n": _pieces(says_after_tool)}  # by the token that the prompt ends with
    noise = [f" {number}".encode() for number in range(100)] if says is None else []
    words = [*noise, *(piece for pieces in answers.values() for piece in pieces if piece not in letters)]
    if len(set(words)) != len(words):
        raise ValueError("no word may occur twice")
    tokens = [*letters, b"\n\n", b"<|im_start|>", END.encode(), *(each.encode() for each in control), *words]
    place = {token: index for index, token in enumerate(tokens)}

    # The next token is the one most similar to the last: the layers between add little.
    embedding = random.standard_normal((len(tokens), WIDTH))
    output = np.zeros((len(tokens), WIDTH))
    if says is None:
        for token in (*letters[33:127], *noise):  # anything that can be printed, and blanks
            output[place[token]] = random.standard_normal(WIDTH)
    else:
        for opening, pieces in answers.items():
            for before, after in itertools.pairwise(
                [opening, *pieces, pieces[0] if loops and pieces else END.encode()]
            ):
                output[place[after]] += embedding[place[before]]
    special = {b"<|im_start|>", END.encode(), *(each.encode() for each in control)}
    _write(path, tokens, special, embedding, output, random, chat_template or PLAIN, context)
    return path


def _pieces(text: str | None) -> list[bytes]:
    return [word.encode() for word in re.findall(r"\s*\S+", text or "")]


def _spelled(token: bytes) -> str:
    """Spell bytes as GPT-2's vocabulary does: invisible ones become letters from U+0100 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    unseen = {byte: chr(256 + index) for index, byte in enumerate(byte for byte in range(256) if byte not in seen)}
    return "".join(unseen.get(byte, chr(byte)) for byte in token)


def _write(path, tokens, special, embedding, output, random, chat_template, context) -> None:
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(DEPTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token.decode() if token in special else _spelled(token) for token in tokens])
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(_spelled(b"\n\n"))])
    writer.add_bos_token_id(tokens.index(b"<|im_start|>"))
    writer.add_eos_token_id(tokens.index(END.encode()))
    writer.add_add_bos_token(value=False)
    writer.add_chat_template(chat_template)

    def add(name: str, *shape: int, scale: float = 0.02) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * scale).astype(np.float32))

    writer.add_tensor("token_embd.weight", embedding.astype(np.float32))
    writer.add_tensor("output.weight", output.astype(np.float32))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(DEPTH):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(WIDTH, np.float32))
        for projection in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{projection}.weight", WIDTH, WIDTH)
        add(f"blk.{layer}.ffn_gate.weight", INNER, WIDTH)
        add(f"blk.{layer}.ffn_up.weight", INNER, WIDTH)
        add(f"blk.{layer}.ffn_down.weight", WIDTH, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
