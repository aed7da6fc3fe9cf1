"""Steps in pieces: the bits of transformers' own steps, less memory, and everything else as it was."""

import pytest
import torch
from transformers import CLIPVisionConfig, DynamicCache, LlamaConfig
from transformers.models.clip.modeling_clip import CLIPMLP
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, LlamaRotaryEmbedding

from xverse_v import elementwise
from xverse_v.elementwise import CachedClipMLP, CachedLlamaAttention, CachedLlamaMLP, rotate, use_cached_steps

LLAMA = LlamaConfig(
    hidden_size=64, intermediate_size=160, num_attention_heads=4, num_key_value_heads=2, attn_implementation="sdpa"
)
CLIP = CLIPVisionConfig(hidden_size=48, intermediate_size=96)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Few tokens are many pieces, the last of them smaller."""
    monkeypatch.setattr(elementwise, "PIECE", 640)


@pytest.fixture
def tokens():
    torch.manual_seed(0)
    return torch.randn(2, 37, 64)


def positions(count: int, start: int = 0, rows: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    places = torch.arange(start, start + count)[None].repeat(rows, 1) + 3 * torch.arange(rows)[:, None]
    cos, sin = LlamaRotaryEmbedding(LLAMA)(torch.zeros(1), places)
    return cos, sin


def both(made: torch.nn.Module, swapped: type, run):
    """What transformers computes and what the pieces do, in inference mode."""
    with torch.inference_mode():
        expected = run(made)
        use_cached_steps(made)
        assert type(made) is swapped
        return expected, run(made)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_the_decoders_mlp_keeps_every_bit(tokens, dtype, activation):
    config = LlamaConfig(hidden_size=64, intermediate_size=160, hidden_act=activation)
    x = tokens.to(dtype)
    before = x.clone()
    expected, found = both(LlamaMLP(config).to(dtype), CachedLlamaMLP, lambda mlp: mlp(x))
    assert torch.equal(found, expected) and torch.equal(x, before)


def test_the_towers_mlp_keeps_every_bit():
    torch.manual_seed(1)
    x = torch.randn(3, 17, 48)
    before = x.clone()
    expected, found = both(CLIPMLP(CLIP), CachedClipMLP, lambda mlp: mlp(x))
    assert torch.equal(found, expected) and torch.equal(x, before)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_attention_keeps_every_bit_with_and_without_a_cache(tokens, rows, implementation):
    config = LlamaConfig.from_dict(LLAMA.to_dict())
    config._attn_implementation = implementation
    given = tokens[:1].repeat(2, 1, 1)

    def run(attention):
        cache, found = DynamicCache(), []
        for start, stop in ((0, 20), (20, 37)):
            turns = positions(stop - start, start, rows)
            found.append(attention(given[:, start:stop], turns, None, cache)[0])
        return [*found, attention(given, positions(37, 0, rows))[0], cache.layers[0].keys]

    expected, found = both(LlamaAttention(config, 0), CachedLlamaAttention, run)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_turn_is_the_one_of_the_formula():
    torch.manual_seed(2)
    states = torch.randn(2, 37, 4, 16)
    cos, sin = positions(37, 5, 2)
    x, y = states.double().chunk(2, dim=-1)
    c, s = (part.double()[:, :, None, :8] for part in (cos, sin))
    rotate(states, cos, sin)
    torch.testing.assert_close(states.double(), torch.cat([x * c - y * s, y * c + x * s], -1), rtol=1e-5, atol=1e-6)


def test_gradients_short_inputs_and_compilers_are_left_to_transformers(tokens, monkeypatch):
    mlp = LlamaMLP(LLAMA)
    use_cached_steps(mlp)
    mlp(tokens).sum().backward()
    assert mlp.gate_proj.weight.grad is not None
    monkeypatch.setattr(elementwise, "_pieces", None)  # whoever comes here fails
    with torch.inference_mode():
        mlp(tokens[:1, :9])
        with pytest.raises(TypeError):
            mlp(tokens)


def test_subclasses_and_names_stay():
    class Own(LlamaMLP):
        pass

    made = torch.nn.ModuleList([Own(LLAMA), LlamaMLP(LLAMA), LlamaAttention(LLAMA, 0), torch.nn.Linear(2, 2)])
    names = list(made.state_dict())
    use_cached_steps(made)
    assert [type(m) for m in made] == [Own, CachedLlamaMLP, CachedLlamaAttention, torch.nn.Linear]
    assert list(made.state_dict()) == names
