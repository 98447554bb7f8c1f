"""The whole-volume cases: which network on which CT with which options; those marked small run in every CI."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orthanc_plugin.catalog.nnunet import Framework
from tests.parity.nnunet.fixtures import CASCADE, FULLRES, LOWRES, PLANAR, Labels, Model, Net


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison. configurations: several are an ensemble. mirroring: asked of both sides."""

    name: str
    model: Model
    configurations: tuple[str, ...]
    ct: str
    mirroring: bool = True
    small: bool = False

    @property
    def options(self) -> str:
        """What the table says about it."""
        model, nets = self.model, [self.model.net(name) for name in self.configurations]
        words = [
            f"{model.folds} fold{'s' if model.folds > 1 else ''}",
            f"mirroring {'on' if self.mirroring else 'off'}",
        ]
        words += ["transposed " + " ".join(map(str, model.transpose))] if model.transpose != (0, 1, 2) else []
        words += ["regions"] if model.labels is Labels.REGIONS else []
        words += ["residual encoder"] if any(net.residual for net in nets) else []
        words += ["postprocessing"] if model.postprocessing else []
        return ", ".join([*words, self.name])


_PLANAR = replace(PLANAR, spacing_mm=(4.9, 4.8))
_LOW = replace(LOWRES, spacing_mm=(8.9, 8.3, 8.6))
_WHOLE = replace(FULLRES, spacing_mm=(6.7, 6.1, 5.9), patch=(28, 32, 32))
_SECOND = replace(_WHOLE, name=CASCADE.name, previous=CASCADE.previous)
_SEPARATE = replace(FULLRES, spacing_mm=(5.3, 1.7, 1.6), patch=(20, 56, 64))
_TURNED = replace(
    _SEPARATE,
    spacing_mm=(1.7, 5.3, 1.6),
    patch=(56, 20, 64),
    strides=((2, 1, 2), (2, 2, 2)),
    kernels=((3, 1, 3), (3, 3, 3), (3, 3, 3)),
)
_THIN = replace(FULLRES, spacing_mm=(1.7, 1.6, 1.5), patch=(24, 40, 48))
_SINGLE = replace(FULLRES, spacing_mm=(8.2, 6.9, 6.8), patch=(40, 40, 40))
_RESIDUAL = replace(_WHOLE, residual=True)
_SIZES = "{(1, 2, 3, 4): 9000.0, 2: 4000.0, 4: 900.0}"
_LARGEST = f'{{"for_which_classes": [[1, 2, 3, 4], 2, 4], "min_valid_object_sizes": "{_SIZES}"}}'
_EVERY = '{"for_which_classes": [1, 3], "min_valid_object_sizes": "None"}'
_REORIENT = "NibabelIOWithReorient"
V1, V2 = Framework.V1, Framework.V2


def _both(
    name: str,
    nets: tuple[Net, ...],
    configurations: tuple[str, ...],
    ct: str,
    small: tuple[Framework, ...] = (),
    **more: object,
) -> list[Case]:
    mirroring = bool(more.pop("mirroring", True))
    return [
        Case(name, replace(Model(f, nets), **more), configurations, ct, mirroring, f in small)  # type: ignore[arg-type]
        for f in (V1, V2)
    ]


_SMALL = (False, True)
_FULL, _CASCADE = ("3d_fullres",), ("3d_cascade_fullres",)
_STAGES = (_LOW, _WHOLE, _SECOND)
CASES = [
    *_both("plain", (_WHOLE,), _FULL, "cip_ct64", folds=1),
    *_both("folds", (_WHOLE,), _FULL, "cip_ct64", (V2,), folds=5, mirroring=False, seed=1),
    *_both("folds and mirroring", (_WHOLE,), _FULL, "phantom", folds=5, seed=2),
    *_both("low resolution", (_LOW,), ("3d_lowres",), "cip_ct64", seed=3),
    *_both("slices", (_PLANAR,), ("2d",), "cip_ct64", (V1,), seed=4),
    *_both("slices, thick", (replace(PLANAR, spacing_mm=(2.0, 2.1)),), ("2d",), "lidc_0314 5 mm", mirroring=False,
        seed=5),
    *_both("cascade", _STAGES, _CASCADE, "cip_ct64", (V2,), mirroring=False, seed=6),
    *_both("cascade, folds", _STAGES, _CASCADE, "phantom", folds=2, transpose=(1, 0, 2), seed=7),
    *_both("separate z", (_SEPARATE,), _FULL, "lidc_0314 5 mm", (V2,), mirroring=False, seed=8),
    *_both("separate z, transposed", (_TURNED,), _FULL, "lidc_0314 5 mm", (V1,),
        mirroring=False, transpose=(1, 0, 2), seed=9),
    *_both("thin slices", (_THIN,), _FULL, "lidc_0314 1 mm", mirroring=False, seed=10),
    *_both("transposed", (_THIN,), _FULL, "lidc_0314 1 mm", transpose=(2, 0, 1), mirroring=False, seed=11),
    *_both("smaller than the patch", (_THIN,), _FULL, "lidc_0314 stub", (V1, V2), seed=12),
    *_both("one tile", (_SINGLE,), _FULL, "cip_ct64", (V1, V2), seed=13),
    *_both("zero border", (_THIN,), _FULL, "lidc_0314 framed", (V2,), mirroring=False, seed=14),
    *_both("ensemble", (_PLANAR, _WHOLE), ("2d", "3d_fullres"), "cip_ct64", mirroring=False, seed=15),
    *_both("ensemble, folds", (_PLANAR, _LOW, _WHOLE), ("3d_lowres", "3d_fullres"), "phantom", (V2,),
        folds=2, mirroring=False, seed=16),
    Case("components with sizes", Model(V1, (_WHOLE,), postprocessing=_LARGEST, seed=17), _FULL, "cip_ct64", *_SMALL),
    Case("cascade of components", Model(V1, _STAGES, postprocessing=_EVERY, seed=18), _CASCADE, "cip_ct64", *_SMALL),
    Case("regions", Model(V2, (_WHOLE,), labels=Labels.REGIONS, folds=2, seed=19), _FULL, "cip_ct64", *_SMALL),
    Case("regions, mirrored", Model(V2, (_THIN,), labels=Labels.REGIONS, seed=20), _FULL, "lidc_0314 framed"),
    Case("residual", Model(V2, (_RESIDUAL,), seed=21), _FULL, "cip_ct64", *_SMALL),
    Case("residual, mirrored", Model(V2, (_RESIDUAL,), folds=2, seed=22), _FULL, "phantom"),
    Case("reader that reorients", Model(V2, (_WHOLE,), reader=_REORIENT, seed=24), _FULL, "phantom prone", *_SMALL),
    Case("trained without mirroring", Model(V2, (_WHOLE,), mirroring=False, seed=23), _FULL, "phantom"),
]  # fmt: skip
