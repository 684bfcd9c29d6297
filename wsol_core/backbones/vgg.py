"""VGG16 without its fully connected layers, with torchvision's layer numbers."""

from torch import nn

from wsol_core.backbones.pyramid import TORCHVISION, Chain, Pyramid

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16(output_stride: int) -> Pyramid:
    """Build VGG16's features: the last activation of each block, at strides 1, 2, 4, 8 and 16.

    At output stride 32 pool5 follows as a sixth level, so that the last level is torchvision's `features` whole (DDT).
    At 16 pool5 is removed (WSFL 4.2). At 8 pool4 is removed too (Two-Phase 3.2): block 5 is then dilated by 2, which
    keeps the field of view of its weights, and the pools round up, which gives that paper's 41x41 map of a 321x321
    image; both come from the DeepLab variant of VGG16 and are not in the paper's text.
    """
    layers: list[nn.Module] = []
    taps = []
    width = 3
    for block, block_widths in enumerate(WIDTHS):
        dilation = 2 if block == 4 and output_stride == 8 else 1
        for out in block_widths:
            layers += [nn.Conv2d(width, out, 3, padding=dilation, dilation=dilation), nn.ReLU(inplace=True)]
            width = out
        taps.append(len(layers) - 1)
        pooled = 2 ** (block + 1) <= output_stride
        layers.append(nn.MaxPool2d(2, ceil_mode=output_stride == 8) if pooled else nn.Identity())
    if output_stride == 32:
        taps.append(len(layers) - 1)
    _initialise(layers)
    network = Chain(((str(i), layer) for i, layer in enumerate(layers)), [str(i) for i in taps])
    channels = tuple(widths[-1] for widths in WIDTHS)
    strides = tuple(min(2**block, output_stride) for block in range(len(taps)))
    return Pyramid(network, (channels + channels[-1:])[: len(taps)], strides, TORCHVISION)


def _initialise(layers: list[nn.Module]) -> None:
    for layer in layers:
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
