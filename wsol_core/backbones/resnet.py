"""ResNet50 of torchvision."""

from torchvision import models

from wsol_core.backbones.pyramid import TORCHVISION, Chain, Pyramid, limited_strides, remove_stride


def resnet50(output_stride: int) -> Pyramid:
    """Build the stem's activation and the four stages.

    Output stride 16 removes the stride of the last stage (WSFL 4.2), 8 that of the last two. The paper names no
    dilation, and none is put in.
    """
    network = models.resnet50(weights=None)
    if output_stride <= 16:
        remove_stride(network.layer4)
    if output_stride <= 8:
        remove_stride(network.layer3)
    modules = [(name, module) for name, module in network.named_children() if name not in ("avgpool", "fc")]
    chain = Chain(modules, ("relu", "layer1", "layer2", "layer3", "layer4"))
    return Pyramid(chain, (64, 256, 512, 1024, 2048), limited_strides(output_stride), TORCHVISION)
