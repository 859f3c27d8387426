"""Forward pass of a frozen encoder for all runs of a pack at once.

transformers provides the modules and weights; this file calls them over a flat matrix of tokens
without padding. transformers' own forward cannot do this: its `sdpa` and `eager` attention silently
let packed sequences attend to each other. The head reads only the first token of a sequence, so
the last layer's queries, attention output and feed-forward are computed for that token alone. This
is exact.

Shape suffixes: T rows (tokens, or first tokens only), D width, N examples,
R rows of the tables of relative positions, B rows of one table.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora.model import attention, autograd, dropout, frozen, layers, modules, relative_positions
from lora.model.architecture import Architecture
from lora.model.collate import SITES_PER_LAYER, Batch
from lora.model.lora_layer import LoRA
from lora.model.modules import LayerModules
from lora.model.pretrained import BaseModel
from lora.model.run_biases import RunBiases


class Encoder:
    """A frozen encoder with what the runs of a pack add to it.

    Args:
        base: An encoder of transformers.
        lora_layers: LoRA pairs by "<layer>.<letter>", layers from 0.
        bottlenecks: Bottleneck adapters by "<layer>.<sublayer>", `attention` or `ffn`.
        lora_dropout: Dropout of the LoRA input of each run.
        biases: Biases that runs have in place of the base model's.
    """

    def __init__(
        self,
        base: BaseModel,
        lora_layers: dict[str, LoRA],
        bottlenecks: dict[str, layers.Bottleneck],
        lora_dropout: list[float],
        biases: RunBiases,
    ) -> None:
        self.base, self.biases = base, biases
        self.architecture = modules.architecture_of(base)
        self.projection = modules.embedding_projection_of(base, self.architecture)
        self.convolution = modules.convolution_of(base, self.architecture)
        self.layers = [
            _Layer(one, index, self.architecture, lora_layers, bottlenecks, lora_dropout, biases)
            for index, one in enumerate(modules.layers_of(base))
        ]

    def encode(self, batch: Batch) -> Tensor:
        """Return the hidden state of every example's first token after the last layer.

        Returns:
            Hidden states, [N, D], in the dtype of the base model.
        """
        table_RD = self._position_tables(batch)
        x_TD = modules.embed(self.base, batch.ids_T, batch.types_T, batch.positions_T)
        x_TD = self.biases.add(modules.embedding_norm_of(self.base), x_TD, batch.segments)
        keys = None if batch.dropout_keys is None else batch.dropout_keys[0]
        x_TD = dropout.drop(x_TD, self.architecture.hidden_dropout, keys)
        if self.projection is not None:
            x_TD = frozen.linear(self.projection, x_TD)
            x_TD = self.biases.add(self.projection, x_TD, batch.segments)
        embedded_TD = x_TD
        for layer in self.layers:
            first_only = layer is self.layers[-1]
            x_TD = layer.forward(x_TD, batch, first_only, table_RD)
            if self.convolution is not None and layer is self.layers[0]:
                x_TD = self._convolve(embedded_TD, x_TD, batch, first_only)
        return x_TD

    def _position_tables(self, batch: Batch) -> Tensor | None:
        """Return the table of relative positions once for each run, [R, D]; None without one."""
        relative, rows = self.architecture.relative, batch.positions
        if relative is None or rows is None:
            return None
        table_BD = modules.position_table(self.base, relative)
        table_RD = table_BD.repeat(len(rows.segments.slices), 1)
        norm = modules.position_norm_of(self.base, relative)
        return table_RD if norm is None else self.biases.add(norm, table_RD, rows.segments)

    def _convolve(
        self, embedded_TD: Tensor, layer_TD: Tensor, batch: Batch, first_only: bool
    ) -> Tensor:
        """Add the convolution of the embeddings to the output of the first layer."""
        names, modules, spaced = self.architecture.convolution, self.convolution, batch.spaced
        assert names is not None and modules is not None and spaced is not None
        keys = None if batch.dropout_keys is None else batch.dropout_keys[-3]
        place_T = spaced.place_T
        rows = embedded_TD.new_zeros(spaced.count, embedded_TD.shape[1])
        rows = rows.index_copy(0, place_T, embedded_TD)
        if first_only:
            place_T, keys = place_T[batch.first_N], None if keys is None else keys[batch.first_N]
        side = names.kernel // 2
        window = [autograd.take(rows, place_T + offset) for offset in range(-side, side + 1)]
        weight = modules.convolution.weight.permute(0, 2, 1).flatten(1)  # [D, kernel * D]
        assert modules.convolution.bias is not None
        out_TD = frozen.product(weight, modules.convolution.bias, torch.cat(window, dim=1))
        segments = batch.example_segments if first_only else batch.segments
        out_TD = self.biases.add(modules.convolution, out_TD, segments)
        out_TD = dropout.drop(out_TD, self.architecture.hidden_dropout, keys)
        out_TD = modules.norm(layer_TD + modules.activation(out_TD))
        return self.biases.add(modules.norm, out_TD, segments)


@dataclass(frozen=True)
class _Layer:
    """One layer of the encoder with the LoRA pairs and adapters of all runs."""

    modules: LayerModules
    index: int
    architecture: Architecture
    lora_layers: dict[str, LoRA]
    bottlenecks: dict[str, layers.Bottleneck]
    lora_dropout: list[float]
    biases: RunBiases

    def forward(
        self, x_TD: Tensor, batch: Batch, first_only: bool, table_RD: Tensor | None
    ) -> Tensor:
        """Return the layer's output for all tokens, or for first tokens only.

        Args:
            x_TD: Hidden states of all tokens.
            batch: The sequences.
            first_only: Whether first tokens only have a result.
            table_RD: Tables of relative positions of all runs, if the model has them.
        """
        site = 1 + self.index * SITES_PER_LAYER
        keys = batch.dropout_keys
        keys = None if keys is None else keys[site : site + SITES_PER_LAYER]
        segments = batch.segments
        key_TD = self._project("k", x_TD, segments, keys)
        value_TD = self._project("v", x_TD, segments, keys)
        if first_only:
            x_TD = autograd.take(x_TD, batch.first_N)
            segments = batch.example_segments
            keys = None if keys is None else keys[:, batch.first_N]
        query_TD = self._project("q", x_TD, segments, keys)
        positions = None if table_RD is None else self._project_positions(table_RD, batch)
        context_TD = self._attend(query_TD, key_TD, value_TD, positions, batch, first_only)
        out_TD = self._project("o", context_TD, segments, keys)
        attention_key, ffn_key = (None, None) if keys is None else (keys[0], keys[1])
        if not self.architecture.family.drops_attention_output:
            attention_key = None
        attended_TD = self._finish(
            "attention", self.modules.attention_norm, out_TD, x_TD, segments, attention_key
        )
        inner = self.modules.activation(self._linear(self.modules.inner, attended_TD, segments))
        out_TD = self._linear(self.modules.outer, inner, segments)
        return self._finish("ffn", self.modules.ffn_norm, out_TD, attended_TD, segments, ffn_key)

    def _project_positions(self, table_RD: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the projected tables of relative positions of all runs by kind, [R, D].

        A table that is projected as keys and queries are has their LoRA pairs, so it is each run's
        own. Dropout also makes it so.
        """
        rows, relative = batch.positions, self.architecture.relative
        assert rows is not None and relative is not None
        keys, site = rows.dropout_keys, 1 + self.index * SITES_PER_LAYER
        keys = None if keys is None else keys[site : site + SITES_PER_LAYER]
        x_RD = dropout.drop(
            table_RD, self.architecture.hidden_dropout, None if keys is None else keys[0]
        )
        own, letters = self.modules.positions, {"c2p": "k", "p2c": "q"}
        return {
            kind: self._linear(own[kind], x_RD, rows.segments)
            if kind in own
            else self._project(letters[kind], x_RD, rows.segments, keys)
            for kind in relative.kinds
        }

    def _linear(self, linear: nn.Linear, x_TD: Tensor, segments: layers.Segments) -> Tensor:
        """Apply a frozen linear layer."""
        return self.biases.add(linear, frozen.linear(linear, x_TD), segments)

    def _project(
        self,
        letter: str,
        x_TD: Tensor,
        segments: layers.Segments,
        keys: Tensor | None,
    ) -> Tensor:
        """Apply a frozen linear layer and the LoRA pairs beside it."""
        linear = self.modules.projections[letter]
        lora = self.lora_layers.get(f"{self.index}.{letter}")
        if lora is None:
            return self._linear(linear, x_TD, segments)
        dropped_TD = x_TD
        if keys is not None and any(self.lora_dropout):
            row_keys = keys[2 + "qkvo".index(letter)]
            dropped_TD = torch.cat(
                [
                    dropout.drop(x_TD[rows], self.lora_dropout[run], row_keys[rows])
                    for run, rows in segments
                ]
            )
        return self.biases.add(linear, lora(linear, x_TD, dropped_TD, segments), segments)

    def _finish(
        self,
        sublayer: str,
        norm: nn.LayerNorm,
        out_TD: Tensor,
        residual_TD: Tensor,
        segments: layers.Segments,
        row_keys: Tensor | None,
    ) -> Tensor:
        """Compute the end of a sublayer: dropout, bottleneck adapters, residual and LayerNorm."""
        bottleneck = self.bottlenecks.get(f"{self.index}.{sublayer}")
        rate = self.architecture.hidden_dropout
        if bottleneck is None:
            out_TD = dropout.drop_add_norm(out_TD, residual_TD, rate, row_keys, norm)
            return self.biases.add(norm, out_TD, segments)
        out_TD = dropout.drop(out_TD, rate, row_keys)
        sum_TD = residual_TD + out_TD
        read_TD = norm(sum_TD) if bottleneck.reads_norm else out_TD
        return norm(bottleneck(read_TD, sum_TD, segments))

    def _attend(
        self,
        query_TD: Tensor,
        key_TD: Tensor,
        value_TD: Tensor,
        positions: dict[str, Tensor] | None,
        batch: Batch,
        first_only: bool,
    ) -> Tensor:
        """Bring tokens into attention's rows, attend, and bring the result back."""
        heads = self.architecture.heads
        width = key_TD.shape[1] // heads

        def to_rows(x_TD: Tensor) -> Tensor:
            return autograd.gather(x_TD.view(-1, width), batch.to_attention, batch.from_attention)

        keys = None if batch.attention_keys is None else batch.attention_keys[self.index]
        rate = self.architecture.attention_dropout
        if first_only:
            order_N, back_N = batch.order_N, torch.argsort(batch.order_N)
            query = autograd.gather(query_TD, order_N, back_N).view(-1, width)
        else:
            query = to_rows(query_TD)
        key, value = to_rows(key_TD), to_rows(value_TD)
        if positions is None:
            context = attention.attend(query, key, value, batch.groups, keys, rate)
        else:
            relative = self.architecture.relative
            assert relative is not None
            context = relative_positions.attend(
                query, key, value, positions, relative, heads, batch.groups, keys, rate
            )
        if first_only:
            return autograd.gather(context.view(-1, heads * width), back_N, order_N)
        return autograd.take(context, batch.from_attention).view(-1, heads * width)
