"""`headrace status`: what runs, and how far the loader is."""

import json
import time
from pathlib import Path
from typing import Any

import click

from pipeline.cli.loader_state import heartbeat
from pipeline.cli.settings import home_option
from pipeline.config import load_settings
from pipeline.laptop.api import api_url
from pipeline.laptop.home import Home
from pipeline.laptop.stack import Finding, find_stack
from pipeline.machine.processes import ProcessRef, alive

NOT_RUNNING = 1


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="One object, for programs.")
@home_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool, home: Path | None) -> None:
    """Show what runs. The exit code is 0 when the stack runs, and 1 when it does not."""
    place = Home(load_settings({"paths": {"home": home}}).paths.home)
    report = status_report(place, find_stack(place), time.time())
    click.echo(json.dumps(report, indent=2) if as_json else _text(report))
    ctx.exit(0 if report["status"] == "running" else NOT_RUNNING)


def status_report(home: Home, finding: Finding, now: float) -> dict[str, Any]:
    """Gather the status as plain values; `now` in Unix seconds."""
    stack = finding.stack
    return {
        "status": finding.status,
        "reason": finding.reason or None,
        "home": str(home.path),
        "endpoint_url": stack.endpoint_url if stack else None,
        "uptime_seconds": round(now - stack.started_at, 1) if stack and finding.status == "running" else None,
        "emulator": _process(stack.emulator if stack else None),
        "loader": _process(stack.loader if stack else None) | {"heartbeat": heartbeat(home, now)},
        "api": _process(stack.api if stack else None) | {"url": api_url(home, stack.api) if stack else None},
        "processor": _process(stack.processor if stack else None),
        "owner": _process(stack.owner if stack else None),
        "settings": stack.settings if stack else {},
    }


def _process(process: ProcessRef | None) -> dict[str, Any]:
    return {"pid": process.pid if process else None, "running": alive(process)}


def _text(report: dict[str, Any]) -> str:
    lines = [f"{report['status']}" + (f": {report['reason']}" if report["reason"] else "")]
    lines.append(f"home      {report['home']}")
    if report["status"] == "running":
        lines.append(f"endpoint  {report['endpoint_url']}, up for {_duration(report['uptime_seconds'])}")
    if report["api"]["url"] is not None:
        lines.append(f"API       {report['api']['url']}, reference {report['api']['url']}/docs")
    for name in ("emulator", "loader", "api", "processor"):
        if report[name]["pid"] is not None:
            state = "running" if report[name]["running"] else "not running"
            lines.append(f"{name:9} process {report[name]['pid']}, {state}")
    if report["status"] == "running":
        lines.append(f"restarts  {_restarts(report)}")
    beat = report["loader"]["heartbeat"]
    if beat is not None:
        lines.append(f"progress  since the loader started: {_progress(beat)}")
    return "\n".join(lines)


def _restarts(report: dict[str, Any]) -> str:
    """Say who starts again what dies."""
    if report["owner"]["running"]:
        return f"process {report['owner']['pid']} starts again what dies"
    return "nobody starts again what dies: `headrace down`, then `headrace up --detach`, for a stack that is looked after"


def _progress(beat: dict[str, Any]) -> str:
    """Word the loader's heartbeat (`consumers.heartbeat`): totals since the loader started."""
    words = [
        f"{beat[key]:,} {key}"
        for key in ("units", "rows", "duplicates", "quarantined", "segments")
        if key in beat
    ]
    if beat.get("gaps"):
        words.append(f"{beat['gaps']} GAPS: see `headrace audit`")
    if "behind_ms" in beat:
        words.append(f"{beat['behind_ms'] / 1000:.1f} s behind")
    return ", ".join([*words, f"as of {beat['age_seconds']} s ago"])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
