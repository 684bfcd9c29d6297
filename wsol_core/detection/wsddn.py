"""WSDDN: detection by choosing among proposals (Weakly Supervised Deep Detection Networks).

Two streams see each proposal's features. One asks which class a proposal shows, a softmax over classes; the other which
proposals show a class, a softmax over proposals. Their product scores proposals, its sum over them says whether the
image shows the class, and that alone is compared with the image's labels. As a class's weights over proposals have the
sum 1, proposals compete for it.

The paper's spatial regulariser is left out, as in OICR.
"""

from torch import Tensor, nn

EPSILON = 1e-6
"""Image scores are held this far from 0 and 1, where the cross entropy has no finite value."""


class WsddnHead(nn.Module):
    """Features of R proposals `(R, D)` to the logits of both streams, each `(R, C)`."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classify = small_linear(width, classes)
        self.detect = small_linear(width, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The classification and the detection stream, before their softmaxes."""
        return self.classify(features), self.detect(features)


def small_linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer whose first answers are nearly equal: weights of standard deviation .01, no bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


def proposal_scores(classification: Tensor, detection: Tensor) -> Tensor:
    """x^R: softmax over classes times softmax over the proposals of one image, `(R, C)` in [0, 1]."""
    return classification.softmax(1) * detection.softmax(0)


def image_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy of one image's scores, y_c = sum_r x^R_rc, summed over classes (OICR, Eq. 1).

    Args:
        scores: `(R, C)` from `proposal_scores`; without proposals the loss is 0, as nothing can be learnt.
        labels: `(C,)`, 1 for the classes present, else 0.
    """
    if not len(scores):
        return scores.sum()
    found = scores.sum(0).clamp(EPSILON, 1 - EPSILON)
    return -(labels * found.log() + (1 - labels) * (1 - found).log()).sum()
