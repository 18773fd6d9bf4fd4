"""Writes the dashboard, with `python -m deploy.grafana.build`.

Its first row answers one question, whether people wait; the rows below say why.
"""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parent / "dashboards" / "unmute.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
WINDOW = "$__rate_interval"

Panel = dict[str, Any]
Query = tuple[str, str]
"""An expression of PromQL, and the legend of what it gives."""


def rate(metric: str, by: str = "") -> str:
    """Returns the sum of a counter's growth per second, split by a label if there is one."""
    split = f" by ({by})" if by else ""
    return f"sum{split} (rate({metric}[{WINDOW}]))"


def quantile(share: float, metric: str, by: str = "") -> str:
    """Returns the quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'le, {by}' if by else 'le')})"


def mean(metric: str, by: str = "") -> str:
    """Returns the mean of a histogram."""
    return f"{rate(f'{metric}_sum', by)} / {rate(f'{metric}_count', by)}"


def quantiles(metric: str, name: str = "", by: str = "") -> tuple[Query, ...]:
    """Returns the median and the 95th percentile."""
    label = f"{{{{{by}}}}}" if by else name
    return tuple((quantile(share, metric, by), f"{label} p{round(share * 100)}".strip()) for share in (0.5, 0.95))


def _targets(queries: tuple[Query, ...]) -> list[dict[str, Any]]:
    return [
        {"datasource": SOURCE, "expr": expression, "legendFormat": legend, "refId": chr(ord("A") + number)}
        for number, (expression, legend) in enumerate(queries)
    ]


def graph(
    title: str, unit: str, *queries: Query, about: str = "", stack: bool = False, most: float | None = None
) -> Panel:
    """Returns lines over time."""
    custom: dict[str, Any] = {"lineWidth": 2, "fillOpacity": 30 if stack else 5, "showPoints": "never"}
    if stack:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    defaults: dict[str, Any] = {"unit": unit, "min": 0, "custom": custom}
    if most is not None:
        custom["thresholdsStyle"] = {"mode": "line"}
        defaults["thresholds"] = _thresholds(most, most)
    return {
        "type": "timeseries",
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "targets": _targets(queries),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def stat(title: str, unit: str, query: str, warn: float, bad: float, about: str = "") -> Panel:
    """Returns one number that turns yellow and red."""
    return {
        "type": "stat",
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "targets": _targets(((query, ""),)),
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": _thresholds(warn, bad)}, "overrides": []},
        "options": {
            "colorMode": "background",
            "graphMode": "area",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    }


def _thresholds(warn: float, bad: float) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}, {"color": "yellow", "value": warn}]
    return {"mode": "absolute", "steps": [*steps, {"color": "red", "value": bad}]}


def _waiting() -> list[Panel]:
    voice = "unmute_voice_to_voice_seconds"
    failed = rate('unmute_responses_total{status="failed"}')
    refused = rate('unmute_errors_total{job="orchestrator",reason="AT_CAPACITY"}')
    return [
        stat("Half of the answers begin within", "s", quantile(0.5, voice), 0.8, 1.2, "After the user's last sound."),
        stat("19 of 20 answers begin within", "s", quantile(0.95, voice), 1.2, 1.5),
        stat("Conversations", "short", "sum(unmute_sessions_active)", 1e9, 1e9),
        stat(
            "Places taken",
            "percentunit",
            "sum(unmute_sessions_active) / sum(unmute_sessions_limit)",
            0.8,
            0.95,
        ),
        stat(
            "Answers that fail",
            "percentunit",
            f"{failed} / ({rate('unmute_responses_total')} > 0) or vector(0)",
            0.01,
            0.05,
        ),
        stat(
            "Turned away a minute",
            "short",
            f"60 * ({refused} or vector(0))",
            0.5,
            5,
        ),
    ]


def _stages() -> list[Panel]:
    stage = "unmute_turn_stage_seconds"
    return [
        graph("Voice to voice", "s", *quantiles("unmute_voice_to_voice_seconds"), most=1.5),
        graph(
            "Where the time goes",
            "s",
            (mean(stage, "stage"), "{{stage}}"),
            stack=True,
            about="Mean of what each stage adds, from the user's last sound to the answer's first.",
        ),
        graph("Stages, 95th percentile", "s", (quantile(0.95, stage, "stage"), "{{stage}}")),
    ]


def _room() -> list[Panel]:
    slots = [
        (f"sum(unmute_{name}_slots_in_use) / sum(unmute_{name}_slots)", label)
        for name, label in (("stt", "speech to text"), ("llm", "language model"), ("tts", "text to speech"))
    ]
    return [
        graph(
            "Conversations",
            "short",
            ("sum(unmute_sessions_active)", "now"),
            ("sum(unmute_sessions_limit)", "limit"),
            ("sum(unmute_page_sessions_active)", "of the page"),
            ("sum(unmute_gateway_sessions_active)", "of the gateway"),
        ),
        graph("Slots in use", "percentunit", *slots, most=0.9),
        graph(
            "Model servers",
            "short",
            ("min by (service, state) (unmute_backends)", "{{service}} {{state}}"),
            about="As the orchestrator sees them, the one that sees fewest.",
        ),
        graph(
            "Who is late",
            "s",
            ("max(unmute_stt_lag_seconds)", "speech to text is behind"),
            (quantile(0.99, "unmute_event_loop_lag_seconds", "job"), "event loop of {{job}}, p99"),
            about="An event loop that is late has too little processor for its conversations.",
        ),
        graph(
            "Audio that came too late",
            "short",
            (f"{rate('unmute_tts_late_audio_total')}", "pieces of speech a second"),
            (f"{rate('unmute_page_dropouts_total')}", "gaps that pages told of"),
            about="Speech that was made when all before it had been played, and gaps that were heard in a browser.",
        ),
    ]


def _models() -> list[Panel]:
    return [
        graph(
            "Step time",
            "s",
            *quantiles("unmute_stt_step_seconds", "speech to text"),
            *quantiles("unmute_tts_step_seconds", "text to speech"),
            about="A batch of Kyutai's must stay below 80 ms.",
        ),
        graph("Last words after a flush", "s", *quantiles("unmute_stt_flush_seconds")),
        graph("Time to first token", "s", *quantiles("unmute_llm_time_to_first_token_seconds")),
        graph("Time to first audio", "s", *quantiles("unmute_tts_time_to_first_audio_seconds")),
        graph(
            "Real-time factor",
            "short",
            (f"{rate('unmute_stt_step_seconds_sum')} / {rate('unmute_stt_audio_seconds_total')}", "speech to text"),
            (f"{rate('unmute_tts_step_seconds_sum')} / {rate('unmute_tts_audio_seconds_total')}", "text to speech"),
            about="Seconds of model for a second of audio.",
        ),
        graph("Tokens a second", "short", (rate("unmute_llm_tokens_total", "kind"), "{{kind}}")),
        graph("Time for a token", "s", *quantiles("unmute_llm_time_per_output_token_seconds")),
        graph("Answers written", "short", (rate("unmute_llm_answers_total", "reason"), "{{reason}}")),
    ]


def _talk() -> list[Panel]:
    return [
        graph(
            "Turns and answers a minute",
            "short",
            (f"60 * {rate('unmute_turns_total')}", "turns"),
            (f"60 * {rate('unmute_responses_total', 'status')}", "answers {{status}}"),
        ),
        graph(
            "Interruptions a minute",
            "short",
            (f"60 * {rate('unmute_interruptions_total', 'reason')}", "{{reason}}"),
            (f"60 * {rate('unmute_false_interruptions_total')}", "false"),
        ),
        graph("Answers begun early", "short", (rate("unmute_preemptive_answers_total", "outcome"), "{{outcome}}")),
        graph("Functions", "short", (rate("unmute_tool_calls_total", "status"), "{{status}}")),
    ]


def _errors() -> list[Panel]:
    return [
        graph("Errors by reason", "short", (rate("unmute_errors_total", "job, reason"), "{{job}}: {{reason}}")),
        graph(
            "Calls that ended badly",
            "short",
            (rate('grpc_server_handled_total{code!~"OK|CANCELLED"}', "job, code"), "{{job}}: {{code}}"),
        ),
        graph("Memory", "bytes", ("process_resident_memory_bytes", "{{job}} {{instance}}")),
        graph("Processor cores", "short", (f"rate(process_cpu_seconds_total[{WINDOW}])", "{{job}} {{instance}}")),
    ]


ROWS: tuple[tuple[str, list[Panel], int, int], ...] = (
    ("Do people wait?", _waiting(), 6, 4),
    ("Which stage takes the time", _stages(), 3, 8),
    ("Is there room", _room(), 3, 7),
    ("The models", _models(), 4, 7),
    ("The conversations", _talk(), 4, 7),
    ("What goes wrong", _errors(), 4, 7),
)
"""Title, panels, panels beside each other, and their height."""


def build() -> dict[str, Any]:
    """Returns the dashboard as Grafana reads it."""
    panels: list[Panel] = []
    numbers, top = count(1), 0
    for title, row, beside, height in ROWS:
        panels.append(
            {
                "type": "row",
                "title": title,
                "id": next(numbers),
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            }
        )
        top += 1
        width = WIDTH // beside
        for number, panel in enumerate(row):
            place = {"x": number % beside * width, "y": top + number // beside * height, "w": width, "h": height}
            panels.append({**panel, "id": next(numbers), "gridPos": place})
        top += -(-len(row) // beside) * height
    return {
        "uid": "unmute",
        "title": "Unmute Mesh",
        "tags": ["unmute"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {"text": "Prometheus", "value": "prometheus"},
                    "hide": 0,
                }
            ]
        },
        "annotations": {"list": []},
        "links": [],
        "panels": panels,
    }


if __name__ == "__main__":
    OUTPUT.write_text(json.dumps(build(), indent=1) + "\n")
