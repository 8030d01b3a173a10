"""Figures of `realism`: curves and statistics, one PNG for each comparison."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from appulse.figures import BLUE, ORANGE, STYLE


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
