"""Prefect 3: fetch rain every three hours, then map every county.

Needs ``pip install prefect`` beside zoo. ``python watch_prefect.py`` serves the flow until it is stopped.
"""

from __future__ import annotations

import subprocess

from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner

import zoo

DATA = "/data/landslides"
COUNTIES = ("hongya", "emei")


@task(retries=2, retry_delay_seconds=600)
def fetch_rain() -> None:
    """Download the rain of the last days with your own script."""
    subprocess.run(["./fetch_imerg.sh", "imerg"], cwd=DATA, check=True)


@task(retries=2, retry_delay_seconds=600)
def map_county(county: str) -> list[str]:
    """Map one county; return the districts to alert."""
    report = zoo.risk.watch(
        f"{DATA}/{county}.tif",
        f"{DATA}/imerg",
        f"{DATA}/watch/{county}",
        weights=f"{DATA}/{county}.json",
        every=3,
        districts=f"{DATA}/{county}.gpkg",
    )
    return [alert.district for alert in report.alerts if alert.first]


# One county at a time: two in one process would share its memory and its libraries.
@flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
def landslide_watch() -> dict[str, list[str]]:
    """Fetch the rain, then map every county; a county that fails does not stop the others."""
    fetch_rain()
    running = {county: map_county.submit(county) for county in COUNTIES}
    for future in running.values():
        future.wait()
    return {county: future.result() for county, future in running.items()}


if __name__ == "__main__":
    # Two runs must not write into one folder at the same time; zoo refuses the second one.
    landslide_watch.serve(name="every-three-hours", cron="15 */3 * * *", limit=1)
