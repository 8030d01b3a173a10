"""Figures of `realism`: curves and statistics, one PNG for each comparison."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from appulse.figures import BLUE, ORANGE, STYLE
from realism_sizes import shen_early, shen_late


def save_figures(folder: Path, results: dict[str, Any]) -> None:
    with rc_context(STYLE):
        figures = {
            "colours-main": colours(results["colours"]["main sample"]),
            "colours-red": colours(results["colours"]["red galaxies"]),
            "continua": continua(results["continua"]),
            "line-ratios": line_ratios(results["line ratios"]),
            "classifiers": classifiers(results["classifiers"]),
            "survey": distributions(results["survey"]),
        }
        for name, figure in figures.items():
            figure.savefig(folder / f"realism-{name}.png", dpi=100, facecolor="white")


def colours(result: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    middle = np.mean([result["bins"][:-1], result["bins"][1:]], axis=0)
    for axes, name in zip(figure.subplots(1, 4), result["difference"], strict=True):
        for kind, colour in (("real", ORANGE), ("simulated", BLUE)):
            low, median, high = np.transpose(result[kind][name])
            axes.fill_between(middle, low, high, color=colour, alpha=0.25, lw=0)
            axes.plot(middle, median, color=colour, label=kind)
        axes.set(title=name, xlabel="z")
    axes.legend()
    return figure


def continua(result: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for key, colour in (("real, 5, 50, 95 %", ORANGE), ("simulated, .5, 50, 99.5 %", BLUE)):
        low, median, high = result[key]
        axes.fill_between(result["windows"], low, high, color=colour, alpha=0.25, lw=0)
        axes.plot(result["windows"], median, color=colour, label=key)
    axes.set(xlabel="rest wavelength / Å", ylabel="log light over that at 5500 Å", ylim=(-3, 1.2))
    axes.legend()
    return figure


def line_ratios(result: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*result["simulated"], ".", color=BLUE, ms=2, alpha=0.4, label="simulated")
    axes.plot(*result["real"], "o", color=ORANGE, ms=4, label="SDSS")
    x = np.linspace(-1.6, 0, 100)
    axes.plot(x, 0.61 / (x - 0.05) + 1.3, "k--", lw=1, label="Kauffmann et al. (2003)")
    axes.set(xlim=(-2, 0.6), ylim=(-1.3, 1.3), xlabel="log N II / Hα", ylabel="log O III / Hβ")
    axes.legend()
    return figure


def classifiers(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, (name, result) in zip(figure.subplots(1, 2), results.items(), strict=True):
        level, rough = np.split(np.array(result["single"]), 2)
        axes.plot(level, "o-", ms=3, label="level")
        axes.plot(rough, "o-", ms=3, label="roughness")
        axes.axhline(0.5, color="k", lw=0.5)
        axes.set(title=f"{name}: AUROC {result['AUROC']}", xlabel="band, blue to red", ylim=(0, 1))
    axes.legend()
    return figure


def distributions(result: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    for axes, (name, shown) in zip(figure.subplots(1, len(result)), result.items(), strict=True):
        axes.stairs(shown["counts"], shown["edges"], fill=True, color=BLUE, alpha=0.6)
        axes.axvline(shown["percentiles"][2], color="k", lw=1)
        axes.set(xlabel=name.replace(" per", "\nper"), yticks=[])
    return figure


def save_sn_sizes(folder: Path, results: dict[str, Any]) -> None:
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 5.6), layout="constrained")
        axes = figure.subplots(2, 3)
        found = results["sizes"]
        _ratios(axes[0, 0], results["signal-to-noise"]["SDSS galaxies"])
        _half_light(axes[0, 1], found["Legacy Surveys"])
        _masses(axes[0, 2], found["Shen et al. (2003)"]["points"])
        shown = {"elliptical": "smooth", "spiral": "spiral", "edge_view_spiral": "edge-on"}
        for one, (name, title) in zip(axes[1], shown.items(), strict=True):
            _axis_ratios(one, found["Galaxy Zoo 2"]["axis ratio"][name], title)
        axes[1, 0].set(ylabel="share below")
        axes[1, 0].legend(loc="upper left")
        figure.savefig(folder / "realism-sn-sizes.png", dpi=100, facecolor="white")


def _ratios(axes: Axes, result: dict[str, Any]) -> None:
    order = np.argsort(result["r"])
    r, real = (np.array(result[key])[order] for key in ("r", "S/N, real"))
    low, median, high = np.array(result["S/N, simulated, 16, 50, 84 %"])[:, order]
    axes.vlines(r, low, high, color=BLUE, alpha=0.4, lw=2)
    axes.plot(r, median, "o", ms=3, color=BLUE, label="simulated, as SDSS sees it")
    axes.plot(r, real, "o", ms=4, color=ORANGE, label="SDSS")
    axes.set(xlabel="r of the spectrum", ylabel="S/N per pixel", yscale="log", ylim=(5, 400))
    axes.set_title("spectra, 6000-7200 Å")
    axes.legend(loc="lower left")


def _half_light(axes: Axes, result: dict[str, Any]) -> None:
    low, median, high = np.transpose(result["R50"]["simulated, arcsec, 16, 50, 84 %"])
    bars = (median - low, high - median)
    axes.errorbar(result["R50"]["real, arcsec"], median, bars, fmt="o", ms=4, lw=1, color=BLUE)
    axes.plot((1.5, 5.2), (1.5, 5.2), "--", color="k", lw=1)
    ticks = (2, 3, 4, 5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator())
        axis.set_major_formatter(ScalarFormatter())
    axes.set(xlabel="real R50 / arcsec", ylabel="simulated R50 / arcsec")
    axes.set_title("Legacy Surveys images")


def _masses(axes: Axes, points: dict[str, Any]) -> None:
    mass, kpc, early = (np.array(points[key]) for key in ("log M", "kpc", "early"))
    grid = np.linspace(9, 11.6, 50)
    for rows, law, colour, name in (
        (early, shen_early, ORANGE, "early"),
        (~early, shen_late, BLUE, "late"),
    ):
        axes.plot(mass[rows], kpc[rows], ".", ms=3, alpha=0.4, color=colour, label=name)
        axes.plot(grid, law(grid), color=colour, lw=1.5)
    axes.set(xlabel="log M / M☉", ylabel="R50 / kpc", yscale="log", xlim=(9, 11.6), ylim=(0.6, 40))
    axes.set_title("simulated; lines: Shen et al. (2003)")
    axes.legend(loc="upper left", markerscale=2)


def _axis_ratios(axes: Axes, result: dict[str, Any], title: str) -> None:
    for kind, colour in (("real", ORANGE), ("simulated", BLUE)):
        values = result["values"][kind]
        label = "Galaxy Zoo 2" if kind == "real" else kind
        axes.ecdf(values, color=colour, label=label)
    axes.set(xlabel="axis ratio of an isophote", xlim=(0, 1), title=title)
