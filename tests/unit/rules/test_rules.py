"""Rules: what the default takes and refuses, each criterion, first match, errors of a rule, plans and skips."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orthanc_plugin.config.rule import DEFAULT_RULE, Rule
from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.image_kind import ImageKind
from orthanc_plugin.domain.plan import (
    DEFAULT_SEG,
    Location,
    Measure,
    Output,
    Plan,
    PlannedModel,
    SegEncoding,
    SegSettings,
)
from orthanc_plugin.domain.radiomics_settings import FeatureClass, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.reading import MissingSlices, Phase, ReadSettings
from orthanc_plugin.errors import ModelError, Refusal
from orthanc_plugin.rules.decide import Skip, decide, explain
from orthanc_plugin.rules.tags import SeriesTags

CT, ENHANCED_CT, LEGACY_CT = (f"1.2.840.10008.5.1.4.1.1.2{suffix}" for suffix in ("", ".1", ".2"))
MODELS = {"chest_structures": "d1", "head_neck_oar": "d4", "other": "d2"}
DEFAULT_MODELS = (PlannedModel("chest_structures", "d1"), PlannedModel("head_neck_oar", "d4"))
NOT_INSTALLED = Location(absent="no body part regression model is installed")

CHEST = SeriesTags(
    archive="local",
    modality=("CT",),
    sop_class_uids=(CT,),
    image_types=("ORIGINAL", "PRIMARY", "AXIAL"),
    rescale_types=(),
    body_part_examined=("CHEST",),
    series_description=("Thorax 1.0 Br40",),
    study_description=("CT Thorax nativ",),
    protocol_name=("Lung LowDose",),
    convolution_kernel=("Br40d\\3",),
    slices=300,
    slice_thickness_mm=1.0,
    spacing_mm=0.7,
    time_points=1,
    axial=True,
    study_age_days=2,
    remote_aet="CT1",
    origin="DicomProtocol",
    complete=True,
    remote_ip="10.1.0.7",
)


def rule(name: str = "a", **keys: Any) -> Rule:
    return Rule.model_validate({"Name": name, **keys})


def matching(**criteria: Any) -> Rule:
    return rule(Match=criteria)


def skip(rules: list[Rule], tags: SeriesTags) -> Skip:
    decision = decide(rules, tags, MODELS)
    assert isinstance(decision, Skip)
    return decision


OUTPUTS_ASKED_FOR = {
    "Outputs": ["seg", "rtstruct", "preview", "checks"],
    "RadiomicsSettings": {"Mode": "pyradiomics", "Classes": ["glcm", "shape"], "BinWidth": 10, "LogSigma": [3, 1],
                          "ImageLibrary": True},
    "SegEncoding": "labelmap-rle",
    "SegCeiling": 0.5,
    "HoldBack": ["volume", "side"],
}  # fmt: skip


def test_what_a_rule_says_of_results_stands_in_the_plan() -> None:
    plan = decide([rule(**OUTPUTS_ASKED_FOR)], CHEST, MODELS)
    assert isinstance(plan, Plan)
    assert plan.outputs == (Output.SEG, Output.RADIOMICS, Output.CHECKS, Output.RTSTRUCT, Output.PREVIEW)
    assert plan.radiomics == RadiomicsSettings(
        mode=RadiomicsMode.PYRADIOMICS, classes=(FeatureClass.SHAPE, FeatureClass.GLCM), bin_width_hu=10,
        log_sigma_mm=(1.0, 3.0),
    )  # fmt: skip
    assert plan.image_library
    assert plan.seg == SegSettings(SegEncoding.LABELMAP_RLE, 0.5)
    assert plan.hold_back == (Check.SIDE, Check.VOLUME)


def test_what_paints_the_patient_or_repeats_results_as_pictures_is_made_only_on_demand() -> None:
    plan = decide([rule()], CHEST, MODELS)
    assert isinstance(plan, Plan)
    assert {*plan.outputs} <= {
        Output.SEG, Output.RADIOMICS, Output.LANDMARKS, Output.BODY_LANDMARKS, Output.BODY_REGIONS, Output.CHECKS,
    }  # fmt: skip
    assert plan.seg == SegSettings(SegEncoding.AUTO, 1.0)
    assert not plan.seg.body


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"HoldBack": ["agreement"]}, "agreement"),
        ({"RadiomicsSettings": {"Spacing": [1, 1]}}, "three steps"),
        ({"RadiomicsSettings": {"Spacing": [1, 0, 1]}}, "three steps"),
        ({"RadiomicsSettings": {"Resegment": [400, -1000]}}, "lowest"),
        ({"RadiomicsSettings": {"BinCount": 1}}, "BinCount"),
        ({"RadiomicsSettings": {"Mode": "pyradiomics", "Resegment": [-1000, 400], "ResegmentSigma": 3}}, "not both"),
    ],
)
def test_what_no_measurement_could_follow_is_refused_by_its_key(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rule(**keys)


def matches(criteria: dict[str, Any], tags: SeriesTags = CHEST) -> bool:
    return explain([matching(**criteria)], tags)[0].matches


class TestDefaultRule:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"sop_class_uids": (ENHANCED_CT,)},
            {"sop_class_uids": (LEGACY_CT,)},
            {"slices": 20},
            {"spacing_mm": 6.0},
            {"rescale_types": ("HU",)},
            {"body_part_examined": (), "series_description": (), "convolution_kernel": ()},
            {"slice_thickness_mm": None, "study_age_days": None, "remote_aet": None, "origin": None},
        ],
    )
    def test_takes_axial_ct(self, changes: dict[str, Any]) -> None:
        assert decide([DEFAULT_RULE], replace(CHEST, **changes), MODELS) == Plan(
            rule="default",
            models=DEFAULT_MODELS,
            outputs=(Output.SEG, Output.RADIOMICS, Output.LANDMARKS, Output.CHECKS),
            home_archive="local",
            location=NOT_INSTALLED,
            seg=DEFAULT_SEG,
        )

    @pytest.mark.parametrize(
        ("changes", "reason", "sentence"),
        [
            ({"modality": ("MR",)}, Refusal.NOT_CT, "Modality: MR, wanted CT"),
            ({"modality": ("CT", "SEG")}, Refusal.NOT_CT, "Modality: CT, SEG, wanted CT"),
            ({"modality": ()}, Refusal.NOT_CT, "Modality: absent, wanted CT"),
            (
                {"sop_class_uids": ("1.2.840.10008.5.1.4.1.1.7",)},
                Refusal.NOT_CT,
                "SOPClass: 1.2.840.10008.5.1.4.1.1.7, wanted CT or EnhancedCT or LegacyEnhancedCT",
            ),
            ({"slices": 19}, Refusal.TOO_FEW_SLICES, "Slices: 19, wanted 20 or more"),
            ({"spacing_mm": 6.1}, Refusal.NO_RULE, "Spacing: 6.1 mm, wanted 6 mm or less"),
            ({"spacing_mm": None}, Refusal.NO_RULE, "Spacing: unknown, wanted 6 mm or less"),
            ({"axial": False}, Refusal.NOT_AXIAL, "Axial: false, wanted true"),
            ({"axial": None}, Refusal.NOT_AXIAL, "Axial: unknown, wanted true"),
            ({"rescale_types": ("HU_MOD",)}, Refusal.NOT_HU, "RescaleType: HU_MOD, wanted HU"),
            ({"rescale_types": ("HU", "US")}, Refusal.NOT_HU, "RescaleType: HU, US, wanted HU"),
            ({"time_points": 4}, Refusal.NO_RULE, "TimePoints: 4, wanted 1 or less"),
            ({"image_types": ("DERIVED", "SECONDARY", "MPR")}, Refusal.NO_RULE, "ImageType: MPR, wanted no reformat"),
        ],
    )
    def test_refuses_the_rest_with_what_is_and_what_is_wanted(
        self, changes: dict[str, Any], reason: Refusal, sentence: str
    ) -> None:
        refused = skip([DEFAULT_RULE], replace(CHEST, **changes))
        assert (refused.reason, refused.sentence) == (reason, f"rule default: {sentence}")
        assert not refused.in_error

    def test_refuses_every_kind_that_is_no_plain_acquisition(self) -> None:
        assert DEFAULT_RULE.match.exclude_kinds == tuple(ImageKind)

    def test_of_our_own_results_only_says_that_they_are_no_ct(self) -> None:
        seg = replace(CHEST, modality=("SEG",), sop_class_uids=("1.2.840.10008.5.1.4.1.1.66.4",), slices=1, axial=None)
        assert skip([DEFAULT_RULE], seg).reason is Refusal.NOT_CT
        assert "Slices" not in skip([DEFAULT_RULE], seg).sentence

    def test_all_failed_criteria_are_told(self) -> None:
        refused = skip([DEFAULT_RULE], replace(CHEST, slices=2, spacing_mm=10, axial=False))
        assert [failure.criterion for failure in refused.verdicts[0].failures] == ["Slices", "Spacing", "Axial"]
        assert refused.reason is Refusal.TOO_FEW_SLICES


class TestCriteria:
    @pytest.mark.parametrize(
        ("criteria", "met"),
        [
            ({"Archive": ["local"]}, True),
            ({"Archive": ["pacs"]}, False),
            ({"Modality": ["PT", "ct"]}, True),
            ({"Modality": []}, True),
            ({"SOPClass": ["CT"]}, True),
            ({"SOPClass": [CT]}, True),
            ({"SOPClass": ["EnhancedCT"]}, False),
            ({"ImageType": {"Any": ["original"]}}, True),
            ({"ImageType": {"Any": ["HELIX"]}}, False),
            ({"ImageType": {"None": ["primary"]}}, False),
            ({"ImageType": {"None": ["DERIVED"]}}, True),
            ({"BodyPartExamined": ["Chest", "THORAX"]}, True),
            ({"BodyPartExamined": ["HEAD"]}, False),
            ({"SeriesDescription": "thorax"}, True),
            ({"SeriesDescription": "^1.0"}, False),
            ({"StudyDescription": "nativ$"}, True),
            ({"ProtocolName": "low ?dose"}, True),
            ({"ConvolutionKernel": "^Br[34]"}, True),
            ({"ConvolutionKernel": "^B7"}, False),
            ({"Slices": {"Min": 300, "Max": 300}}, True),
            ({"Slices": {"Max": 299}}, False),
            ({"SliceThickness": {"Max": 1}}, True),
            ({"SliceThickness": {"Min": 1.5}}, False),
            ({"Spacing": {"Min": 0.7}}, True),
            ({"StudyAgeDays": {"Max": 2}}, True),
            ({"StudyAgeDays": {"Min": 3}}, False),
            ({"Axial": False}, False),
            ({"Axial": None}, True),
            ({"RemoteAET": ["ct1", "CT2"]}, True),
            ({"RemoteAET": ["CT2"]}, False),
            ({"RemoteIP": ["10.1.0.0/16"]}, True),
            ({"RemoteIP": ["10.2.0.7", "10.1.0.7"]}, True),
            ({"RemoteIP": ["10.1.0.8", "::1"]}, False),
            ({"Origin": ["DicomProtocol"]}, True),
            ({"Origin": ["Plugins"]}, False),
        ],
    )
    def test_each_criterion_takes_and_refuses(self, criteria: dict[str, Any], met: bool) -> None:
        assert matches(criteria) is met

    @pytest.mark.parametrize(
        ("criteria", "changes"),
        [
            ({"BodyPartExamined": ["CHEST"]}, {"body_part_examined": ()}),
            ({"SeriesDescription": "."}, {"series_description": ()}),
            ({"SliceThickness": {"Max": 9}}, {"slice_thickness_mm": None}),
            ({"StudyAgeDays": {"Min": 0}}, {"study_age_days": None}),
            ({"RemoteAET": ["CT1"]}, {"remote_aet": ""}),
            ({"RemoteIP": ["10.1.0.7"]}, {"remote_ip": ""}),
            ({"RemoteIP": ["0.0.0.0/0"]}, {"remote_ip": "not an address"}),
        ],
    )
    def test_absent_tag_meets_no_condition(self, criteria: dict[str, Any], changes: dict[str, Any]) -> None:
        (verdict,) = explain([matching(**criteria)], replace(CHEST, **changes))
        assert not verdict.matches
        assert not verdict.in_error

    @pytest.mark.parametrize(
        ("criteria", "changes"),
        [
            ({"Slices": None}, {"slices": 2}),
            ({"ExcludeKinds": []}, {"image_types": ("DERIVED", "SECONDARY", "MPR")}),
            ({"RescaleType": ["HU", "US"]}, {"rescale_types": ("US",)}),
            ({"TimePoints": None}, {"time_points": 9}),
            ({"Modality": [], "SOPClass": []}, {"modality": ("PT",), "sop_class_uids": ("1.2",)}),
            ({"AnonymizedFrom": None}, {"anonymized": True}),
            ({"ModifiedFrom": True}, {"modified": True}),
        ],
    )
    def test_guards_of_the_default_are_loosened_only_by_writing_so(
        self, criteria: dict[str, Any], changes: dict[str, Any]
    ) -> None:
        assert not matches({"SeriesDescription": "thorax"}, replace(CHEST, **changes))
        assert matches(criteria, replace(CHEST, **changes))


class TestWhatTheArchiveCannotTell:
    NO_ORTHANC = replace(CHEST, remote_aet=None, remote_ip=None, origin=None)

    @pytest.mark.parametrize(
        "criteria",
        [
            {"RemoteAET": ["CT1"]},
            {"RemoteIP": ["10.1.0.7"]},
            {"Origin": ["DicomProtocol"]},
            {"AnonymizedFrom": True},
            {"ModifiedFrom": True},
        ],
    )
    def test_is_an_error_of_the_rule_and_no_later_rule_takes_the_series(self, criteria: dict[str, Any]) -> None:
        refused = skip([matching(**criteria), DEFAULT_RULE], self.NO_ORTHANC)
        assert refused.in_error
        assert refused.reason is Refusal.RULE_ERROR
        assert refused.sentence.startswith("rule a is in error: ")
        assert "cannot be decided" in refused.sentence

    def test_copies_are_excluded_without_asking_an_archive_that_cannot_tell(self) -> None:
        assert isinstance(decide([DEFAULT_RULE], self.NO_ORTHANC, MODELS), Plan)

    def test_does_not_matter_where_the_rule_fails_anyway(self) -> None:
        assert isinstance(
            decide([matching(RemoteAET=["X"], Slices={"Min": 999}), DEFAULT_RULE], self.NO_ORTHANC, MODELS), Plan
        )

    def test_cut_headers_are_an_error_and_no_match(self) -> None:
        refused = skip([DEFAULT_RULE], replace(CHEST, image_types=(), complete=False))
        assert refused.in_error
        assert "SeriesMetadata" in refused.sentence

    def test_cut_headers_of_a_report_do_not_matter(self) -> None:
        report = replace(CHEST, modality=("SR",), sop_class_uids=("1.2.840.10008.5.1.4.1.1.88.34",), complete=False)
        assert skip([DEFAULT_RULE], report).reason is Refusal.NOT_CT
        assert not skip([DEFAULT_RULE], report).in_error


class TestDecision:
    def test_first_matching_rule_wins(self) -> None:
        rules = [matching(SeriesDescription="abdomen"), rule("b", Models=["other"]), DEFAULT_RULE]
        plan = decide(rules, CHEST, MODELS)
        assert isinstance(plan, Plan)
        assert (plan.rule, plan.models) == ("b", (PlannedModel("other", "d2"),))

    def test_rule_gives_models_outputs_home_and_destinations(self) -> None:
        wanted = rule(
            Models=["other", "chest_structures", "other"],
            Radiomics=False,
            Outputs=["landmarks", "seg"],
            HomeArchive="research",
            Destinations=["pacs", "research", "pacs"],
        )
        assert decide([wanted], CHEST, MODELS) == Plan(
            rule="a",
            models=(PlannedModel("other", "d2"), PlannedModel("chest_structures", "d1")),
            outputs=(Output.SEG, Output.LANDMARKS),
            home_archive="research",
            destinations=("pacs",),
            location=NOT_INSTALLED,
            seg=DEFAULT_SEG,
        )

    def test_a_rule_chooses_how_a_series_is_read(self) -> None:
        plain = decide([rule()], CHEST, MODELS)
        chosen = decide([rule(Phase="first", MissingSlices="interpolate")], CHEST, MODELS)
        assert isinstance(plain, Plan)
        assert isinstance(chosen, Plan)
        assert plain.reading == ReadSettings()
        assert chosen.reading == ReadSettings(Phase.FIRST, MissingSlices.INTERPOLATE)
        assert chosen.digest != plain.digest
        assert Plan.from_json(chosen.to_json()) == chosen
        assert "reading" not in plain.to_json()

    def test_order_of_outputs_is_no_part_of_the_plan(self) -> None:
        one, other = (decide([rule(Outputs=o)], CHEST, MODELS) for o in (["seg", "landmarks"], ["landmarks", "seg"]))
        assert isinstance(one, Plan)
        assert isinstance(other, Plan)
        assert one.digest == other.digest

    def test_sentence_tells_of_each_rule_why_not(self) -> None:
        refused = skip([rule("a", Match={"ConvolutionKernel": "B70"}), rule("b", Match={"Slices": {"Max": 9}})], CHEST)
        assert refused.sentence == (
            "rule a: ConvolutionKernel: Br40d\\3, wanted like B70. rule b: Slices: 300, wanted 9 or less"
        )

    def test_reason_is_shared_by_all_rules_or_general(self) -> None:
        short = replace(CHEST, slices=5)
        assert skip([DEFAULT_RULE, rule("b")], short).reason is Refusal.TOO_FEW_SLICES
        assert skip([DEFAULT_RULE, matching(Slices=None, SeriesDescription="abdomen")], short).reason is Refusal.NO_RULE

    def test_free_texts_of_the_hospital_are_in_no_sentence(self) -> None:
        named = replace(
            CHEST, series_description=("Frau Muster",), study_description=("Muster",), protocol_name=("Muster",)
        )
        refused = skip([matching(SeriesDescription="x", StudyDescription="y", ProtocolName="z")], named)
        assert "Muster" not in refused.sentence
        assert "SeriesDescription: another value, wanted like x" in refused.sentence
        assert refused.verdicts[0].failures[0].found == "Frau Muster"

    def test_without_rules_nothing_is_taken(self) -> None:
        assert (skip([], CHEST).reason, skip([], CHEST).sentence) == (Refusal.NO_RULE, "there are no rules")

    def test_model_that_went_away_is_the_operators_to_bring_back(self) -> None:
        with pytest.raises(ModelError, match="rule default: model chest_structures, head_neck_oar is not installed"):
            decide([DEFAULT_RULE], CHEST, {})

    def test_explain_goes_on_after_the_first_match(self) -> None:
        verdicts = explain([DEFAULT_RULE, rule("b", Match={"Slices": {"Max": 9}}), rule("c")], CHEST)
        assert [(verdict.rule, verdict.matches) for verdict in verdicts] == [
            ("default", True),
            ("b", False),
            ("c", True),
        ]
        assert verdicts[1].reasons == ("Slices: 300, wanted 9 or less",)


class TestTestModels:
    """A model that was trained on phantoms runs on phantoms, and on patients only where a rule says so."""

    TEST_MODELS = frozenset({"other"})
    ORGANS = rule("organs", Models=["other"])

    def verdict(self, rules: list[Rule], *, phantom: bool) -> Plan | Skip:
        return decide(rules, replace(CHEST, phantom=phantom), MODELS, self.TEST_MODELS)

    def test_a_patient_is_refused_and_the_sentence_names_the_model_and_the_way_out(self) -> None:
        refused = self.verdict([self.ORGANS], phantom=False)
        assert isinstance(refused, Skip)
        assert refused.reason is Refusal.TEST_MODEL
        assert refused.sentence == (
            "rule organs: QualityControlImage: absent or not YES, wanted YES (a phantom) for the test model other,"
            " or AllowTestModels true in the rule"
        )

    def test_a_phantom_is_taken(self) -> None:
        assert isinstance(self.verdict([self.ORGANS], phantom=True), Plan)

    def test_a_rule_may_allow_it_on_patients(self) -> None:
        allowed = rule("organs", Models=["other"], AllowTestModels=True)
        assert isinstance(self.verdict([allowed], phantom=False), Plan)

    def test_one_test_model_among_others_is_enough(self) -> None:
        refused = self.verdict([rule("both", Models=["chest_structures", "other"])], phantom=False)
        assert isinstance(refused, Skip)
        assert refused.reason is Refusal.TEST_MODEL

    def test_the_next_rule_takes_the_patient(self) -> None:
        plan = self.verdict([self.ORGANS, DEFAULT_RULE], phantom=False)
        assert isinstance(plan, Plan)
        assert plan.rule == "default"

    def test_it_is_the_reason_where_another_rule_fails_otherwise(self) -> None:
        refused = self.verdict([rule("short", Match={"Slices": {"Max": 9}}), self.ORGANS], phantom=False)
        assert isinstance(refused, Skip)
        assert refused.reason is Refusal.TEST_MODEL

    def test_what_is_no_ct_is_refused_for_that(self) -> None:
        refused = decide([self.ORGANS], replace(CHEST, modality=("MR",)), MODELS, self.TEST_MODELS)
        assert isinstance(refused, Skip)
        assert refused.reason is Refusal.NOT_CT

    def test_explain_says_it_too(self) -> None:
        (verdict,) = explain([self.ORGANS], CHEST, self.TEST_MODELS)
        assert [failure.criterion for failure in verdict.failures] == ["QualityControlImage"]


class TestMasksOfOthers:
    """A rule with `Measure: expert` plans no model and stores radiomics only."""

    def test_no_model_runs_and_nothing_else_is_stored(self) -> None:
        keys = {"Measure": "expert", "Models": ["not_installed"], "RadiomicsSettings": {"BinWidth": 10}}
        plan = decide([rule(**keys, Destinations=["far"])], CHEST, MODELS, frozenset({"not_installed"}))
        assert isinstance(plan, Plan)
        assert (plan.measure, plan.models, plan.outputs, plan.location) == (
            Measure.EXPERT, (), (Output.RADIOMICS,), None,
        )  # fmt: skip
        assert plan.radiomics.bin_width_hu == 10
        assert plan.destinations == ("far",)

    def test_other_rules_measure_the_masks_of_their_models(self) -> None:
        plan = decide([DEFAULT_RULE], CHEST, MODELS)
        assert isinstance(plan, Plan)
        assert plan.measure is Measure.MODELS
