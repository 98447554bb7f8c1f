"""A client of the API for notebooks and scripts: decisions, jobs, volumes and radiomics of many series.

It needs httpx only. Rows are plain dicts, so that `pandas.DataFrame(client.volumes())` is a table.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

__all__ = ["ApiError", "Client"]

_ROOT = "/enrichment/api/v1"
_PAGE = 500
Row = dict[str, Any]


class ApiError(Exception):
    """The service refused a request; the text says why."""


class Client:
    """A session with the service.

    Parameters
    ----------
    url : str
        Address of the service, such as `http://127.0.0.1:8043`.
    user, password : str
        A user of Orthanc.
    timeout_s : float
        Limit between two bytes of an answer.
    token : str
        A token of the API, in place of user and password.
    ca_file : Path or str
        Certificate (PEM) of a private CA, where the service or its proxy has one.

    Raises
    ------
    ValueError
        If both a token and a user are given.
    """

    def __init__(
        self,
        url: str,
        user: str = "",
        password: str = "",
        timeout_s: float = 60.0,
        *,
        token: str = "",
        ca_file: Path | str = "",
    ) -> None:
        if user and token:
            raise ValueError("log in as a user or with a token, not with both")
        auth = httpx.BasicAuth(user, password) if user else None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        trust = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        self._http = httpx.Client(base_url=url.rstrip("/"), auth=auth, headers=headers, timeout=timeout_s, verify=trust)

    def __enter__(self) -> Client:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def series(self, **filters: str) -> Iterator[Row]:
        """Yield the decisions that match, newest first; filters are those of `GET /enrichment/api/v1/series`."""
        return self._pages("series", "series", filters)

    def jobs(self, **filters: str) -> Iterator[Row]:
        """Yield the jobs that match, newest first; filters as for `series`."""
        return self._pages("jobs", "jobs", filters)

    def job(self, job_id: str) -> Row:
        """Return one job, with its location in the body, its checks and its deliveries."""
        job: Row = self._asked("GET", f"jobs/{job_id}").json()
        return job

    def volumes(self, **filters: str) -> Iterator[Row]:
        """Yield the volume of each structure of each job that matches; without a `state`, of jobs that are done."""
        for job in self.jobs(**{"state": "done", **filters}):
            about = {key: job[key] for key in ("study_instance_uid", "series_instance_uid", "archive", "rule")}
            for stage in job["stages"]:
                for structure, volume_ml in stage["volumes_ml"].items():
                    model = stage["name"].removeprefix("segment ")
                    yield {**about, "job": job["id"], "model": model, "structure": structure, "volume_ml": volume_ml}

    def radiomics(self, job_id: str) -> list[Row]:
        """Return every value of the radiomics reports of a job."""
        rows: list[Row] = self._asked("GET", f"jobs/{job_id}/radiomics.json").json()
        return rows

    def act(self, act: str, series: list[str]) -> Row:
        """Do something with series, named as `ARCHIVE/SeriesInstanceUID`: `retry`, `cancel`, `decide-again`, ..."""
        done: Row = self._asked("POST", "series/act", json={"act": act, "series": series}).json()
        return done

    def _pages(self, path: str, key: str, filters: dict[str, str]) -> Iterator[Row]:
        """Yield the rows of all pages; rows that are added meanwhile push older ones on, so each is given once."""
        seen: set[tuple[str, str]] = set()
        offset = 0
        while rows := self._asked("GET", path, params={**filters, "limit": str(_PAGE), "offset": str(offset)}).json()[
            key
        ]:
            for row in rows:
                name = (row.get("id") or row.get("fingerprint", ""), row["archive"])
                if name not in seen:
                    seen.add(name)
                    yield row
            offset += _PAGE

    def _asked(self, method: str, path: str, **more: Any) -> httpx.Response:
        answer = self._http.request(method, f"{_ROOT}/{path}", **more)
        if answer.is_success:
            return answer
        try:
            message = answer.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = answer.text.strip()
        raise ApiError(f"{answer.status_code}: {message}")
