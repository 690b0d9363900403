"""That the first generator is good and not a toy: minutes of training, hence `pytest -m slow`."""

from pathlib import Path

import pytest

from caloforge.data import Showers
from caloforge.evaluation import evaluate
from caloforge.geant4 import simulate
from caloforge.generation import generate
from caloforge.training import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quality")


@pytest.fixture(scope="module")
def samples(folder: Path) -> tuple[Showers, Showers]:
    """1,050 showers to train on and 1,000 to judge with."""
    showers = simulate("par04-siw", out=folder / "geant4.h5", n=2050, energy="1-10GeV", seed=11)
    return showers[:1050], showers[1050:]


def test_the_quickstart_flow_is_close_to_geant4(folder: Path, samples: tuple[Showers, Showers]) -> None:
    """Measured with the recipe as it is: AUC 0.52 from cells and 0.69 from high-level features."""
    training, held_out = samples
    model = train("quickstart", training, out=folder / "model", seed=1)
    result = evaluate(held_out, generate(model, like=held_out, seed=2), seed=3)
    assert result.classifiers["low"].auc < 0.60
    assert result.classifiers["high"].auc < 0.80
    total = result.features["e_total"]
    assert abs(total.generated_mean / total.reference_mean - 1) < 0.02


@pytest.mark.parametrize("detector", ["lhcb-ecal", "ild-ecal", "allegro-ecal"])
def test_the_flow_learns_every_kind_of_detector(folder: Path, detector: str) -> None:
    """Image, box and another cylinder: more training makes a better model, and its showers are legal."""
    showers = simulate(detector, out=folder / f"{detector}.h5", n=300, energy="2-10GeV", seed=12)
    losses = []
    for epochs in (1, 8):
        model = train(
            "layer-flow",
            showers,
            out=folder / f"{detector}-{epochs}",
            seed=1,
            overrides={"training.epochs": epochs, "training.batch_size": 16},
        )
        losses.append({name: part["validation_loss"] for name, part in model.metrics["parts"].items()})
    assert losses[1]["cells"] < losses[0]["cells"]
    assert losses[1]["layers"] < losses[0]["layers"]
    made = generate(folder / f"{detector}-8", like=showers, seed=2)
    assert made.energies.shape == showers.energies.shape
