#!/usr/bin/env python3
"""Jobs of Snakemake as Jobs of Kubernetes, by `kubectl`: what profiles/kubernetes/profile.yaml calls.

`submit SCRIPT` makes one and prints its name, `status NAME` prints running, success or failed, and names alone delete them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).with_name("job.yaml")
PROPERTIES = "# properties = "  # of a job, in the script that Snakemake writes for it


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    return subprocess.run(["kubectl", *arguments], input=stdin, text=True, check=True, stdout=subprocess.PIPE).stdout


def manifest(script: Path) -> dict[str, Any]:
    """The Job of a script: the template with its command, its folder, and what its rule asks for."""
    lines = script.read_text().splitlines()
    properties = json.loads(next(line for line in lines if line.startswith(PROPERTIES)).removeprefix(PROPERTIES))
    resources = properties["resources"]
    job: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text())
    job["spec"]["activeDeadlineSeconds"] = 60 * int(resources["runtime"])
    container = job["spec"]["template"]["spec"]["containers"][0]
    container |= {"command": ["sh", str(script)], "workingDir": os.getcwd()}
    asked = {"cpu": str(properties["threads"]), "memory": f"{resources['mem_mb']}M"}
    limits = {"memory": asked["memory"]}
    if resources.get("gpu"):
        limits["nvidia.com/gpu"] = str(resources["gpu"])
    container["resources"] = {"requests": asked, "limits": limits}
    return job


def state(name: str) -> str:
    """One of Snakemake's three words."""
    counts = json.loads(kubectl("get", "job", name, "--output", "json")).get("status", {})
    conditions = {each["type"] for each in counts.get("conditions", []) if each["status"] == "True"}
    if counts.get("succeeded"):
        return "success"
    return "failed" if counts.get("failed") or "Failed" in conditions else "running"


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["submit"]:
        made = kubectl("create", "--filename", "-", "--output", "name", stdin=json.dumps(manifest(Path(arguments[1]))))
        print(made.strip().rpartition("/")[2])
    elif arguments[:1] == ["status"]:
        print(state(arguments[1]))
    elif arguments:
        kubectl("delete", "job", "--ignore-not-found", *arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
