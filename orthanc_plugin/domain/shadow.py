"""What a shadow model finds beside a model of the rule: numbers for each structure, and no mask."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Compared:
    """One structure of a shadow model, beside the same structure of a model of the rule.

    label: the name in the card of the shadow model.
    code, modifier: type and laterality of the structure, as SCT codes; the modifier may be empty.
    model: the model of the rule that also looks for the structure; empty if there is none.
    volume_ml: by the shadow model; 0 if it found nothing.
    model_volume_ml: by the model of the rule, as stored; None if there is no such model, or no stored SEG of it.
    dice: Dice coefficient of both; 0 if only one found the structure, and None if none did or there is nothing to
        compare with.
    """

    label: str
    code: str
    modifier: str
    model: str
    volume_ml: float
    model_volume_ml: float | None = None
    dice: float | None = None
