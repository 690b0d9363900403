"""The published networks.

Where the sources are silent the ResNets are trained like the dense networks; ``c2st`` is the usual ResNet-18,
100 epochs as in the LHCb study (arXiv:1812.01319).
"""

from caloforge.evaluation.classifiers.settings import PRESETS, ClassifierSettings

PRESETS.add("calochallenge")(
    ClassifierSettings(
        special={"c2st": {"widths": (64, 128, 256, 512), "epochs": 100}}, preset="calochallenge"
    )
)
