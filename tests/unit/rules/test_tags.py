"""Tags of a series: kinds of image by ImageType, geometry, what differs between instances, multi-frame CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orthanc_plugin.domain.image_kind import ImageKind, image_kinds
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.rules.tags import OrthancMetadata, SeriesTags, series_tags
from tests.support.cases.realct import real_ct

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]


def slice_at(z: float, **attributes: object) -> Dataset:
    header = Dataset()
    values = {
        "SOPClassUID": CT,
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Rows": 64,
        "ImagePositionPatient": [0, 0, z],
        "ImageOrientationPatient": AXIAL,
        **attributes,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(header, keyword, value)
    return header


def item(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced(positions: Sequence[float], frame_type: list[str], technique: str = "NONE") -> Dataset:
    """An Enhanced CT as the standard nests it: shared orientation, one position and frame type a frame."""
    header = item(SOPClassUID=ENHANCED_CT, Modality="CT", Rows=64, NumberOfFrames=len(positions))
    header.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    header.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)],
            PixelMeasuresSequence=[item(SliceThickness=1.5, PixelSpacing=[1, 1])],
            PixelValueTransformationSequence=[item(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU")],
        )
    ]
    header.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])],
            CTImageFrameTypeSequence=[item(FrameType=frame_type, VolumeBasedCalculationTechnique=technique)],
        )
        for z in positions
    ]
    return header


def tags(headers: Sequence[Dataset], orthanc: OrthancMetadata | None = None) -> SeriesTags:
    return series_tags(headers, orthanc, archive="local", today=date(2026, 3, 10))


PLAIN = [
    r"ORIGINAL\PRIMARY\AXIAL",
    r"ORIGINAL\PRIMARY\AXIAL\HELIX",
    r"ORIGINAL\PRIMARY\AXIAL\CT_SOM5 SPI",
    r"ORIGINAL\PRIMARY\AXIAL\CT_SOM5 SEQ",
    r"ORIGINAL\PRIMARY\AXIAL\CT_SOM7 SPI DUAL",
    r"ORIGINAL\PRIMARY\AXIAL\ADD",
    r"DERIVED\PRIMARY\AXIAL\CT_SOM5 SPI",
    r"DERIVED\SECONDARY\AXIAL",
    r"ORIGINAL\SECONDARY\AXIAL",
    r"ORIGINAL\PRIMARY\VOLUME\NONE",
    r"DERIVED\PRIMARY\VOLUME\ENERGY_PROP_WT",
    r"DERIVED\PRIMARY\AXIAL\JP2K LOSSY 6:1",
    r"ORIGINAL\PRIMARY\AXIAL\CALCIUM SCORING",
    r"ORIGINAL\PRIMARY\CARDIAC\NONE",
]

NOT_PLAIN = [
    (r"ORIGINAL\PRIMARY\LOCALIZER", ImageKind.LOCALIZER),
    (r"ORIGINAL\PRIMARY\localizer", ImageKind.LOCALIZER),
    (r"ORIGINAL\PRIMARY\LOCALIZER\CT_SOM5 TOP", ImageKind.LOCALIZER),
    (r"ORIGINAL\PRIMARY\OTHER\CT_SOM5 TOP", ImageKind.LOCALIZER),
    (r"ORIGINAL\PRIMARY\SCOUT", ImageKind.LOCALIZER),
    (r"ORIGINAL\PRIMARY\SURVIEW", ImageKind.LOCALIZER),
    (r"DERIVED\SECONDARY\MPR", ImageKind.REFORMAT),
    (r"DERIVED\SECONDARY\OTHER\CSA MPR", ImageKind.REFORMAT),
    (r"DERIVED\SECONDARY\OTHER\CSAMPR", ImageKind.REFORMAT),
    (r"DERIVED\SECONDARY\AXIAL\CT_SOM5 MPR", ImageKind.REFORMAT),
    (r"DERIVED\SECONDARY\OTHER\CSAPARALLEL", ImageKind.REFORMAT),
    (r"DERIVED\SECONDARY\OTHER\CSA RESAMPLED", ImageKind.REFORMAT),
    (r"DERIVED\SECONDARY\REFORMATTED\AVERAGE", ImageKind.REFORMAT),
    (r"DERIVED\PRIMARY\VOLUME\RESAMPLED", ImageKind.REFORMAT),
    (r"DERIVED\SECONDARY\CPR", ImageKind.REFORMAT),
    (r"DERIVED\SECONDARY\AXIAL\MIP", ImageKind.PROJECTION),
    (r"DERIVED\SECONDARY\AXIAL\THIN_MIP", ImageKind.PROJECTION),
    (r"DERIVED\SECONDARY\REFORMATTED\MIN_IP", ImageKind.PROJECTION),
    (r"DERIVED\SECONDARY\MINIP", ImageKind.PROJECTION),
    (r"DERIVED\SECONDARY\PROJECTION IMAGE", ImageKind.PROJECTION),
    (r"DERIVED\SECONDARY\AXIAL\VRT", ImageKind.PROJECTION),
    (r"DERIVED\PRIMARY\VOLUME\MAXIMUM", ImageKind.PROJECTION),
    (r"DERIVED\PRIMARY\AXIAL\VMI", ImageKind.MONOENERGETIC),
    (r"DERIVED\PRIMARY\AXIAL\MONO_70KEV", ImageKind.MONOENERGETIC),
    (r"DERIVED\PRIMARY\AXIAL\MONO70", ImageKind.MONOENERGETIC),
    (r"DERIVED\SECONDARY\MONOENERGETIC", ImageKind.MONOENERGETIC),
    (r"DERIVED\SECONDARY\AXIAL\MonoE_40keV", ImageKind.MONOENERGETIC),
    (r"DERIVED\PRIMARY\AXIAL\DE_MONO+ 50", ImageKind.MONOENERGETIC),
    (r"DERIVED\PRIMARY\AXIAL\GSI MONO", ImageKind.MONOENERGETIC),
    (r"DERIVED\PRIMARY\AXIAL\MONOCHROMATIC", ImageKind.MONOENERGETIC),
    (r"DERIVED\PRIMARY\AXIAL\MAT_SPECIFIC", ImageKind.MATERIAL),
    (r"DERIVED\PRIMARY\AXIAL\MAT_REMOVED", ImageKind.MATERIAL),
    (r"DERIVED\PRIMARY\AXIAL\MAT_VALUE_BASED", ImageKind.MATERIAL),
    (r"DERIVED\PRIMARY\AXIAL\EFF_ATOMIC_NUM", ImageKind.MATERIAL),
    (r"DERIVED\PRIMARY\AXIAL\ELECTRON_DENSITY", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\AXIAL\IODINE_NO_WATER", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\AXIAL\WATER(IODINE)", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\AXIAL\Z_EFFECTIVE", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\AXIAL\ZEFF", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\AXIAL\VNC", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\AXIAL\VIRTUAL_NON_CONTRAST", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\AXIAL\VUE", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\AXIAL\CALCIUM_SUPPRESSION_25", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\AXIAL\URIC_ACID", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\AXIAL\LUNG PBV", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\AXIAL\SUBTRACTION", ImageKind.MATERIAL),
    (r"DERIVED\SECONDARY\SCREEN SAVE", ImageKind.SCREEN_SAVE),
    (r"DERIVED\SECONDARY\SCREENSHOT", ImageKind.SCREEN_SAVE),
    (r"DERIVED\SECONDARY\OTHER\DOSE_INFO", ImageKind.SCREEN_SAVE),
    (r"ORIGINAL\SECONDARY\OTHER\CT_SOM5 PROT", ImageKind.SCREEN_SAVE),
    (r"DERIVED\PRIMARY\PERFUSION\RCBF", ImageKind.PERFUSION),
    (r"DERIVED\SECONDARY\AXIAL\CBV", ImageKind.PERFUSION),
    (r"DERIVED\SECONDARY\AXIAL\TTP", ImageKind.PERFUSION),
    (r"DERIVED\SECONDARY\AXIAL\TMAX", ImageKind.PERFUSION),
    (r"DERIVED\SECONDARY\PERFUSED BLOOD VOLUME", ImageKind.PERFUSION),
    (r"ORIGINAL\PRIMARY\AXIAL\DYNAMIC", ImageKind.DYNAMIC),
    (r"ORIGINAL\PRIMARY\AXIAL\4D", ImageKind.DYNAMIC),
    (r"ORIGINAL\PRIMARY\AXIAL\CINE", ImageKind.DYNAMIC),
    (r"ORIGINAL\PRIMARY\FLUOROSCOPY\NONE", ImageKind.DYNAMIC),
    (r"ORIGINAL\PRIMARY\AXIAL\CT_SOM5 MON", ImageKind.DYNAMIC),
]


@pytest.mark.parametrize("image_type", PLAIN)
def test_plain_acquisitions_are_of_no_kind(image_type: str) -> None:
    assert image_kinds(image_type.split("\\")) == {}


@pytest.mark.parametrize(("image_type", "kind"), NOT_PLAIN)
def test_image_type_of_vendors_and_standard_tells_the_kind(image_type: str, kind: ImageKind) -> None:
    assert kind in image_kinds(image_type.split("\\"))


def test_every_kind_is_in_the_table() -> None:
    assert {kind for _, kind in NOT_PLAIN} == set(ImageKind)


class TestClassicSeries:
    def test_order_of_slices_does_not_matter_for_spacing(self) -> None:
        found = tags([slice_at(z, SliceThickness=5) for z in (10, 2.5, 7.5, 0, 5)])
        assert (found.slices, found.spacing_mm, found.slice_thickness_mm, found.axial) == (5, 2.5, 5.0, True)

    def test_spacing_runs_along_the_normal(self) -> None:
        coronal = {"ImageOrientationPatient": CORONAL}
        headers = [slice_at(0, ImagePositionPatient=[1000 - y, 3 * y, 7], **coronal) for y in range(4)]
        assert (tags(headers).spacing_mm, tags(headers).axial) == (3.0, False)

    @pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 0.951, 0.309], [-1, 0, 0, 0, 1, 0]])
    def test_tilted_gantry_and_feet_first_are_axial(self, orientation: list[float]) -> None:
        assert tags([slice_at(0, ImageOrientationPatient=orientation)]).axial is True

    @pytest.mark.parametrize(
        "scout",
        [
            {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
            {"ImageType": ["ORIGINAL", "PRIMARY", "SCOUT"], "ImageOrientationPatient": None},
            {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
            {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "SliceThickness": 500, "RescaleType": "US"},
        ],
    )
    def test_localizers_among_the_slices_are_set_aside_and_counted(self, scout: dict[str, object]) -> None:
        slices = [slice_at(z) for z in range(30)]
        scouts = [slice_at(99 + n, **scout) for n in range(2)]
        assert tags([scouts[0], *slices, scouts[1]]) == replace(tags(slices), localizers=2)

    def test_localizers_alone_are_told_as_such(self) -> None:
        scouts = [slice_at(z, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]) for z in range(3)]
        assert tags(scouts).kinds == {ImageKind.LOCALIZER: "LOCALIZER"}

    def test_half_a_series_across_the_other_half_stays(self) -> None:
        coronal = [slice_at(z, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]) for z in range(5)]
        assert tags([slice_at(z) for z in range(10)] + coronal).axial is False

    @pytest.mark.parametrize("step", [0.33, 0.625, 1.25])
    def test_spacing_of_positions_rounded_to_tenths(self, step: float) -> None:
        found = tags([slice_at(round(n * step, 1)) for n in range(80)]).spacing_mm
        assert found == pytest.approx(step, abs=0.002)

    def test_the_same_instance_twice_counts_once(self) -> None:
        slices = [slice_at(z, SOPInstanceUID=f"1.2.{z}") for z in range(5)]
        assert tags([*slices, slices[2], slice_at(2, SOPInstanceUID="1.2.2")]).slices == 5

    @pytest.mark.parametrize("text", ["hu", "Hounsfield", "Houndsfield Unit", "HOUNSFIELD UNITS", "[hnsf'U]", " HU "])
    def test_every_spelling_of_hounsfield_units_is_hu(self, text: str) -> None:
        assert tags([slice_at(0, RescaleType=text)]).rescale_types == ("HU",)

    @pytest.mark.parametrize("text", ["US", "HU_MOD", "Z_EFF", "OD", "PCT", "MGML"])
    def test_other_units_keep_their_name(self, text: str) -> None:
        assert tags([slice_at(0, RescaleType=text)]).rescale_types == (text,)

    def test_several_images_at_each_position_are_time_points(self) -> None:
        assert tags([slice_at(z) for z in range(10) for _ in range(4)]).time_points == 4

    def test_one_slice_sent_twice_is_no_second_time_point(self) -> None:
        assert tags([slice_at(z) for z in (0, 1, 2, 3, 3)]).time_points == 1

    def test_what_differs_keeps_all_its_values(self) -> None:
        headers = [slice_at(0, RescaleType="HU", ConvolutionKernel=["Br40", "3"]), slice_at(1, RescaleType="US")]
        assert tags(headers).rescale_types == ("HU", "US")
        assert tags(headers).convolution_kernel == ("Br40\\3",)

    def test_absent_and_empty_tags_are_no_values(self) -> None:
        found = tags([slice_at(0, RescaleType="", SeriesDescription=" ")])
        assert (found.rescale_types, found.series_description, found.slice_thickness_mm) == ((), (), None)

    def test_series_without_geometry_has_none(self) -> None:
        found = tags([slice_at(0, ImagePositionPatient=None, ImageOrientationPatient=None)])
        assert (found.axial, found.spacing_mm, found.time_points) == (None, None, 1)

    def test_energy_of_a_virtual_monoenergetic_image_tells_it(self) -> None:
        assert ImageKind.MONOENERGETIC in tags([slice_at(0, MonoenergeticEnergyEquivalent=70.0)]).kinds

    @pytest.mark.parametrize(("text", "age"), [("20260301", 9), ("", None), (None, None), ("2026", None)])
    def test_age_of_the_study_in_days(self, text: str | None, age: int | None) -> None:
        header = slice_at(0)
        if text is not None:
            header.add_new("StudyDate", "LO", text)  # LO: pydicom checks no text of ours then
        assert tags([header]).study_age_days == age

    def test_metadata_with_main_tags_only_are_not_complete(self) -> None:
        assert tags([slice_at(0)]).complete
        assert not tags([slice_at(0, ImageType=None, Rows=None)]).complete

    def test_no_headers_are_refused(self) -> None:
        with pytest.raises(InputError) as caught:
            tags([])
        assert caught.value.reason is Refusal.GONE

    def test_json_of_wado_rs_gives_the_same_tags(self) -> None:
        headers = [slice_at(z, SliceThickness=2.5, RescaleType="HU", StudyDate="20260301") for z in range(3)]
        assert tags([Dataset.from_json(header.to_json_dict()) for header in headers]) == tags(headers)

    def test_headers_that_are_no_dicom_inside_are_refused_without_their_text(self) -> None:
        ds = Dataset()
        ds.add_new(0x52009229, "OB", b"P^ATIENT")  # SharedFunctionalGroupsSequence is a sequence
        with pytest.raises(InputError) as refusal:
            series_tags([ds], None, archive="local", today=date(2026, 1, 1))
        assert refusal.value.reason is Refusal.UNREADABLE
        assert "ATIENT" not in str(refusal.value)

    def test_unreadable_number_is_unknown(self) -> None:
        header = Dataset.from_json({**slice_at(0).to_json_dict(), "00200032": {"vr": "LO", "Value": ["a", "b", "c"]}})
        assert tags([header]).spacing_mm is None


class TestEnhancedCt:
    def test_frames_are_slices_with_their_own_geometry(self) -> None:
        found = tags([enhanced([4, 0, 2], ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])])
        assert (found.slices, found.spacing_mm, found.axial, found.slice_thickness_mm) == (3, 2.0, True, 1.5)
        assert found.rescale_types == ("HU",)
        assert found.kinds == {}

    def test_frame_type_tells_the_kind(self) -> None:
        found = tags([enhanced([0, 1], ["DERIVED", "PRIMARY", "VOLUME", "MAT_SPECIFIC"])])
        assert found.kinds == {ImageKind.MATERIAL: "MAT_SPECIFIC"}

    @pytest.mark.parametrize(
        ("technique", "kind"),
        [
            ("MAX_IP", ImageKind.PROJECTION),
            ("MIN_IP", ImageKind.PROJECTION),
            ("VOLUME_RENDER", ImageKind.PROJECTION),
            ("SURFACE_RENDER", ImageKind.PROJECTION),
            ("MPR", ImageKind.REFORMAT),
            ("CURVED_MPR", ImageKind.REFORMAT),
        ],
    )
    def test_calculation_technique_tells_the_kind(self, technique: str, kind: ImageKind) -> None:
        found = tags([enhanced([0, 1], ["DERIVED", "PRIMARY", "VOLUME", "NONE"], technique)])
        assert found.kinds == {kind: technique}

    def test_frames_at_one_position_are_time_points(self) -> None:
        found = tags([enhanced([0, 1, 2] * 5, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])])
        assert (found.time_points, found.slices) == (5, 15)

    def test_frames_of_several_instances_count_together(self) -> None:
        frame_type = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        assert tags([enhanced([0, 1], frame_type), enhanced([2, 3], frame_type)]).spacing_mm == 1.0


@pytest.mark.parametrize(
    ("values", "phantom"),
    [(("YES", "YES"), True), (("YES", "NO"), False), (("YES", None), False), ((None, None), False)],
)
def test_a_phantom_is_what_every_image_calls_a_quality_control_image(
    values: Sequence[str | None], phantom: bool
) -> None:
    assert tags([slice_at(z, QualityControlImage=value) for z, value in enumerate(values)]).phantom is phantom


def test_phantoms_of_this_project_say_so_and_cut_headers_do_not() -> None:
    headers = encode_phantom(make_phantom(shape=(3, 16, 16)))
    assert tags(headers).phantom
    assert not tags([slice_at(0, QualityControlImage=None, ImageType=None, Rows=None)]).phantom


@pytest.mark.real_ct
@pytest.mark.parametrize(
    ("name", "slices", "spacing_mm"), [("cip_ct64/dicom", 79, 3.99), ("gantry_tilt", 28, 4.01)]
)  # fmt: skip
def test_real_ct_is_axial_at_its_measured_spacing(name: str, slices: int, spacing_mm: float) -> None:
    files = sorted(real_ct(name).rglob("*.dcm"))
    headers = [dcmread(path, stop_before_pixels=True) for path in files]
    first = [header for header in headers if header.SeriesInstanceUID == headers[0].SeriesInstanceUID]
    found = tags(first)
    assert (found.slices, found.axial, found.kinds) == (slices, True, {})
    assert found.spacing_mm == pytest.approx(spacing_mm)
