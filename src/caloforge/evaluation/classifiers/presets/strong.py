"""The judges that flatter least, for some thousand showers: `strong` and `boosted`, with learning curves."""

from caloforge.evaluation.classifiers.settings import PRESETS, ClassifierSettings

_STRONG = ClassifierSettings(
    which=("strong", "boosted"),
    hidden=512,
    epochs=40,
    batch_size=200,
    learning_rate=3e-4,
    weight_decay=0.02,
    dropout=0.3,
    patience=6,
    repeats=3,
    standardise=True,
    most=100_000,
    threads=1,
    calibration_floor=None,
    curve=4,
)

PRESETS.add("strong")(_STRONG.replace(which=("strong",), preset="strong"))
PRESETS.add("boosted")(_STRONG.replace(which=("boosted",), preset="boosted"))
