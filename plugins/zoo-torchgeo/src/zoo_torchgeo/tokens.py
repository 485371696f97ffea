"""Vision transformers of torchgeo and terratorch as encoders that map an image to a map of tokens.

Each class uses the blocks and embeddings of a published model and computes its tokens for any height and width. The
classifier, the pooled output and branches for other inputs are removed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
import torchgeo.models
from torch import Tensor, nn

from zoo.errors import ModelError, PluginError
from zoo_torchgeo.backbones import Backbone
from zoo_torchgeo.bands import Channel, read_name
from zoo_torchgeo.weights import Published, adapt_stem, load_exactly, match_bands

PRETRAINED_PIXELS = 224
"""Image size on which most of these transformers were trained."""
_CLASSIFIER = ("head.", "fc.", "fc_norm.")
_RADAR = ("VV", "VH", "HH", "HV")


class TokenEncoder(nn.Module):
    """A transformer that maps an image to a map of tokens.

    Attributes:
        width: channels of a token.
        patch: side in pixels of the square patch of a token.
    """

    width: int
    patch: int
    stem = "patch_embed.proj"
    may_lack: tuple[str, ...] = ("norm.",)
    may_have: tuple[str, ...] = _CLASSIFIER
    body: Any

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, width, H / patch, W / patch)``, for H and W divisible by the patch."""
        raise NotImplementedError

    def to_map(self, tokens: Tensor, x: Tensor) -> Tensor:
        """Return tokens ``(B, h * w, width)`` of the image ``x`` as a map."""
        height, width = x.shape[2] // self.patch, x.shape[3] // self.patch
        return tokens.transpose(1, 2).reshape(x.shape[0], self.width, height, width)

    def layout(self, raw: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the tensors of :attr:`body` from the published layout."""
        return dict(raw)

    def load_published(
        self, raw: Mapping[str, Any], entry: Published, bands: Sequence[str] | None, sensor: str
    ) -> None:
        """Load published weights; the first kernel is adapted to the bands.

        Raises:
            ModelError: if they do not fit.
        """
        state = self.layout(raw)
        weight, bias = f"{self.stem}.weight", f"{self.stem}.bias"
        if weight in state and entry.bands:
            kernel = state[weight]
            wanted = self.body.state_dict()[weight]
            flat = kernel.reshape(kernel.shape[0], kernel.shape[1], *kernel.shape[-2:]) if kernel.ndim > 3 else kernel
            if flat.ndim == 4 and flat.shape[1] == len(entry.bands):
                matching = match_bands(entry, bands, wanted.shape[1], sensor)
                adapted, constant = adapt_stem(flat, matching, entry.shift)
                state[weight] = adapted.reshape(*adapted.shape[:2], *kernel.shape[2:])
                if bias in state:
                    state[bias] = state[bias] + constant
        load_exactly(self.body, state, may_lack=self.may_lack, may_have=self.may_have, weights=entry.name)


def resized(positions: Tensor, height: int, width: int) -> Tensor:
    """Resize learned or fixed position embeddings ``(1, 1 + n * n, D)`` to another grid; the class token is kept.

    The interpolation is bicubic with antialiasing, as in timm and torchgeo.
    """
    side = math.isqrt(positions.shape[1] - 1)
    if (height, width) == (side, side):
        return positions
    grid = positions[:, 1:].transpose(1, 2).reshape(1, -1, side, side).float()
    grid = F.interpolate(grid, size=(height, width), mode="bicubic", antialias=True)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)


def sine_positions(width: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Return fixed embeddings ``(1, rows * columns, width)``: sine and cosine of the column, then of the row.

    [S: ``get_2d_sincos_pos_embed`` of MAE, as in torchgeo's Scale-MAE.]
    """
    omega = torch.arange(width // 4, dtype=torch.float32, device=rows.device) / (width / 4.0)
    omega = 1.0 / 10000**omega

    def encode(places: Tensor) -> Tensor:
        angles = places[:, None] * omega
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    across = encode(columns)[None].expand(len(rows), -1, -1)
    down = encode(rows)[:, None].expand(-1, len(columns), -1)
    return torch.cat([across, down], dim=2).reshape(1, -1, width)


def with_class_token(token: Tensor, tokens: Tensor) -> Tensor:
    """Put a class token ``(1, 1, D)`` before the tokens of every image."""
    return torch.cat([token.expand(tokens.shape[0], -1, -1), tokens], dim=1)


class TimmTokens(TokenEncoder):
    """A vision transformer of timm."""

    def __init__(self, backbone: Backbone, in_channels: int, **_: Any) -> None:
        super().__init__()
        make = getattr(torchgeo.models, backbone.source)
        self.body = make(
            in_chans=in_channels,
            num_classes=0,
            global_pool="",
            img_size=PRETRAINED_PIXELS,
            dynamic_img_size=True,
        )
        self.width, self.patch = self.body.embed_dim, self.body.patch_embed.patch_size[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.to_map(self.body.forward_features(x)[:, self.body.num_prefix_tokens :], x)


class ScaleMaeTokens(TokenEncoder):
    """Scale-MAE, whose position embeddings are in metres.

    Args:
        backbone: the backbone.
        in_channels: bands of the input.
        pixel_size: side of a pixel in metres.
    """

    def __init__(self, backbone: Backbone, in_channels: int, *, pixel_size: float, **_: Any) -> None:
        super().__init__()
        self.body = getattr(torchgeo.models, backbone.source)(in_chans=in_channels, num_classes=0, global_pool="")
        self.body.pos_embed = None  # computed from the pixel size
        self.may_have = (*_CLASSIFIER, "pos_embed", "mask_token", "decoder", "fpn", "fcn")
        self.width, self.patch = self.body.embed_dim, self.body.patch_embed.patch_size[0]
        self.pixel_size = pixel_size

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (torch.arange(side // self.patch, device=x.device) * self.pixel_size for side in x.shape[2:])
        tokens = self.body.patch_embed.proj(x).flatten(2).transpose(1, 2)
        tokens = tokens + sine_positions(self.width, rows, columns).to(tokens.dtype)
        tokens = self.body.norm_pre(with_class_token(self.body.cls_token, tokens))
        for block in self.body.blocks:
            tokens = block(tokens)
        return self.to_map(self.body.norm(tokens)[:, 1:], x)


class CromaTokens(TokenEncoder):
    """Optical encoder of CROMA, whose attention decreases with distance; it has no position embedding."""

    stem = "linear_input"
    may_lack = ()
    may_have = ()
    slopes: Tensor

    def __init__(self, backbone: Backbone, in_channels: int, **_: Any) -> None:
        super().__init__()
        # The table of distances is for one image size and slow to compute, so compute the smallest and do not use it.
        self.body = getattr(torchgeo.models, backbone.source)(modalities=["optical"], image_size=8).s2_encoder
        self.width, self.patch = self.body.dim, self.body.patch_size
        # A linear layer over the pixels of a patch is a convolution with that stride.
        self.body.linear_input = nn.Conv2d(in_channels, self.width, self.patch, stride=self.patch)
        heads = self.body.num_heads
        start = 2 ** -(2 ** -(math.log2(heads) - 3))
        self.register_buffer("slopes", torch.tensor([start ** (head + 1) for head in range(heads)]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (torch.arange(side // self.patch, device=x.device) for side in x.shape[2:])
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).flatten(1).float()
        distance = (places[:, :, None] - places[:, None, :]).square().sum(0).sqrt()
        bias = -distance * self.slopes[:, None, None]
        tokens = self.body.linear_input(x).flatten(2).transpose(1, 2)
        return self.to_map(self.body.transformer(tokens, relative_position_bias=bias[None]), x)

    def layout(self, raw: Mapping[str, Any]) -> dict[str, Tensor]:
        encoder = raw.get("s2_encoder", raw)
        state = {key.removeprefix("s2_encoder."): value for key, value in encoder.items()}
        weight = state.get("linear_input.weight")
        if weight is not None and weight.ndim == 2:
            state["linear_input.weight"] = weight.reshape(weight.shape[0], -1, self.patch, self.patch)
        return state


class BandEmbedding(nn.Module):
    """One vector per band, computed from its wavelength, or learned if it has none.

    Args:
        known: vector of each band; ``None`` if it has no wavelength.
        width: length of the vectors.
        gated: whether each learned band also has a gain, so that it can start without influence.
    """

    fixed: Tensor
    order: Tensor

    def __init__(self, known: Sequence[Tensor | None], width: int, *, gated: bool) -> None:
        super().__init__()
        fixed = [vector for vector in known if vector is not None]
        extra = len(known) - len(fixed)
        places = [index for index, vector in enumerate(known) if vector is not None]
        places += [index for index, vector in enumerate(known) if vector is None]
        order = sorted(range(len(known)), key=lambda index: places[index])
        self.register_buffer("fixed", torch.stack(fixed) if fixed else torch.zeros(0, width))
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.extra = nn.Parameter(torch.randn(extra, width) * 0.5) if extra else None
        self.gain = nn.Parameter(torch.ones(extra)) if extra and gated else None

    def forward(self) -> Tensor:
        """Return the vectors ``(C, width)``, in the order of the bands."""
        vectors = self.fixed if self.extra is None else torch.cat([self.fixed, self.extra])
        return vectors[self.order]

    def gains(self) -> Tensor:
        """Return the gain of each band ``(C,)``, 1 unless it is learned."""
        ones = self.fixed.new_ones(len(self.fixed) if self.gain is not None else len(self.order))
        return ones if self.gain is None else torch.cat([ones, self.gain])[self.order]

    def start_at_zero(self) -> None:
        """Set the gains of the learned bands to zero, if there are other bands."""
        if self.gain is not None and len(self.fixed):
            nn.init.zeros_(self.gain)


def channels_of(bands: Sequence[str] | None, in_channels: int, sensor: str) -> list[Channel]:
    """Return the channel of each band; the channel of an unnamed band is unknown."""
    return [Channel()] * in_channels if bands is None else [read_name(name, sensor) for name in bands]


class SpectralTokens(TokenEncoder):
    """DOFA and Copernicus-FM, which generate the first kernel of each band from its wavelength.

    A band without a wavelength gets a learned vector instead.
    """

    may_lack = ("fc_norm.", "norm.")

    def __init__(
        self, backbone: Backbone, in_channels: int, *, bands: Sequence[str] | None, sensor: str, **_: Any
    ) -> None:
        super().__init__()
        self.body = getattr(torchgeo.models, backbone.source)(num_classes=0)
        channels = channels_of(bands, in_channels, sensor)
        self.metadata = backbone.source.startswith("copernicus")
        if self.metadata:
            self.body.patch_embed = self.body.patch_embed_spectral
            del self.body.patch_embed_spectral, self.body.patch_embed_variable
        embed = self.body.patch_embed
        self.width, self.patch = embed.embed_dim, embed.kernel_size
        width = embed.weight_generator.input_dim
        self.embedding = BandEmbedding([self._spectrum(channel, width) for channel in channels], width, gated=True)
        # torchgeo initialises with zeros for its weights to replace; without weights there would be no position.
        places = torch.arange(math.isqrt(self.body.num_patches), dtype=torch.float32)
        with torch.no_grad():
            self.body.pos_embed[:, 1:] = sine_positions(self.width, places, places)

    def _spectrum(self, channel: Channel, width: int) -> Tensor | None:
        if channel.wavelength is None:
            return None
        with torch.device("cpu"):
            centre = torch.tensor([float(channel.wavelength)])
            if not self.metadata:
                from torchgeo.models.dofa import position_embedding

                position: Tensor = position_embedding(width, centre)[0]
                return position
            embed = self.body.patch_embed
            bandwidth = torch.tensor([float(channel.bandwidth or 1)])
            both: tuple[Tensor, Tensor] = (
                embed.spectrum_central_expansion(centre, width)[0],
                embed.spectrum_bandwidth_expansion(bandwidth, width)[0],
            )
            return both[0] + both[1]

    def forward(self, x: Tensor) -> Tensor:
        embed, body = self.body.patch_embed, self.body
        kernels, bias = embed.weight_generator(embed.fclayer(self.embedding()))
        kernels = kernels.view(-1, self.patch, self.patch, self.width).permute(3, 0, 1, 2) * embed.scaler
        kernels = kernels * self.embedding.gains()[:, None, None]
        bias = bias.view(self.width) * embed.scaler
        tokens = F.conv2d(x, kernels, bias, stride=self.patch, padding=1).flatten(2).transpose(1, 2)
        positions = resized(body.pos_embed, x.shape[2] // self.patch, x.shape[3] // self.patch)
        if self.metadata:
            # Location, area and date are unknown; the model has a learned token for that [S: torchgeo].
            unknown = body.coord_fc(body.coord_token) + body.scale_fc(body.scale_token) + body.time_fc(body.time_token)
            positions = positions + unknown
        tokens = with_class_token(body.cls_token + positions[:, :1], tokens + positions[:, 1:])
        for block in body.blocks:
            tokens = block(tokens)
        return self.to_map(body.fc_norm(tokens[:, 1:]), x)

    def layout(self, raw: Mapping[str, Any]) -> dict[str, Tensor]:
        state = {key: value for key, value in raw.items() if not key.startswith("patch_embed_variable.")}
        return {key.replace("patch_embed_spectral.", "patch_embed."): value for key, value in state.items()}

    def load_published(
        self, raw: Mapping[str, Any], entry: Published, bands: Sequence[str] | None, sensor: str
    ) -> None:
        super().load_published(raw, entry, bands, sensor)
        self.embedding.start_at_zero()


class PanopticonTokens(TokenEncoder):
    """Panopticon, which embeds every band separately and attends over the bands.

    Optical bands are identified by their wavelength and radar bands by their polarisation. Other bands get a learned
    vector, and take part in the attention from the start.
    """

    may_lack = ()
    may_have = (*_CLASSIFIER, "mask_token", "patch_embed.chnfus.chnemb.")

    def __init__(
        self, backbone: Backbone, in_channels: int, *, bands: Sequence[str] | None, sensor: str, **_: Any
    ) -> None:
        super().__init__()
        self.body = getattr(torchgeo.models, backbone.source)(img_size=PRETRAINED_PIXELS).model
        embed = self.body.patch_embed
        self.width, self.patch = self.body.embed_dim, embed.patch_size[0]
        self.channels = channels_of(bands, in_channels, sensor)
        known = [self._spectrum(channel) for channel in self.channels]
        self.embedding = BandEmbedding(known, embed.chnfus.chnemb.embed_dim, gated=False)
        # The radar embeddings are used only when weights are loaded.
        embed.chnfus.chnemb = nn.Identity()

    def _spectrum(self, channel: Channel) -> Tensor | None:
        from torchgeo.models.panopticon import get_1d_sincos_pos_embed_from_grid_torch

        if channel.wavelength is None and channel.key not in _RADAR:
            return None
        width = self.body.patch_embed.chnfus.chnemb.embed_dim
        with torch.device("cpu"):
            if channel.wavelength is None:
                return torch.zeros(width)
            return get_1d_sincos_pos_embed_from_grid_torch(width, torch.tensor([float(channel.wavelength)]))[0]

    def forward(self, x: Tensor) -> Tensor:
        embed, body = self.body.patch_embed, self.body
        maps = embed.conv3d.conv3d(x.unsqueeze(1))  # (B, D, C, h, w)
        pixels = maps.flatten(3).permute(0, 3, 2, 1) + self.embedding()  # (B, h * w, C, D)
        tokens = embed.proj(self._attend(pixels.flatten(0, 1)).reshape(x.shape[0], -1, pixels.shape[3]))
        positions = resized(body.pos_embed, x.shape[2] // self.patch, x.shape[3] // self.patch)
        tokens = with_class_token(body.cls_token + positions[:, :1], tokens + positions[:, 1:])
        for block in body.blocks:
            tokens = block(tokens)
        return self.to_map(body.norm(tokens)[:, 1:], x)

    def _attend(self, pixels: Tensor) -> Tensor:
        """Return ``(N, D)`` from ``(N, C, D)``: one learned query attends over the bands."""
        attention = self.body.patch_embed.chnfus.xattn

        def split(vectors: Tensor) -> Tensor:
            return vectors.reshape(*vectors.shape[:2], attention.num_heads, -1).transpose(1, 2)

        keys, values = split(attention.inproj_k(pixels)), split(attention.inproj_v(pixels))
        query = split(self.body.patch_embed.chnfus.query.to(keys.dtype)).expand(pixels.shape[0], -1, -1, -1)
        return F.scaled_dot_product_attention(query, keys, values).flatten(1)

    def layout(self, raw: Mapping[str, Any]) -> dict[str, Tensor]:
        state = {key.removeprefix("model."): value for key, value in raw.items()}
        if "pos_embed" in state and state["pos_embed"].ndim == 3:
            side = PRETRAINED_PIXELS // self.patch
            state["pos_embed"] = resized(state["pos_embed"], side, side)
        return state

    def load_published(
        self, raw: Mapping[str, Any], entry: Published, bands: Sequence[str] | None, sensor: str
    ) -> None:
        super().load_published(raw, entry, bands, sensor)
        start = "patch_embed.chnfus.chnemb.embed_"
        state = self.layout(raw)
        for place, channel in zip(self.embedding.order, self.channels, strict=True):
            if channel.key in _RADAR:
                # V is the first row and H the second; the orbit is unknown, so both are averaged [S: torchgeo].
                sent, received = ("VH".index(letter) for letter in channel.key)
                rows = (
                    state[f"{start}transmit"][sent],
                    state[f"{start}receive"][received],
                    state[f"{start}orbit"].mean(0),
                )
                self.embedding.fixed[place] = torch.cat(rows)


class PrithviTokens(TokenEncoder):
    """Prithvi of terratorch, for one date."""

    may_have = ("decoder", "mask_token", "pos_embed", "temporal_embed", "location_embed")
    may_lack = ("pos_embed",)

    def __init__(self, backbone: Backbone, in_channels: int, **_: Any) -> None:
        super().__init__()
        registry = terratorch_registry(backbone.source)
        bands = list(range(in_channels))
        self.body = registry.build(backbone.source, pretrained=False, bands=bands, num_frames=1)
        self.width, self.patch = self.body.embed_dim, self.body.patch_embed.patch_size[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.to_map(self.body.forward_features(x)[-1][:, 1:], x)

    def layout(self, raw: Mapping[str, Any]) -> dict[str, Tensor]:
        # pos_embed is fixed and depends on the number of dates [S: terratorch's checkpoint_filter_fn_vit].
        state = {key.replace("_timm_module.", "").removeprefix("encoder."): value for key, value in raw.items()}
        return {key: value for key, value in state.items() if key != "pos_embed"}


def terratorch_registry(name: str) -> Any:
    """Return terratorch's registry of backbones.

    Raises:
        PluginError: if terratorch is not installed.
    """
    try:
        importlib.import_module("terratorch.models.backbones.prithvi_vit")
        return importlib.import_module("terratorch.registry").TERRATORCH_BACKBONE_REGISTRY
    except ImportError as error:
        raise PluginError(
            f"{name} needs terratorch, which is not installed ({error})", hint="pip install terratorch"
        ) from error


_CLASSES: dict[str, type[TokenEncoder]] = {
    "vit": TimmTokens,
    "spectral": SpectralTokens,
    "panopticon": PanopticonTokens,
    "scalemae": ScaleMaeTokens,
    "croma": CromaTokens,
    "terratorch": PrithviTokens,
}


def make_tokens(
    backbone: Backbone, in_channels: int, *, bands: Sequence[str] | None, sensor: str, pixel_size: float
) -> TokenEncoder:
    """Create a backbone with random weights.

    Raises:
        ModelError: if the installed torchgeo lacks it.
    """
    if backbone.kind != "terratorch" and not hasattr(torchgeo.models, backbone.source):
        raise ModelError(f"torchgeo {torchgeo.__version__} has no model {backbone.source}")
    return _CLASSES[backbone.kind](backbone, in_channels, bands=bands, sensor=sensor, pixel_size=pixel_size)
