"""Ready queries, by name, each with what it answers and what can be set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from orthanc_plugin.errors import ConfigError


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One ready query. parameters: what can be set, with its default."""

    name: str
    text: str
    sql: str
    parameters: Mapping[str, float | str] = field(default_factory=dict)


_QUERIES = (
    NamedQuery(
        "heart-volume-outliers",
        "hearts whose volume is more than `z` robust standard deviations from the median of their model",
        """
        WITH hearts AS (
          SELECT series_instance_uid, study_instance_uid, model, model_version, volume_ml
          FROM measurements_wide
          WHERE current AND structure_code IN ('80891009', 'T-32000') AND volume_ml IS NOT NULL
        ), middle AS (
          SELECT model, model_version, median(volume_ml) AS median_ml, mad(volume_ml) AS mad_ml
          FROM hearts GROUP BY ALL
        )
        SELECT h.*, round(m.median_ml, 1) AS median_ml,
          round((h.volume_ml - m.median_ml) / nullif(1.4826 * m.mad_ml, 0), 2) AS z
        FROM hearts h JOIN middle m USING (model, model_version)
        WHERE abs(h.volume_ml - m.median_ml) > $z * 1.4826 * m.mad_ml
        ORDER BY abs(h.volume_ml - m.median_ml) / nullif(m.mad_ml, 0) DESC NULLS FIRST, series_instance_uid
        """,
        {"z": 3.5},
    ),
    NamedQuery(
        "volume-outliers",
        "structures whose volume is more than `z` robust standard deviations from the median of structure and model",
        """
        WITH all_volumes AS (
          SELECT series_instance_uid, study_instance_uid, label, structure_meaning, structure_modifier, model,
            model_version, volume_ml
          FROM measurements_wide WHERE current AND volume_ml IS NOT NULL
        ), middle AS (
          SELECT structure_meaning, structure_modifier, model, model_version, median(volume_ml) AS median_ml,
            mad(volume_ml) AS mad_ml
          FROM all_volumes GROUP BY ALL HAVING count(*) >= 5
        )
        SELECT v.*, round(m.median_ml, 1) AS median_ml,
          round((v.volume_ml - m.median_ml) / nullif(1.4826 * m.mad_ml, 0), 2) AS z
        FROM all_volumes v JOIN middle m USING (structure_meaning, structure_modifier, model, model_version)
        WHERE abs(v.volume_ml - m.median_ml) > $z * 1.4826 * m.mad_ml
        ORDER BY abs(v.volume_ml - m.median_ml) / nullif(m.mad_ml, 0) DESC NULLS FIRST, series_instance_uid, label
        """,
        {"z": 3.5},
    ),
    NamedQuery(
        "volumes",
        "number, median and quartiles of the volume of each structure, by model, in mL",
        """
        SELECT label, structure_modifier, model, model_version, count(*) AS series,
          round(median(volume_ml), 2) AS median_ml, round(quantile_cont(volume_ml, 0.25), 2) AS q1_ml,
          round(quantile_cont(volume_ml, 0.75), 2) AS q3_ml
        FROM measurements_wide WHERE current AND volume_ml IS NOT NULL GROUP BY ALL ORDER BY label, model, model_version
        """,
    ),
    NamedQuery(
        "sphericity",
        "number, median and range of the sphericity of each structure, by model",
        """
        SELECT label, structure_modifier, model, model_version, count(*) AS series,
          round(median(shape_Sphericity), 4) AS median, round(min(shape_Sphericity), 4) AS least,
          round(max(shape_Sphericity), 4) AS greatest
        FROM measurements_wide WHERE current AND shape_Sphericity IS NOT NULL GROUP BY ALL
        ORDER BY label, model, model_version
        """,
    ),
    NamedQuery(
        "failed-checks",
        "checks of masks that failed, with their sentence",
        """
        SELECT series_instance_uid, study_instance_uid, model, label, structure_modifier, "check", value, unit, detail
        FROM checks WHERE current AND NOT passed ORDER BY series_instance_uid, model, label, "check"
        """,
    ),
    NamedQuery(
        "poor-input",
        "series with a check of the input that failed, by scanner and kernel",
        """
        SELECT q.series_instance_uid, q.study_instance_uid, s.manufacturer, s.manufacturer_model_name,
          s.convolution_kernel, q."check", q.value, q.unit, q.note
        FROM input_quality q LEFT JOIN series s USING (series_instance_uid)
        WHERE q.current AND NOT q.passed ORDER BY q.series_instance_uid, q."check"
        """,
    ),
    NamedQuery(
        "lung-extent",
        "height of the lungs: top minus bottom of the lungs by the landmarks of each report, in mm",
        """
        SELECT series_instance_uid, study_instance_uid, kind, model, model_version,
          max(position_mm) FILTER (WHERE landmark = 'lung_end')
            - min(position_mm) FILTER (WHERE landmark = 'lung_start') AS extent_mm
        FROM landmarks WHERE current AND landmark IN ('lung_start', 'lung_end') AND position_mm IS NOT NULL
        GROUP BY ALL HAVING extent_mm IS NOT NULL ORDER BY series_instance_uid, kind, model
        """,
    ),
    NamedQuery(
        "regions",
        "part of the slices that shows each region of the body: median over the series",
        """
        SELECT region, count(*) AS series, round(median(share), 4) AS median_share, round(max(share), 4) AS greatest
        FROM regions WHERE current AND share IS NOT NULL GROUP BY region ORDER BY region
        """,
    ),
    NamedQuery(
        "not-complete",
        "objects that lack something, and why; the most frequent reason first",
        """
        SELECT reason, manufacturer, kind, count(*) AS objects, min(sop_instance_uid) AS example
        FROM objects WHERE reason != '' GROUP BY ALL ORDER BY objects DESC, reason, manufacturer, kind
        """,
    ),
    NamedQuery(
        "superseded",
        "objects that a newer one of the same kind, model and series replaces",
        """
        SELECT series_instance_uid, study_instance_uid, sop_instance_uid, kind, model, model_version, created
        FROM objects WHERE NOT current ORDER BY series_instance_uid, kind, created
        """,
    ),
    NamedQuery(
        "not-enriched",
        "CT series that no result names",
        """
        SELECT s.series_instance_uid, s.study_instance_uid, s.series_description, s.instances, j.state, j.reason
        FROM series s LEFT JOIN jobs j ON j.series_instance_uid = s.series_instance_uid AND j.current
        WHERE s.modality = 'CT'
          AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.series_instance_uid = s.series_instance_uid)
        ORDER BY s.series_instance_uid
        """,
    ),
    NamedQuery(
        "models-compared",
        "the same structure by two models or versions: volumes and their difference, in mL",
        """
        WITH volumes AS (
          SELECT series_instance_uid, study_instance_uid, structure_code, structure_modifier, label,
            model || ' ' || model_version AS model, volume_ml
          FROM measurements_wide WHERE current AND volume_ml IS NOT NULL AND structure_code != ''
        )
        SELECT a.series_instance_uid, a.study_instance_uid, a.label, a.structure_modifier, a.model AS model_a,
          b.model AS model_b, a.volume_ml AS a_ml, b.volume_ml AS b_ml, b.volume_ml - a.volume_ml AS difference_ml
        FROM volumes a JOIN volumes b
          ON a.series_instance_uid = b.series_instance_uid AND a.structure_code = b.structure_code
          AND a.structure_modifier = b.structure_modifier AND a.model < b.model
        ORDER BY abs(difference_ml) DESC, a.series_instance_uid, a.label
        """,
    ),
    NamedQuery(
        "shadow-compared",
        "structures by shadow models and by the models of the rules: volumes and Dice, the lowest Dice first",
        """
        SELECT series_instance_uid, study_instance_uid, label, modifier_code, shadow, model, shadow_ml, model_ml, dice,
          shadow_ml - model_ml AS difference_ml, shadow_digest, model_digest
        FROM shadow WHERE current AND model_ml IS NOT NULL ORDER BY dice NULLS LAST, series_instance_uid, label, shadow
        """,
    ),
)

NAMED: Mapping[str, NamedQuery] = MappingProxyType({query.name: query for query in _QUERIES})


def named_query(name: str) -> NamedQuery:
    """Return a ready query.

    Raises
    ------
    ConfigError
        If there is none of that name; the message lists those there are.
    """
    if name not in NAMED:
        raise ConfigError(f"there is no ready query {name}; there are: {', '.join(NAMED)}")
    return NAMED[name]
