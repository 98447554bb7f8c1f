"""The page of one series: what its job found, with pictures, numbers and checks, and where all of it came from.

What the database knows is shown at once. What only the archive knows (pictures, radiomics, headers of the objects) is
loaded afterwards, part by part, so that an archive that is away takes away its own parts only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.told_apart import told_apart
from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.errors import EnrichError, TransientError
from orthanc_plugin.jobs.corrected import Corrections
from orthanc_plugin.jobs.ledger import Decision
from orthanc_plugin.jobs.numbers import StoredResults
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.scans import Scans
from orthanc_plugin.jobs.webhooks import subject_of
from orthanc_plugin.results.sc.planes import AXES, EDGES
from orthanc_plugin.results.sc.scan import WINDOWS, Scan
from orthanc_plugin.service.findings import Cards, models_of, parameters_of, volumes_of
from orthanc_plugin.service.measured import QUERY, Radiomics, Wanted, choose, wanted_of
from orthanc_plugin.service.pages import is_part, render
from orthanc_plugin.service.routes import in_thread, known_job
from orthanc_plugin.service.score_plot import plot_scores, runs, spread

JOBS, SERIES = "/enrichment/jobs/{id}", "/enrichment/series/{series}"


class JobPage:
    """Handlers of the page and of its parts.

    Parameters
    ----------
    queue : JobQueue
        Jobs, and the decisions in its ledger.
    results : StoredResults
        Objects that jobs stored.
    scans : Scans
        Pictures.
    cards : Cards
        Cards of the installed models.
    corrections : Corrections
        What people made of the segmentations.
    """

    def __init__(
        self, queue: JobQueue, results: StoredResults, scans: Scans, cards: Cards, corrections: Corrections
    ) -> None:
        self._queue, self._results, self._scans, self._cards = queue, results, scans, cards
        self._corrections = corrections
        self._radiomics = Radiomics(queue, results)

    def routes(self) -> list[Route]:
        """Return the routes of the page and of its parts."""
        return [
            Route(JOBS, in_thread(self.page)),
            Route(f"{JOBS}/pictures", in_thread(self.pictures)),
            Route(f"{JOBS}/radiomics", in_thread(self.radiomics, QUERY)),
            Route(f"{JOBS}/objects", in_thread(self.objects)),
            Route(f"{JOBS}/corrections", in_thread(self.corrections)),
            Route(SERIES, in_thread(self.series, ("archive",))),
        ]

    def page(self, request: Request) -> Response:
        """Render the page of a job, or answer 404 if there is no such job."""
        row = self._queue.ledger.of_job(str(request.path_params["id"]))
        if row is None:
            raise HTTPException(404, "there is no such job")
        return self._rendered(row)

    def series(self, request: Request) -> Response:
        """Render the page of the newest decision on a series, or answer 404 if there is none."""
        uid, archive = str(request.path_params["series"]), request.query_params.get("archive", "")
        rows = [row for row in self._queue.ledger.of_series_anywhere(uid) if archive in ("", row.archive)]
        if not rows:
            raise HTTPException(404, "nothing was decided on this series" if is_uid(uid) else "this is not a UID")
        standing = [row for row in rows if not row.superseded_by]
        return self._rendered((standing or rows)[-1])

    def _rendered(self, row: Decision) -> Response:
        history = self._queue.ledger.of_series(row.archive, row.series_instance_uid)
        common: dict[str, object] = {
            "active": "",
            "row": row,
            "history": history[::-1],
            "deliveries": self._queue.deliveries.of_job(subject_of(row)),
            "regions": tuple(reversed(Region)),
            "runs": runs,
        }
        if not row.job_id:
            return render("skip.html", **common)
        view, job = self._queue.show(row.job_id), self._queue.job(row.job_id)
        models = models_of(view, job, self._cards)
        return render(
            "result.html",
            **common,
            job=view,
            plan=job.plan,
            parameters=parameters_of,
            location=view.location,
            plot=plot_scores(view.location) if view.location is not None else None,
            models=models,
            volumes=volumes_of(view, models),
            kinds={str(stored.kind) for stored in view.objects},
        )

    def pictures(self, request: Request) -> Response:
        """Render the planes of the scan with the legend."""
        job_id = known_job(self._queue, request)
        view = self._queue.show(job_id)

        def part() -> dict[str, object]:
            scan = self._scans.scan(job_id)
            return {
                "scan": scan,
                "names": told_apart([(structure.label, structure.model) for structure in scan.structures]),
                "windows": list(WINDOWS),
                "edges": dict(zip(AXES, EDGES, strict=True)),
                "zip": zip,
            } | _levels(scan, view.location, self._results.mask_landmarks(job_id))

        return self._part(request, "pictures.html", "Pictures", part)

    def radiomics(self, request: Request) -> Response:
        """Render a page of the radiomics, found and sorted as asked."""
        job_id, wanted = known_job(self._queue, request), wanted_of(request)

        def part() -> dict[str, object]:
            table = choose(self._radiomics.rows(job_id), wanted)
            return {"table": table, "wanted": wanted, "link": lambda **changes: _query(wanted, **changes)}

        return self._part(request, "radiomics.html", "Radiomics", part)

    def objects(self, request: Request) -> Response:
        """Render the stored objects with what they say of themselves."""
        job_id = known_job(self._queue, request)

        def part() -> dict[str, object]:
            return {"said": {item.sop_instance_uid: ds for item, ds in self._results.headers(job_id)}}

        objects, archive = self._queue.show(job_id).objects, self._queue.job(job_id).plan.home_archive
        return self._part(request, "objects.html", "Objects", part, objects=objects, archive=archive, said={})

    def corrections(self, request: Request) -> Response:
        """Render how people changed the segmentations."""
        job_id = known_job(self._queue, request)
        return self._part(
            request, "corrections.html", "Corrections", lambda: {"corrected": self._corrections.of_job(job_id)}
        )

    def _part(
        self, request: Request, template: str, title: str, make: Callable[[], dict[str, object]], **always: object
    ) -> Response:
        """Render a part that needs the archive, or say in its place what is wrong.

        always: what the part shows without the archive.
        """
        job_id, problem, values = str(request.path_params["id"]), "", dict[str, object]()
        try:
            values = make()
        except TransientError as error:
            problem = f"{error}. The other parts of this page do not need it."
        except EnrichError as error:
            problem = str(error)
        whole = not is_part(request)
        return render(
            template, job_id=job_id, problem=problem, title=title, active="",
            layout="page.html" if whole else "part.html", **always | values,
        )  # fmt: skip


def _levels(scan: Scan, location: BodyLocation | None, of_masks: Sequence[tuple[str, str, float]]) -> dict[str, object]:
    """Give what stands beside the coronal picture: landmarks and regions, at heights in percent from its top.

    of_masks: name, model and height (LPS z, mm) of the landmarks of masks. There is little room: where several models
    found a landmark, the number of the model follows its name.
    """
    models = tuple(dict.fromkeys(model for _, model, _ in of_masks))
    names = told_apart([(name, str(models.index(model) + 1)) for name, model, _ in of_masks], "{} {}")
    heights = {name: z_mm for name, (_, _, z_mm) in zip(names, of_masks, strict=True)}
    axial = scan.planes[0]
    count, from_feet = axial.count, scan.slice_from_feet
    slices = {key: int(np.abs(np.subtract(axial.at_mm, z_mm)).argmin()) for key, z_mm in heights.items()}
    if location is not None:
        slices |= {mark.key: from_feet(mark.slice_index) for mark in location.landmarks}
    regions = location.regions if location is not None else {}
    return {
        "height_of": lambda z: round(100 * (1 - z / count), 3),
        "span_of": lambda a, b: round(100 * (b + 1 - a) / count, 3),
        "marks": spread({key: round(100 * (1 - (index + 0.5) / count), 3) for key, index in slices.items()}),
        "bands": {region: runs(tuple(sorted(map(from_feet, found)))) for region, found in regions.items()},
        "of_masks": frozenset(heights),
        "models_of_masks": models if {*names} != {name for name, _, _ in of_masks} else (),
    }


def _query(wanted: Wanted, **changes: object) -> dict[str, str]:
    """Give the query of the table with other values; what is empty or the default is left out."""
    now = replace(wanted, **{"page": 1, **changes})  # type: ignore[arg-type]
    every = {"text": now.text, "structure": now.structure, "image": now.image, "sort": now.sort}
    return {name: value for name, value in every.items() if value} | ({"page": str(now.page)} if now.page > 1 else {})
