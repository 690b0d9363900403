"""For some thousand showers on a CPU."""

from caloforge.evaluation.classifiers.settings import PRESETS, ClassifierSettings

_ON_IMAGES = {"batch_size": 50, "learning_rate": 1e-3, "repeats": 1}

PRESETS.add("quick")(
    ClassifierSettings(
        hidden=128,
        widths=(8, 16, 16, 32),
        epochs=20,
        batch_size=100,
        learning_rate=3e-4,
        repeats=3,
        standardise=True,
        most=100_000,
        threads=1,
        calibration_floor=None,
        special={
            "low": {"epochs": 8},
            "low-normed": {"epochs": 8},
            "resnet": _ON_IMAGES | {"epochs": 10},
            "c2st": _ON_IMAGES | {"epochs": 20},
        },
        preset="quick",
    )
)
