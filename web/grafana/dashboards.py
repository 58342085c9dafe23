"""The two dashboards: all plants, and one point. A click leads from plant to line to point."""

from __future__ import annotations

from web.grafana.panels import Json, colored, dashboard, drawn, link, listed, variable

PLANTS, POINT = "meterflow-plants", "meterflow-point"
_TIME = "${__url_time_range}"
_ITS_PLANT = "var-plant=${__data.fields.plant:percentencode}"
_ITS_POINT = "var-point=${__data.fields.point:percentencode}"
_TO_POINT = f"/d/{POINT}?{_ITS_PLANT}&{_ITS_POINT}&{_TIME}"
_SHARE = colored(
    "measured_share", ((None, "red"), (0.9, "yellow"), (0.999, "green")), unit="percentunit", decimals=1
)
_PLANT = variable("plant", "Plant", "variable_plants")


_STEPS_MAX = 300
"""Of a picture of all figures: each costs InfluxDB some 0.1 ms, for each of the figures."""


def plants() -> Json:
    """What fires, what is used for what is made against its target, how complete that is, who is silent."""
    variables = [
        _PLANT,
        variable("line", "Line", "variable_lines"),
        variable("intensity", "Intensity", "variable_intensities"),
        variable("window", "Window", "variable_windows"),
    ]
    about = "Rolling intensity against target, completeness, what fires, and when each point was last seen."
    return dashboard(
        PLANTS, "meterflow: plants", about, variables, [*_figures(), *_points()], [link("A point", POINT)]
    )


def _figures() -> list[Json]:
    """What fires and the figures, of all plants and of the one that is chosen."""
    return [
        listed(
            "What fires",
            "firing",
            (0, 0, 8, 8),
            "Alerts of the site file whose newest change is to firing, whenever that was.",
        ),
        listed(
            "Newest complete figures",
            "newest_figures",
            (8, 0, 16, 8),
            "The newest final or revised window of each intensity in the time shown. No value: see reason.",
            overrides=[_SHARE],
        ),
        drawn(
            "$plant: $intensity over $window, against its target",
            "intensity",
            (0, 8, 14, 9),
            "Complete windows only, one for each step of the picture. A gap is an unknown figure, not zero.",
            displayName="${__field.name} ${__field.labels.product}",
        ),
        drawn(
            "Completeness of all figures",
            "completeness",
            (14, 8, 10, 9),
            "measured_share: the part of each window that is measured.",
            steps_max=_STEPS_MAX,
            displayName="${__field.labels.scope} ${__field.labels.id} ${__field.labels.window}",
            unit="percentunit",
            min=0,
            max=1,
        ),
    ]


def _points() -> list[Json]:
    """What leads further: the line that is chosen, and the points."""
    return [
        drawn(
            "$line by hour",
            "line_hours",
            (0, 17, 14, 9),
            "Complete hours of the line chosen above. Empty where the site file names no lines.",
            displayName="${__field.labels.measures} ${__field.labels.product}",
        ),
        listed(
            "$plant: last seen",
            "plant_points",
            (14, 17, 10, 9),
            "The end of each point's newest interval with an amount. A point opens its own dashboard.",
            {"point": _TO_POINT},
        ),
        listed(
            "All points, the longest silent first",
            "last_seen",
            (0, 26, 24, 9),
            "Over all time, whatever is shown above. A plant or a point opens its own view.",
            {
                "plant": f"/d/{PLANTS}?{_ITS_PLANT}&{_TIME}",
                "point": _TO_POINT,
            },
        ),
    ]


def point() -> Json:
    """One point: its intervals, what its register did, its books, and what was refused."""
    panels = [
        drawn(
            "$point: amount of each interval",
            "point_intervals",
            (0, 0, 14, 9),
            "Complete intervals, one for each step of the picture. A gap is an unknown amount, not zero.",
        ),
        drawn(
            "$point: part that is measured",
            "point_share",
            (14, 0, 10, 9),
            "measured_share of the same intervals.",
            unit="percentunit",
            min=0,
            max=1,
        ),
        drawn("$point by hour", "point_hours", (0, 9, 14, 8), "Complete hours."),
        listed(
            "Books",
            "point_ledger",
            (14, 9, 10, 8),
            "A row for each installation, in steps of its register; the time is that of its last reading. "
            "balance = last - first - booked - held - written_off, and is 0.",
            overrides=[colored("balance", ((None, "red"), (0, "green"), (1, "red")))],
        ),
        listed(
            "Intervals",
            "point_rows",
            (0, 17, 24, 9),
            "The newest of the time shown, those still open as well.",
        ),
        listed(
            "What its register did",
            "point_verdicts",
            (0, 26, 12, 9),
            "Events that were not plain, with their evidence. Held ones wait for a person.",
        ),
        listed("Refused", "point_rejected", (12, 26, 12, 9), "Messages and readings not taken, with why."),
    ]
    variables = [_PLANT, variable("point", "Point", "variable_points")]
    about = "One metering point: intervals, verdicts, ledger, and what was rejected."
    return dashboard(POINT, "meterflow: point", about, variables, panels, [link("All plants", PLANTS)])
