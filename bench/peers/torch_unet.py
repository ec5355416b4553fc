"""UNet2DConditionModel of Stable Diffusion 1.x in plain PyTorch; layers have the names that checkpoints of diffusers have.

The counterpart of src/models/unet.ts: `sample` [rows, in_channels, h, w], sinusoids of the timestep [rows, channels[0]],
`text` [rows, tokens, cross_attention_dim] -> [rows, out_channels, h, w].
"""

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, channels, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x, context):
        q, k, v = (
            tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for tokens in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), -1) @ v
        return self.to_out[0](y.transpose(1, 2).flatten(2))


class GatedGelu(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * hidden)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net = nn.ModuleList([GatedGelu(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    def __init__(self, channels, context, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.attn1 = Attention(channels, channels, heads)
        self.attn2 = Attention(channels, context, heads)
        self.ff = FeedForward(channels)

    def forward(self, x, text):
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), text)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, channels, context, heads, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context, heads)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x, text):
        n, c, h, w = x.shape
        tokens = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(n, h * w, c)
        for block in self.transformer_blocks:
            tokens = block(tokens, text)
        return self.proj_out(tokens.reshape(n, h, w, c).permute(0, 3, 1, 2)) + x


class ResnetBlock(nn.Module):
    def __init__(self, inputs, outputs, embedding, groups):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedding, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, embedding):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(embedding)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + h


class Resampler(nn.Module):
    """Downsamples by a stride of two, or upsamples to the nearest pixel and smooths."""

    def __init__(self, channels, down):
        super().__init__()
        self.down = down
        self.conv = nn.Conv2d(channels, channels, 3, stride=2 if down else 1, padding=1)

    def forward(self, x):
        return self.conv(x if self.down else F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The layers of one resolution, on the way down, in the middle or on the way up."""

    def __init__(self, resnets, attentions, resampler=None, down=False):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        if resampler:
            setattr(self, "downsamplers" if down else "upsamplers", nn.ModuleList([resampler]))

    def layer(self, index, x, embedding, text):
        x = self.resnets[index](x, embedding)
        return self.attentions[index](x, text) if hasattr(self, "attentions") else x


class TimeEmbedding(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear_1 = nn.Linear(inputs, outputs)
        self.linear_2 = nn.Linear(outputs, outputs)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))


class UNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        channels = config["block_out_channels"]
        context = config["cross_attention_dim"]
        layers = config.get("layers_per_block", 2)
        groups = config.get("norm_num_groups", 32)
        embedding = 4 * channels[0]
        last = len(channels) - 1

        def heads(level):
            value = config["attention_head_dim"]  # which is the number of heads
            return value[level] if isinstance(value, list) else value

        def attention(level, kind):
            return [Transformer(channels[level], context, heads(level), groups)] if kind.startswith("CrossAttn") else []

        def resnet(inputs, outputs):
            return ResnetBlock(inputs, outputs, embedding, groups)

        self.time_embedding = TimeEmbedding(channels[0], embedding)
        self.conv_in = nn.Conv2d(config["in_channels"], channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        width, skips = channels[0], [channels[0]]
        for level, kind in enumerate(config["down_block_types"]):
            outputs = channels[level]
            resnets = [resnet(width if layer == 0 else outputs, outputs) for layer in range(layers)]
            attentions = [block for _ in range(layers) for block in attention(level, kind)]
            resampler = Resampler(outputs, down=True) if level < last else None
            self.down_blocks.append(Level(resnets, attentions, resampler, down=True))
            skips += [outputs] * (layers + (level < last))
            width = outputs
        self.mid_block = Level([resnet(width, width) for _ in range(2)], attention(last, "CrossAttn"))
        self.up_blocks = nn.ModuleList()
        for block, kind in enumerate(config["up_block_types"]):
            level = last - block
            outputs = channels[level]
            resnets = []
            for _ in range(layers + 1):
                resnets.append(resnet(width + skips.pop(), outputs))
                width = outputs
            attentions = [part for _ in range(layers + 1) for part in attention(level, kind)]
            self.up_blocks.append(Level(resnets, attentions, Resampler(outputs, down=False) if level > 0 else None))
        self.conv_norm_out = nn.GroupNorm(groups, channels[0])
        self.conv_out = nn.Conv2d(channels[0], config["out_channels"], 3, padding=1)

    def forward(self, sample, timestep, text):
        embedding = F.silu(self.time_embedding(timestep))
        x = self.conv_in(sample)
        skips = [x]
        for block in self.down_blocks:
            for layer in range(len(block.resnets)):
                x = block.layer(layer, x, embedding, text)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)
        x = self.mid_block.layer(0, x, embedding, text)
        x = self.mid_block.resnets[1](x, embedding)
        for block in self.up_blocks:
            for layer in range(len(block.resnets)):
                x = block.layer(layer, torch.cat([x, skips.pop()], 1), embedding, text)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))
