"""The kinds of panels our dashboards are made of, and the frame of a dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
_DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT = 8

Panel = Builder[model.Panel]


@dataclass(frozen=True)
class Query:
    """A PromQL expression and the name of its series; ``{{label}}`` is filled in."""

    expression: str
    legend: str = ""


def number(
    title: str,
    expression: str,
    words: str,
    *,
    unit: str = "none",
    limits: Sequence[tuple[float, str]] = (),
    color: str = BLUE,
    width: int = 4,
    decimals: int | None = None,
) -> Panel:
    """One number, with its course behind it. ``limits``: from this value on this colour; below the first ``color``."""
    steps = [model.Threshold(None, color), *(model.Threshold(value, shade) for value, shade in limits)]
    panel = (
        stat.Panel()
        .title(title)
        .description(words)
        .datasource(_DATASOURCE)
        .span(width)
        .height(4)
        .unit(unit)
        .graph_mode(options.BigValueGraphMode.AREA)
        .color_mode(options.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(_target(Query(expression), "A"))
    )
    return panel if decimals is None else panel.decimals(decimals)


def delay(title: str, expression: str, words: str, late_s: float, too_late_s: float, *, decimals: int = 1) -> Panel:
    """A number of seconds that should be small: orange from ``late_s`` on, red from ``too_late_s`` on."""
    limits = [(late_s, ORANGE), (too_late_s, RED)]
    return number(title, expression, words, unit="s", color=GREEN, limits=limits, decimals=decimals)


def graph(
    title: str,
    queries: Sequence[Query],
    words: str,
    *,
    unit: str = "none",
    width: int = 12,
    stacked: bool = False,
    bars: bool = False,
    low: float | None = 0,
) -> Panel:
    """Series over time. ``low``: where the axis begins at the latest."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(words)
        .datasource(_DATASOURCE)
        .span(width)
        .height(_HEIGHT)
        .unit(unit)
        .draw_style(options.GraphDrawStyle.BARS if bars else options.GraphDrawStyle.LINE)
        .fill_opacity(60 if bars else 20 if stacked else 8)
        .show_points(options.VisibilityMode.NEVER)
        .line_width(1)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    if low is not None:
        panel = panel.axis_soft_min(low)
    for query, letter in zip(queries, "ABCDEFGH", strict=False):
        panel = panel.with_target(_target(query, letter))
    return panel


def quantiles(title: str, metric: str, words: str, *, where: str = "", width: int = 12) -> Panel:
    """p50, p95 and p99 of a histogram over all its series that ``where`` selects."""
    rate = f"sum by (le) (rate({metric}_bucket{where}[$__rate_interval]))"
    queries = [Query(f"histogram_quantile({q}, {rate})", f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)]
    return graph(title, queries, words, unit="s", width=width)


def buckets(title: str, metric: str, words: str, *, where: str = "", width: int = 12) -> Panel:
    """How a histogram's observations spread over its buckets, over time."""
    target = _target(Query(f"sum by (le) (increase({metric}_bucket{where}[$__rate_interval]))", "{{le}}"), "A")
    return (
        heatmap.Panel()
        .title(title)
        .description(words)
        .datasource(_DATASOURCE)
        .span(width)
        .height(_HEIGHT)
        .calculate(False)
        .unit("short")
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .with_target(target.format(PromQueryFormat.HEATMAP))
    )


def states(
    title: str,
    query: Query,
    words: str,
    *,
    names: tuple[str, str] = ("down", "up"),
    calm: bool = False,
    width: int = 24,
) -> Panel:
    """Bars over time, of what is 0 or 1. names: of the two. calm: 0 is as it should be, and 1 to be looked at."""
    shades = (GREY, ORANGE) if calm else (RED, GREEN)
    mapping = model.ValueMap(
        {
            str(value): model.ValueMappingResult(name, shade, None, value)
            for value, (name, shade) in enumerate(zip(names, shades, strict=True))
        }
    )
    return (
        statetimeline.Panel()
        .title(title)
        .description(words)
        .datasource(_DATASOURCE)
        .span(width)
        .height(_HEIGHT)
        .mappings([mapping])
        .show_value(options.VisibilityMode.NEVER)
        .merge_values(True)
        .legend(_legend())
        .with_target(_target(query, "A"))
    )


def cameras_table(title: str, columns: Sequence[tuple[str, str, str]], words: str) -> Panel:
    """A row a camera, the newest values. ``columns``: name, unit, expression with the one label ``camera``."""
    link = {"title": "this camera", "url": "/d/passerby-camera?var-camera=${__value.raw}"}
    names = {f"Value #{letter}": name for letter, (name, _, _) in zip("ABCDEFGH", columns, strict=False)}
    panel = (
        table.Panel()
        .title(title)
        .description(words)
        .datasource(_DATASOURCE)
        .span(24)
        .height(_HEIGHT)
        .with_transformation(model.DataTransformerConfig("merge", options={}))
        .with_transformation(
            model.DataTransformerConfig("organize", options={"excludeByName": {"Time": True}, "renameByName": names})
        )
        .override_by_name("camera", [model.DynamicConfigValue("links", [link])])
    )
    for letter, (name, unit, expression) in zip("ABCDEFGH", columns, strict=False):
        target = _target(Query(expression), letter).instant().format(PromQueryFormat.TABLE)
        panel = panel.with_target(target)
        panel = panel.override_by_name(name, [model.DynamicConfigValue("unit", unit)])
    return panel


def section(board: dashboard.Dashboard, title: str, *panels: Panel) -> dashboard.Dashboard:
    """``board`` with a headline and the panels under it."""
    board = board.with_row(dashboard.Row(title))
    for panel in panels:
        board = board.with_panel(panel)
    return board


def page(uid: str, title: str, words: str) -> dashboard.Dashboard:
    """An empty dashboard with our links and the choice of the data source."""
    links = dashboard.DashboardLink("Passerby").type(model.DashboardLinkType.DASHBOARDS).tags(["passerby"])
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(words)
        .tags(["passerby"])
        .editable()
        .time("now-1h", "now")
        .refresh("10s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(links.as_dropdown(False).keep_time(True).include_vars(False))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )


def camera_choice() -> dashboard.QueryVariable:
    """The variable ``camera``: every camera that some worker has."""
    return (
        dashboard.QueryVariable("camera")
        .label("Camera")
        .datasource(_DATASOURCE)
        .query({"query": "label_values(passerby_camera_up, camera)", "refId": "cameras"})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def _target(query: Query, letter: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).ref_id(letter).datasource(_DATASOURCE)
    return target.legend_format(query.legend) if query.legend else target


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(options.LegendDisplayMode.LIST)
        .placement(options.LegendPlacement.BOTTOM)
        .calcs([])
    )
