"""Airflow 3: fetch rain every three hours, then map every county. Copy this file into the folder of DAGs.

Needs ``pip install apache-airflow apache-airflow-providers-standard`` on the scheduler, and zoo on the workers.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

DATA = "/data/landslides"
COUNTIES = ("hongya", "emei")

with DAG(
    dag_id="landslide_watch",
    schedule="15 */3 * * *",
    start_date=datetime(2026, 6, 1, tzinfo=UTC),
    catchup=False,
    # Two runs must not write into one folder at the same time; zoo refuses the second one.
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
) as dag:
    fetch = BashOperator(task_id="fetch_rain", bash_command=f"cd {DATA} && ./fetch_imerg.sh imerg")
    for county in COUNTIES:
        watch = BashOperator(
            task_id=f"watch_{county}",
            bash_command=(
                f"cd {DATA} && zoo risk watch {county}.tif --weights {county}.json --rain imerg --every 3 "
                f"--districts {county}.gpkg --out watch/{county}"
            ),
        )
        fetch >> watch
