"""Models of pixel events: what all are, and the families."""

from typing import TYPE_CHECKING

from caloforge.lazy import lazily

if TYPE_CHECKING:
    from caloforge.models.pixels.base import PixelModel
    from caloforge.models.pixels.batch import PixelBatch

__getattr__, __dir__ = lazily(__name__, {"PixelBatch": "batch", "PixelModel": "base"})

__all__ = ["PixelBatch", "PixelModel"]
