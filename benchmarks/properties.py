"""Posteriors of galaxies: log score, coverage and TARP, beside neural spline flows.

    python benchmarks/properties.py v2-100k.lance WORK [--test 5000]

WORK holds the demo's stages on that survey; those that lack are run. One posterior is learned from
head-train, and scored on the first of test, from image, spectrum, both, and photometry.
For each evidence a neural spline flow (Durkan et al. 2019; zuko) is learned from the same galaxies,
each with as much CPU time as ours took for all of them; the better of two sizes, by validation, is
scored. For "both" there is another one in our coordinates: it gets our regression, and learns what
is left. What is in WORK is not done again; rivals also count there if ours, learned anew, took up
to a tenth longer.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from appulse.digest import digest_of
from appulse.evaluate.calibration import coverage_panels
from appulse.evaluate.posteriors import SUBSETS, coverages, galaxy_corner
from appulse.evaluate.report import LABELS
from appulse.inference.calibration import coverage, tarp
from appulse.inference.evidence import gather
from appulse.inference.posterior import Posterior
from appulse.metrics import bootstrap
from appulse.posteriors import observed_part
from appulse.survey.store import SurveyStore
from appulse.survey.survey import PROPERTIES, label_columns
from appulse.tasks.observed import Observed
from appulse.tasks.properties import CONFIG, GalaxyPosterior
from appulse.training.run import write_json
from record import write_result
from stages import embeddings

EVIDENCE = {**SUBSETS, "photometry": ("photometry",)}
SIZES = ((3, 64), (5, 128))  # transforms and hidden width of the spline flows
RIVALS = {  # of which evidence, and whether in our coordinates
    "spline flow": (tuple(EVIDENCE), False),
    "spline flow in our coordinates": (("both",), True),
}
ENOUGH = 0.9  # of our CPU time
SAMPLES = 150
DOCS = Path(__file__).parents[1] / "docs"


class Part(NamedTuple):
    """Galaxies to learn from or to be scored."""

    evidence: Observed
    theta: np.ndarray  # (B, P)

    def blocks(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Some of the evidence."""
        return {name: self.evidence.blocks[name] for name in names}


def read(store: SurveyStore, made: Path, part: str, n: int | None) -> Part:
    columns = label_columns(store.names)
    values = store.columns([columns[name] for name in PROPERTIES], part)
    evidence = observed_part(store, made, part)
    return Part(evidence[:n], np.stack(list(values.values()), 1)[:n])


def learn(part: Part, columns: dict[str, str], kept: Path) -> tuple[GalaxyPosterior, float]:
    """Our posterior and the CPU time that it took."""
    seconds = kept / "seconds.json"
    if not seconds.exists():
        start = time.process_time()
        labels = dict(zip(PROPERTIES, part.theta.T, strict=True))
        asked = GalaxyPosterior.fit(part.evidence, labels, columns, device="cpu")
        asked.save(kept / "posterior")
        write_json(seconds, {"CPU s": time.process_time() - start})
    return GalaxyPosterior.load(kept / "posterior", "cpu"), json.loads(seconds.read_text())["CPU s"]


class SplineFlow:
    """A neural spline flow of u, or of our r, on standardised evidence."""

    def __init__(self, asked: Posterior, train: Part, names: tuple[str, ...], ours: bool):
        self.asked, self.ours = asked, ours
        raw = np.concatenate(list(train.blocks(names).values()), 1)
        self.mean, self.sd = raw.mean(0), raw.std(0)
        self.x, self.y, _ = self._inputs(train.theta, train.blocks(names))

    def _inputs(
        self, theta: np.ndarray, blocks: dict[str, np.ndarray]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evidence, u or r, and the log slope from θ to it."""
        prior = self.asked.prior
        u = prior.normal(torch.from_numpy(theta))
        slope = -prior.log_slope(u)
        y = u.float()
        if self.ours:
            evidence = gather(blocks, self.asked.kinds)
            coordinates = self.asked.members[0].adjustment(evidence)
            slope = slope + coordinates.log_slope(y[:, None])[:, 0]
            y = coordinates.r(y[:, None])[:, 0]
        x = (np.concatenate(list(blocks.values()), 1) - self.mean) / self.sd
        return torch.from_numpy(x).float(), y, slope

    def fit(self, seconds: float, size: tuple[int, int]) -> float:
        """Trains for this CPU time; keeps the weights of the best validation, and returns it."""
        import zuko

        torch.manual_seed(0)
        transforms, width = size
        self.flow = zuko.flows.NSF(
            self.y.shape[1], self.x.shape[1], transforms=transforms, hidden_features=[width] * 2
        )
        optimizer = torch.optim.AdamW(self.flow.parameters(), 1e-3, weight_decay=1e-2)
        order = torch.randperm(len(self.y))
        held, rows = order[: len(order) // 10], order[len(order) // 10 :]
        start, best, loss = time.process_time(), {}, float("inf")
        while time.process_time() - start < seconds:
            done = min((time.process_time() - start) / seconds, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * 0.5 * (1 + np.cos(np.pi * done))
            for batch in rows[torch.randperm(len(rows))].split(256):
                optimizer.zero_grad()
                (-self.flow(self.x[batch]).log_prob(self.y[batch]).mean()).backward()
                torch.nn.utils.clip_grad_norm_(self.flow.parameters(), 5.0)
                optimizer.step()
            with torch.no_grad():
                now = -self.flow(self.x[held]).log_prob(self.y[held]).mean().item()
            if now < loss:
                loss = now
                best = {name: value.clone() for name, value in self.flow.state_dict().items()}
        self.flow.load_state_dict(best)
        return loss

    @torch.no_grad()
    def log_prob(self, theta: np.ndarray, blocks: dict[str, np.ndarray]) -> np.ndarray:
        """Log density in nats per unit of θ."""
        x, y, slope = self._inputs(theta, blocks)
        return (self.flow(x).log_prob(y) + slope).numpy()


def best_spline_flow(
    asked: Posterior, train: Part, names: tuple[str, ...], seconds: float, ours: bool
) -> SplineFlow:
    flows = [SplineFlow(asked, train, names, ours) for _ in SIZES]
    losses = [flow.fit(seconds, size) for flow, size in zip(flows, SIZES, strict=True)]
    return flows[int(np.argmin(losses))]


def mean(values: np.ndarray) -> list[float]:
    """Mean with its 95 % interval."""
    return [round(v, 4) for v in bootstrap(lambda x: float(np.mean(x)), values)]


def calibration(samples: np.ndarray, theta: np.ndarray) -> dict[str, object]:
    inside = coverage(samples, theta, [0.68, 0.95]).inside
    return {
        "68 %": dict(zip(PROPERTIES, inside[0].round(4).tolist(), strict=True)),
        "95 %": dict(zip(PROPERTIES, inside[1].round(4).tolist(), strict=True)),
        "largest distance": round(float(np.abs(inside - [[0.68], [0.95]]).max()), 4),
        "TARP deviation": round(tarp(samples, theta).deviation, 4),
    }


def rival_losses(
    asked: Posterior, train: Part, test: Part, seconds: float, title: str, name: str, kept: Path
) -> np.ndarray:
    """Of each galaxy by a rival, learned in so much CPU time."""
    file, names = kept / f"{title}, {name}.json", EVIDENCE[title]
    there = json.loads(file.read_text()) if file.exists() else {"CPU s": 0.0}
    if there["CPU s"] < ENOUGH * seconds:
        flow = best_spline_flow(asked, train, names, seconds, RIVALS[name][1])
        losses = -flow.log_prob(test.theta, test.blocks(names))
        there = {"CPU s": seconds, "losses": losses.tolist()}
        write_json(file, there)
    return np.array(there["losses"])


def all_scores(asked: Posterior, train: Part, test: Part, seconds: float, kept: Path) -> dict:
    """Results by evidence, and whether both modalities are better than each."""
    results: dict[str, dict] = {}
    ours = {t: -asked.log_prob(test.theta, test.blocks(n)) for t, n in EVIDENCE.items()}
    for title, names in EVIDENCE.items():
        draws = asked.sample(test.blocks(names), SAMPLES)
        results[title] = {"NLL": mean(ours[title]), **calibration(draws, test.theta)}
        for name in (name for name, (titles, _) in RIVALS.items() if title in titles):
            losses = rival_losses(asked, train, test, seconds, title, name, kept)
            results[title][name] = {"NLL": mean(losses), "minus ours": mean(losses - ours[title])}
        print(title, results[title], flush=True)
    for alone in ("image", "spectrum"):
        results["both"][f"NLL minus that of {alone}"] = mean(ours["both"] - ours[alone])
    return results


def figures(asked: GalaxyPosterior, test: Part) -> None:
    titles = [LABELS[name] for name in PROPERTIES]
    draws = {t: asked.posterior.sample(test.blocks(SUBSETS[t]), SAMPLES) for t in SUBSETS}
    curves = {title: coverages(draws[title], test.theta, titles) for title in SUBSETS}
    made = {
        "posterior-coverage": coverage_panels(curves, len(test.theta)),
        "posterior-corner": galaxy_corner(asked, test.evidence, test.theta, 0),
    }
    for name, figure in made.items():
        figure.savefig(DOCS / f"{name}.png", dpi=130, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("survey", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--train", type=int, help="all of head-train, if left out")
    parser.add_argument("--test", type=int, default=5000)
    arguments = parser.parse_args()
    store, made = SurveyStore.open(arguments.survey), embeddings(arguments.survey, arguments.work)
    train = read(store, made, "head-train", arguments.train)
    test = read(store, made, "test", arguments.test)
    setting = [asdict(CONFIG), len(train.theta), len(test.theta), train.evidence.digest()]
    kept = arguments.work / "properties" / digest_of(setting)
    kept.mkdir(parents=True, exist_ok=True)
    asked, seconds = learn(train, label_columns(store.names), kept)
    print(f"ours: {seconds:.0f} CPU-s, {len(train.theta)} galaxies; {len(test.theta)} scored")
    results = all_scores(asked.posterior, train, test, seconds, kept)
    figures(asked, test)
    about = {"galaxies": len(store), "learned from": len(train.theta), "scored": len(test.theta)}
    print(write_result("properties", {**about, "CPU s": round(seconds, 1), "scores": results}))


if __name__ == "__main__":
    main()
