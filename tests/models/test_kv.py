"""KV-cache bytes per token, by hand from the architecture of each kind of attention."""

from __future__ import annotations

from simio.models import preset
from simio.records.model import KvLayer, kv_bytes


def test_grouped_queries_keep_two_values_per_kv_head_and_dimension() -> None:
    architecture = preset("llama-3.1-8b").architecture
    assert kv_bytes(architecture, 1) == 32 * 2 * 8 * 128 * 2  # 128 KiB a token in FP16


def test_multi_query_attention_keeps_one_head() -> None:
    assert preset("gemma-2b").architecture.kv_layers == (KvLayer(2 * 256),) * 18


def test_five_of_six_layers_of_gemma_3_slide() -> None:
    layers = preset("gemma-3-1b").architecture.kv_layers
    assert [layer.window for layer in layers[:6]] == [512] * 5 + [None]
    assert kv_bytes(preset("gemma-3-1b").architecture, 10_000) == 2 * 512 * (22 * 512 + 4 * 10_000)


def test_gpt_oss_slides_on_every_second_layer() -> None:
    windows = [layer.window for layer in preset("gpt-oss-20b").architecture.kv_layers]
    assert windows == [128, None] * 12


def test_smallthinker_sees_everything_on_the_first_layer_of_four() -> None:
    windows = [layer.window for layer in preset("smallthinker-21b-a3b").architecture.kv_layers]
    assert windows[:5] == [None, 4096, 4096, 4096, None]


def test_latent_attention_keeps_576_values_a_layer() -> None:
    layers = preset("deepseek-v3").architecture.kv_layers
    assert layers == (KvLayer(576),) * 61


def test_sparse_attention_adds_the_key_of_the_indexer_where_there_is_one() -> None:
    layers = preset("glm-5.2").architecture.kv_layers
    assert [layer.n_values for layer in layers[:7]] == [704, 704, 704, 576, 576, 576, 704]


def test_a_gated_delta_net_keeps_a_state_of_fixed_size() -> None:
    layers = preset("qwen3.5-0.8b").architecture.kv_layers
    state = (3 * (2 * 16 + 16) * 128 + 16 * 128 * 128) * 4
    assert layers[:4] == (KvLayer(0, None, state),) * 3 + (KvLayer(2 * 2 * 256),)


def test_a_short_convolution_keeps_its_last_inputs() -> None:
    layers = preset("lfm2-1.2b").architecture.kv_layers
    assert layers[0] == KvLayer(0, None, 2 * 2048 * 4)
    assert layers[2] == KvLayer(2 * 8 * 64)
    assert sum(layer.n_values > 0 for layer in layers) == 6


def test_a_state_space_keeps_its_convolution_and_a_matrix_per_head() -> None:
    layers = preset("granite-4.0-h-tiny").architecture.kv_layers
    assert [i for i, layer in enumerate(layers) if layer.n_values] == [5, 15, 25, 35]
    assert layers[5] == KvLayer(2 * 4 * 128)
    assert layers[0] == KvLayer(0, None, (3 * (3072 + 2 * 128) + 48 * 64 * 128) * 4)


def test_the_last_layers_of_gemma_4_e2b_read_the_cache_of_earlier_ones() -> None:
    layers = preset("gemma-4-e2b").architecture.kv_layers
    assert [layer.n_values for layer in layers[:5]] == [512] * 4 + [1024]  # the full layer has heads of 512
    assert all(layer.n_values == 0 for layer in layers[15:])


def test_kimi_linear_attends_on_every_fourth_layer_and_the_last() -> None:
    layers = preset("kimi-linear-48b-a3b").architecture.kv_layers
    assert [i for i, layer in enumerate(layers) if layer.n_values] == [3, 7, 11, 15, 19, 23, 26]
    assert layers[0].fixed_bytes == (3 * 3 * 4096 + 32 * 128 * 128) * 4


def test_kimi_k3_has_69_linear_and_24_latent_layers() -> None:
    layers = preset("kimi-k3").architecture.kv_layers
    assert sum(layer.n_values == 576 for layer in layers) == 24
    assert sum(layer.n_values == 0 for layer in layers) == 69


def test_compressed_attention_keeps_one_entry_per_group_of_tokens_and_a_window() -> None:
    layers = preset("deepseek-v4-flash").architecture.kv_layers
    window = 128 * 512 * 2
    assert layers[0] == KvLayer(0, None, window)
    assert layers[2] == KvLayer(512 // 4 + 128 // 4, None, window)
    assert layers[3] == KvLayer(512 // 128, None, window)
