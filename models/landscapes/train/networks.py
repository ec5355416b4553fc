"""The four networks, with the parameter names and shapes of their diffusers and transformers namesakes.

    TextEncoder      CLIPTextModel            ids [n, 32]                    -> states [n, 32, 128]
    UNet             UNet2DConditionModel     latents [n, 12, h, w], t, states -> v [n, 12, h, w]
    Autoencoder      AutoencoderTiny          picture [n, 3, 8h, 8w] in [-1, 1] <-> codes [n, 12, h, w]

Because `state_dict()` has the names that diffusers uses, export is a matter of writing the tensors down.
Nothing here depends on diffusers or transformers: Debian's torch 1.13 is enough.

Vocabulary: *codes* are what the autoencoder speaks; *latents* are codes times `scaling_factor`, of unit
variance, and what the diffusion loop sees.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

LATENT_CHANNELS = 12
CONTEXT_LENGTH = 32
TEXT_WIDTH = 128
UNET_CONFIG = {
    "channels": (64, 96, 160),
    "attention": (False, True, True),
    "heads": (2, 3, 5),
    "groups": 32,
}


# ------------------------------------------------------------------ normalisation

class _GroupNormSilu(torch.autograd.Function):
    """silu(group_norm(x)) for channels-last tensors on the CPU, forward and backward in few passes.

    torch 1.13's own kernels are 6 to 20 times slower on this layout. The statistics are those of
    per-channel means, folded to groups; the arithmetic is in the dtype of x.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps, activate):
        n, c, h, w = x.shape
        y = x.permute(0, 2, 3, 1).reshape(n, h * w, c)
        centre = y.mean(1)
        d = y - centre[:, None]
        square = (d * d).mean(1).float().view(n, groups, -1)
        centre = centre.float().view(n, groups, -1)
        offset = centre - centre.mean(2, keepdim=True)  # channel mean minus group mean
        rstd = (square + offset * offset).mean(2, keepdim=True).add(eps).rsqrt()
        scale = (rstd * weight.float().view(1, groups, -1)).view(n, c)
        shift = bias.float() + offset.reshape(n, c) * scale
        z = torch.addcmul(shift.to(d.dtype)[:, None], d, scale.to(d.dtype)[:, None])
        gate = torch.sigmoid(z) if activate else None
        ctx.save_for_backward(d, offset, rstd, scale, weight, z if activate else None, gate)
        out = z * gate if activate else z
        return out.view(n, h, w, c).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, grad):
        d, offset, rstd, scale, weight, z, gate = ctx.saved_tensors
        n, pixels, c = d.shape
        groups = offset.shape[1]
        g = grad.permute(0, 2, 3, 1).reshape(n, pixels, c)
        if gate is not None:
            g = g * torch.addcmul(gate, z, gate - gate * gate)
        sum_g = g.mean(1).float() * pixels  # mean: torch 1.13's bf16 sum is three times slower
        sum_gd = (g * d).mean(1).float() * pixels
        # xhat = (d + offset) * rstd, with d centred for each channel and offset constant
        sum_gx = (sum_gd.view(n, groups, -1) + sum_g.view(n, groups, -1) * offset) * rstd
        grad_weight = sum_gx.view(n, c).sum(0)
        grad_bias = sum_g.sum(0)
        per_group = weight.float().view(1, groups, -1)
        count = pixels * (c // groups)
        mean_g = (sum_g.view(n, groups, -1) * per_group).sum(2, keepdim=True) / count
        mean_gx = (sum_gx * per_group).sum(2, keepdim=True) / count
        slope = -(mean_gx * rstd * rstd).expand_as(offset).reshape(n, c)
        level = -(rstd * (mean_g + mean_gx * rstd * offset)).reshape(n, c)
        gx = torch.addcmul(level.to(d.dtype)[:, None], d, slope.to(d.dtype)[:, None])
        gx = torch.addcmul(gx, g, scale.to(d.dtype)[:, None])
        gx = gx.view(n, *grad.shape[2:], c).permute(0, 3, 1, 2)
        return gx, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), None, None, None


class GroupNorm(nn.GroupNorm):
    """Group normalisation, followed by SiLU where `activate` is set."""

    def __init__(self, groups, channels, eps=1e-5, activate=False):
        super().__init__(groups, channels, eps=eps)
        self.activate = activate

    def forward(self, x):
        if x.is_cuda:
            y = super().forward(x)
            return F.silu(y) if self.activate else y
        return _GroupNormSilu.apply(x, self.weight, self.bias, self.num_groups, self.eps, self.activate)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation in f32: torch 1.13 is very slow in bf16 here."""

    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


# ------------------------------------------------------------------ attention

class Attention(nn.Module):
    def __init__(self, width, context_width, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x, context):
        n, tokens, width = x.shape
        split = lambda y: y.view(n, y.shape[1], self.heads, -1).transpose(1, 2)
        out = attend(split(self.to_q(x)), split(self.to_k(context)), split(self.to_v(context)))
        return self.to_out[0](out.transpose(1, 2).reshape(n, tokens, width))


def attend(q, k, v, causal=False):
    """softmax(q kᵀ / √d) v over [n, heads, tokens, d]; torch 1.13 has no public kernel for it."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if causal:
        scores = scores + torch.full(scores.shape[-2:], float("-inf"), device=q.device).triu(1)
    return torch.softmax(scores, -1) @ v


class GatedGelu(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.proj = nn.Linear(width, inner * 2)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        # index 1 is a dropout in diffusers: it has no parameters, but it holds the place
        self.net = nn.ModuleList([GatedGelu(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    def __init__(self, width, context_width, heads):
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attn1 = Attention(width, width, heads)
        self.norm2 = LayerNorm(width)
        self.attn2 = Attention(width, context_width, heads)
        self.norm3 = LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x, context):
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, channels, context_width, heads, groups):
        super().__init__()
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context_width, heads)])
        self.proj_out = zero_(nn.Conv2d(channels, channels, 1))

    def forward(self, x, context):
        n, c, h, w = x.shape
        y = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(n, h * w, c)
        y = self.transformer_blocks[0](y, context)
        return x + self.proj_out(y.reshape(n, h, w, c).permute(0, 3, 1, 2))


# ------------------------------------------------------------------ UNet2DConditionModel

def zero_(layer):
    """Starts a residual branch at zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ResnetBlock(nn.Module):
    def __init__(self, channels_in, channels, time_width, groups):
        super().__init__()
        self.norm1 = GroupNorm(groups, channels_in, activate=True)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_width, channels)
        self.norm2 = GroupNorm(groups, channels, activate=True)
        self.conv2 = zero_(nn.Conv2d(channels, channels, 3, padding=1))
        self.conv_shortcut = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else None

    def forward(self, x, time):
        h = self.conv1(self.norm1(x)) + self.time_emb_proj(time)[:, :, None, None]
        h = self.conv2(self.norm2(h))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h


class Resample(nn.Module):
    """Half or double the resolution, with a 3×3 convolution."""

    def __init__(self, channels, up):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else x)


class UNetBlock(nn.Module):
    """One resolution of the down or the up path; the names of its parts are those of diffusers."""

    def __init__(self, in_out, heads, time_width, context_width, groups, resample):
        super().__init__()
        channels = in_out[-1][1]
        self.resnets = nn.ModuleList([ResnetBlock(i, o, time_width, groups) for i, o in in_out])
        if heads:
            self.attentions = nn.ModuleList(
                [SpatialTransformer(o, context_width, heads, groups) for _, o in in_out])
        if resample == "down":
            self.downsamplers = nn.ModuleList([Resample(channels, up=False)])
        if resample == "up":
            self.upsamplers = nn.ModuleList([Resample(channels, up=True)])

    def layer(self, index, x, time, context):
        x = self.resnets[index](x, time)
        return self.attentions[index](x, context) if hasattr(self, "attentions") else x


class UNet(nn.Module):
    def __init__(self, channels, attention, heads, groups, latent_channels=LATENT_CHANNELS,
                 context_width=TEXT_WIDTH):
        super().__init__()
        levels = len(channels)
        time_width = channels[0] * 4
        common = (time_width, context_width, groups)
        heads = [h if a else None for h, a in zip(heads, attention)]

        self.conv_in = nn.Conv2d(latent_channels, channels[0], 3, padding=1)
        self.time_embedding = nn.ModuleDict({
            "linear_1": nn.Linear(channels[0], time_width),
            "linear_2": nn.Linear(time_width, time_width),
        })

        self.down_blocks = nn.ModuleList()
        width, skips = channels[0], [channels[0]]
        for i in range(levels):
            last = i == levels - 1
            self.down_blocks.append(
                UNetBlock([(width, channels[i])], heads[i], *common, None if last else "down"))
            width = channels[i]
            skips += [width] if last else [width, width]

        self.mid_block = nn.ModuleDict({
            "resnets": nn.ModuleList([ResnetBlock(width, width, time_width, groups) for _ in range(2)]),
            "attentions": nn.ModuleList([SpatialTransformer(width, context_width, heads[-1], groups)]),
        })

        self.up_blocks = nn.ModuleList()
        for i in reversed(range(levels)):
            in_out = [(width + skips.pop(), channels[i]), (channels[i] + skips.pop(), channels[i])]
            self.up_blocks.append(UNetBlock(in_out, heads[i], *common, "up" if i else None))
            width = channels[i]

        self.conv_norm_out = GroupNorm(groups, width, activate=True)
        self.conv_out = zero_(nn.Conv2d(width, latent_channels, 3, padding=1))

    def forward(self, x, timestep, context):
        """x [n, 12, h, w], timestep [n] in 0..999, context [n, 32, 128] -> v [n, 12, h, w]"""
        time = sinusoid(timestep, self.conv_in.out_channels)
        time = self.time_embedding["linear_2"](F.silu(self.time_embedding["linear_1"](time)))
        time = F.silu(time)

        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            x = block.layer(0, x, time, context)
            skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)

        x = self.mid_block["resnets"][0](x, time)
        x = self.mid_block["attentions"][0](x, context)
        x = self.mid_block["resnets"][1](x, time)

        for block in self.up_blocks:
            for index in range(2):
                x = block.layer(index, torch.cat([x, skips.pop()], 1), time, context)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x)
        return self.conv_out(self.conv_norm_out(x))


def sinusoid(timestep, width):
    """The timestep as [cos, sin] of geometric frequencies 1 .. 1/10000 (flip_sin_to_cos, freq_shift 0)."""
    half = width // 2
    frequency = torch.exp(-math.log(10000) * torch.arange(half, device=timestep.device) / half)
    angle = timestep.float()[:, None] * frequency[None]
    return torch.cat([angle.cos(), angle.sin()], -1)


# ------------------------------------------------------------------ CLIPTextModel

class TextAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.q_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        n, tokens, width = x.shape
        split = lambda y: y.view(n, tokens, self.heads, -1).transpose(1, 2)
        out = attend(split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x)), causal=True)
        return self.out_proj(out.transpose(1, 2).reshape(n, tokens, width))


class TextLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.self_attn = TextAttention(width, heads)
        self.layer_norm1 = LayerNorm(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.layer_norm2 = LayerNorm(width)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        h = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](h * torch.sigmoid(1.702 * h))  # quick_gelu


class TextEncoder(nn.Module):
    def __init__(self, vocabulary, width=TEXT_WIDTH, heads=4, layers=3, context=CONTEXT_LENGTH):
        super().__init__()
        self.text_model = nn.ModuleDict({
            "embeddings": nn.ModuleDict({
                "token_embedding": nn.Embedding(vocabulary, width),
                "position_embedding": nn.Embedding(context, width),
            }),
            "encoder": nn.ModuleDict({
                "layers": nn.ModuleList([TextLayer(width, heads) for _ in range(layers)]),
            }),
            "final_layer_norm": LayerNorm(width),
        })
        embeddings = self.text_model["embeddings"]
        nn.init.normal_(embeddings["token_embedding"].weight, std=0.1)
        nn.init.normal_(embeddings["position_embedding"].weight, std=0.05)

    def forward(self, ids):
        """ids [n, 32] -> the last hidden states, after the final norm [n, 32, 128]"""
        embeddings = self.text_model["embeddings"]
        x = embeddings["token_embedding"](ids) + embeddings["position_embedding"].weight[None, : ids.shape[1]]
        for layer in self.text_model["encoder"]["layers"]:
            x = layer(x)
        return self.text_model["final_layer_norm"](x)


# ------------------------------------------------------------------ AutoencoderTiny

class TinyBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        conv = lambda: nn.Conv2d(channels, channels, 3, padding=1)
        self.conv = nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU(), conv())

    def forward(self, x):
        return F.relu(self.conv(x) + x)


class TinyEncoder(nn.Module):
    def __init__(self, channels, blocks, latent_channels):
        super().__init__()
        layers = []
        for i, count in enumerate(blocks):
            layers.append(nn.Conv2d(3, channels, 3, padding=1) if i == 0 else
                          nn.Conv2d(channels, channels, 3, padding=1, stride=2, bias=False))
            layers += [TinyBlock(channels) for _ in range(count)]
        layers.append(nn.Conv2d(channels, latent_channels, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, picture):
        return self.layers(picture.add(1).div(2))


class TinyDecoder(nn.Module):
    def __init__(self, channels, blocks, latent_channels):
        super().__init__()
        layers = [nn.Conv2d(latent_channels, channels, 3, padding=1), nn.ReLU()]
        for i, count in enumerate(blocks):
            layers += [TinyBlock(channels) for _ in range(count)]
            if i < len(blocks) - 1:
                layers += [nn.Upsample(scale_factor=2, mode="nearest"),
                           nn.Conv2d(channels, channels, 3, padding=1, bias=False)]
            else:
                layers.append(nn.Conv2d(channels, 3, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, codes):
        return self.layers(torch.tanh(codes / 3) * 3).mul(2).sub(1)


class Autoencoder(nn.Module):
    CHANNELS, ENCODER_BLOCKS, DECODER_BLOCKS = 32, (1, 1, 1, 1), (3, 3, 2, 0)

    def __init__(self, decoder_blocks=DECODER_BLOCKS):
        super().__init__()
        self.encoder = TinyEncoder(self.CHANNELS, self.ENCODER_BLOCKS, LATENT_CHANNELS)
        self.decoder = TinyDecoder(self.CHANNELS, decoder_blocks, LATENT_CHANNELS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():  # residual branches and the last layers start small
            if isinstance(module, TinyBlock):
                module.conv[4].weight.data.mul_(0.1)
        self.encoder.layers[-1].weight.data.mul_(0.3)
        self.decoder.layers[-1].weight.data.mul_(0.1)
        nn.init.constant_(self.decoder.layers[-1].bias, 0.5)
