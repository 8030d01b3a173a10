import pytest
import torch

from appulse.flow.density import invert, log_density
from appulse.flow.ode import solve
from appulse.flow.path import LinearPath, VariancePreservingPath, couple
from appulse.flow.velocity import (
    VelocityConfig,
    VelocityNetwork,
    draw_times,
    keep_variance,
    matching_loss,
)


def network(**config) -> VelocityNetwork:
    """With no weight at zero, so that every part speaks."""
    torch.manual_seed(0)
    net = VelocityNetwork(VelocityConfig(**config))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net.eval().requires_grad_(False)


def learn(mixture, path, steps=500, batch=512, coupled=False) -> VelocityNetwork:
    torch.manual_seed(0)
    net = VelocityNetwork(VelocityConfig(dim=2, width=48, depth=2), path)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = torch.Generator().manual_seed(1)
    for _ in range(steps):
        data = mixture.sample(batch, rng).float()
        noise = torch.randn(batch, 2)
        noise = couple(data, noise) if coupled else noise
        optimizer.zero_grad()
        matching_loss(net, data, noise, draw_times(batch)).mean().backward()
        optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[LinearPath(), VariancePreservingPath()], ids=str)
def learned(request, mixture):
    return learn(mixture, request.param)


def field(net):
    return lambda x, t, rows: net(x, t.expand(len(x)))


def test_the_learned_velocity_is_the_marginal_one(learned, mixture, rng):
    t = torch.linspace(0.02, 0.9, 400)
    path = learned.path
    x = path.point(mixture.sample(400, rng).float(), torch.randn(400, 2, generator=rng), t)
    expected = mixture.velocity(path, x.double(), t.double()).float()
    spread = (expected - path.gaussian_rate(t)[:, None] * x).square().mean()
    assert (learned(x, t) - expected).square().mean() < 0.06 * spread


def test_the_learned_density_integrates_to_one_on_a_grid(learned):
    axis = torch.linspace(-4, 4, 57)
    grid = torch.cartesian_prod(axis, axis)
    density = log_density(field(learned), grid, method="rk4", steps=16).exp()
    assert density.sum().item() * (8 / 56) ** 2 == pytest.approx(1, abs=0.005)


def test_learned_samples_invert_to_their_noise(learned, rng):
    noise = torch.randn(200, 2, generator=rng)
    x = solve(field(learned), noise, method="rk4", steps=64)
    back = invert(field(learned), x, method="rk4", steps=64)
    torch.testing.assert_close(back, noise, atol=1e-3, rtol=0)


def test_an_untrained_flow_leaves_noise_as_it_is(rng):
    for path in (LinearPath(), VariancePreservingPath()):
        net = VelocityNetwork(VelocityConfig(dim=3, context=2), path).requires_grad_(False)
        noise = torch.randn(50, 3, generator=rng)
        context = torch.randn(50, 2, generator=rng)
        x = solve(lambda x, t, rows, n=net, c=context: n(x, t, c), noise, method="rk4", steps=50)
        torch.testing.assert_close(x, noise, atol=1e-3, rtol=0)


def test_time_and_context_broadcast_as_if_repeated(rng):
    net = network(dim=3, context=4, width=16, depth=2)
    x = torch.randn(5, 7, 3, generator=rng)  # 5 observations, 7 samples each
    context = torch.randn(5, 4, generator=rng)
    short = net(x, torch.tensor(0.3), context[:, None])
    for i in range(5):
        for j in range(7):
            long = net(x[i, j][None], torch.tensor([0.3]), context[i][None])[0]
            torch.testing.assert_close(short[i, j], long, atol=1e-5, rtol=1e-4)


def test_one_observation_costs_one_modulation_row(rng):
    net = network(dim=3, context=4, width=16, depth=2)
    rows = []
    for block in net.blocks:
        block.modulate.register_forward_hook(lambda m, x, y: rows.append(x[0].numel() // 64))
    net(torch.randn(1000, 3, generator=rng), torch.tensor(0.5), torch.randn(1, 4, generator=rng))
    assert rows == [1, 1]


@pytest.mark.parametrize("changed", ["x", "t", "context"])
def test_the_velocity_depends_on_everything(changed, rng):
    net = network(dim=3, context=4, width=16, depth=2)
    given = {
        "x": torch.randn(1, 3, generator=rng),
        "t": torch.tensor([0.4]),
        "context": torch.randn(1, 4, generator=rng),
    }
    other = given | {changed: given[changed] + 0.3}
    assert (net(**given) - net(**other)).abs().max() > 1e-3


def test_wrong_widths_are_named():
    net = network(dim=3, context=4, width=16)
    with pytest.raises(ValueError, match=r"width 2 and the context 4.* for 3 and 4"):
        net(torch.zeros(1, 2), torch.zeros(1), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="the context 0"):
        net(torch.zeros(1, 3), torch.zeros(1))


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
def test_times_have_the_density_they_are_named_for(power):
    torch.manual_seed(0)
    t = draw_times(4000, power)
    assert t.mean().item() == pytest.approx((1 + power) / (2 + power), abs=0.002)  # ∫ t^(p+1)
    assert 0 <= t.min() < t.max() <= 1
    assert abs(torch.corrcoef(torch.stack([t[1:], t[:-1]]))[0, 1]) < 0.05  # in random order


def test_coupled_flows_are_straighter(mixture):
    noise = torch.randn(500, 2, generator=torch.Generator().manual_seed(3))

    def bend(net):
        """How far one Euler step lands from the end of the flow."""
        end = solve(field(net), noise, method="rk4", steps=16)
        return (noise + field(net)(noise, torch.tensor(0.0), slice(None)) - end).norm(dim=1).mean()

    straight, bent = (learn(mixture, LinearPath(), 250, 128, coupled) for coupled in (True, False))
    assert bend(straight) < 0.6 * bend(bent)


def test_a_new_networks_outputs_read_features_of_context_and_time():
    """They start at zero; if the blocks did too, both would wait for the other's gradient."""
    net, x = VelocityNetwork(VelocityConfig(dim=2, context=3, width=32)), torch.randn(5, 2)
    early, late = torch.tensor(0.2), torch.tensor(0.7)
    once, other = torch.randn(2, 5, 3)
    assert torch.equal(net(x, early, once), net(x, early, other))
    torch.nn.init.normal_(net.out.weight)
    change = net(x, early, once) - net.path.gaussian_rate(early) * x
    assert not torch.allclose(net(x, early, once), net(x, early, other), atol=0.01)
    assert not torch.allclose(net(x, late, once) - net.path.gaussian_rate(late) * x, change)


def test_a_signal_keeps_its_size_through_new_layers():
    layers = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(6)))
    keep_variance(layers)
    first, second = torch.randn(2, 500, 256)
    change = layers(first) - layers(second)
    assert change.std().item() == pytest.approx(2**0.5, rel=0.1)
