"""The results file: facts of the machine, versions, and a row for every layer; runs add to it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyconv.run.bench.case import Case
from polyconv.run.bench.ceilings import Ceilings
from polyconv.run.bench.session import Result

ROOT = Path(__file__).parents[1]


@dataclass
class Results:
    """What was measured, as it stands in the JSON file."""

    path: Path
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> Results:
        """The results at ``path``; empty where there is no file."""
        data = json.loads(path.read_text()) if path.exists() else {}
        return Results(path, **{name: data[name] for name in ("machine", "versions", "rows", "extras") if name in data})

    def write(self) -> None:
        """Save, through a temporary name, so that a stopped run leaves a whole file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = {name: getattr(self, name) for name in ("machine", "versions", "rows", "extras")}
        draft = self.path.with_suffix(".tmp")
        draft.write_text(json.dumps(data, indent=1) + "\n")
        draft.replace(self.path)

    def missing(self, case: Case, variants: list[str]) -> list[str]:
        """The variants a case has no entry for."""
        have = self.rows.get(case.name, {}).get("results", {})
        return [variant for variant in variants if variant not in have]

    def add(self, case: Case, results: dict[str, Result]) -> None:
        """Put one case's results in; variants not among them keep what they have."""
        row = self.rows.setdefault(case.name, {"results": {}})
        row |= {"notation": case.notation, "shape": list(case.shape)}
        now = time.strftime("%Y-%m-%dT%H:%M:%S")
        row["results"] |= {variant: {**result.to_json(), "at": now} for variant, result in results.items()}

    @property
    def ceilings(self) -> Ceilings:
        """The machine's limits."""
        return Ceilings.from_json(self.machine["ceilings"])

    def describe(self, ceilings: Ceilings) -> None:
        """Note the machine, keeping the highest ceiling seen: disturbance only ever lowers one."""
        known = self.machine.get("ceilings")
        if known and known["threads"] == ceilings.threads:
            before = Ceilings.from_json(known)
            copies = {size: max(rate, before.copies.get(size, 0.0)) for size, rate in ceilings.copies.items()}
            ceilings = Ceilings(ceilings.threads, max(ceilings.flops_s, before.flops_s), copies)
        self.machine = {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "polyconv": _commit(),
            "date": time.strftime("%Y-%m-%d"),
            "ceilings": ceilings.to_json(),
        }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in lines if line.count(":") == 1}
    widest = next((name for name in ("avx512f", "avx2", "asimd") if name in " ".join(lines)), "")
    name = found.get("model name", platform.processor())
    return f"{name} (family {found.get('cpu family', '?')}, model {found.get('model', '?')}, {widest})"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
