"""The method in float64 numpy, written from docs/method.md alone: the trusted second opinion.

It shares nothing with the code under test: no autograd (gradients are derived by hand), no torch,
sums where the formulas have sums. Logits and gradients are (B, K) arrays by network name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Logits = dict[str, Array]

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.1


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def softmax(logits: Array) -> Array:
    return np.exp(log_softmax(logits))


def one_hot(targets: Labels, classes: int) -> Array:
    return np.eye(classes)[targets]


class Switch(NamedTuple):
    """Section 2, in its order and under its names."""

    student_distance: float
    teacher_distance: float
    gap: float
    epsilon: float
    threshold: float
    expert: bool


def switch(
    student_logits: Array,
    teacher_logits: Array,
    targets: Labels,
    temperature: float = 1.0,
    threshold: float | str = "adaptive",
    require_better_teacher: bool = True,
) -> Switch:
    """The switch of one link (section 2); `threshold` may be a fixed number."""
    y = one_hot(targets, student_logits.shape[1])
    p_s, p_t = softmax(student_logits / temperature), softmax(teacher_logits / temperature)

    def distance(a: Array, b: Array) -> float:
        return float(np.abs(a - b).sum(axis=1).mean())

    d_s, d_t, gap = distance(p_s, y), distance(p_t, y), distance(p_s, p_t)
    epsilon = 1.0 if d_s + d_t == 0 else float(np.exp(-d_t / (d_s + d_t)))
    delta = d_s - epsilon * d_t if threshold == "adaptive" else float(threshold)
    expert = gap > delta and (d_t < d_s or not require_better_teacher)
    return Switch(d_s, d_t, gap, epsilon, delta, expert)


class Term(NamedTuple):
    """A loss and its gradient with respect to one network's logits."""

    value: float
    gradient: Array

    def __add__(self, other: Term) -> Term:  # type: ignore[override]
        return Term(self.value + other.value, self.gradient + other.gradient)

    def times(self, factor: float) -> Term:
        return Term(factor * self.value, factor * self.gradient)


def cross_entropy(logits: Array, targets: Labels) -> Term:
    """CE at temperature 1; its gradient is (p - y) / B."""
    y = one_hot(targets, logits.shape[1])
    value = -(y * log_softmax(logits)).sum(axis=1).mean()
    return Term(float(value), (softmax(logits) - y) / len(targets))


def imitation(target_logits: Array, logits: Array, temperature: float) -> Term:
    """tau^2 KL(p_target || p): d/dz of KL is (p - p_target) / (tau B), the target held fixed."""
    log_target, log_p = log_softmax(target_logits / temperature), log_softmax(logits / temperature)
    target, p = np.exp(log_target), np.exp(log_p)
    value = (target * (log_target - log_p)).sum(axis=1).mean()
    return Term(temperature**2 * float(value), temperature * (p - target) / len(logits))


@dataclass
class Step:
    """What a method says about one batch: a term per network, switches by link, who pauses."""

    terms: dict[str, Term]
    links: dict[tuple[str, str], Switch] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)


def vanilla(logits: Logits, targets: Labels, temperature: float) -> Step:
    return Step({name: cross_entropy(z, targets) for name, z in logits.items()})


def dml(logits: Logits, targets: Labels, temperature: float) -> Step:
    terms = {}
    for i, z_i in logits.items():
        terms[i] = cross_entropy(z_i, targets)
        for j, z_j in logits.items():
            if j != i:
                share = 1 / (len(logits) - 1)
                terms[i] += imitation(z_j, z_i, temperature).times(share)
    return Step(terms)


def switokd(
    logits: Logits,
    targets: Labels,
    temperature: float,
    *,
    threshold: float | str = "adaptive",
    require_better_teacher: bool = True,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> Step:
    """Section 3."""
    teachers = [name for name in logits if name.startswith("T")]
    students = [name for name in logits if name.startswith("S")]
    links = {
        (t, s): switch(
            logits[s], logits[t], targets, temperature, threshold, require_better_teacher
        )
        for t in teachers
        for s in students
    }
    step = Step({}, links)
    for s in students:
        step.terms[s] = cross_entropy(logits[s], targets)
        for other in logits:
            if other != s:
                step.terms[s] += imitation(logits[other], logits[s], temperature).times(alpha)
    for t in teachers:
        learning = [s for s in students if not links[t, s].expert]
        if not learning:
            step.paused.add(t)
        step.terms[t] = cross_entropy(logits[t], targets)
        for other in learning + [peer for peer in teachers if peer != t]:
            step.terms[t] += imitation(logits[other], logits[t], temperature).times(beta)
    return step


def kdcl(
    logits: Logits,
    targets: Labels,
    temperature: float,
    *,
    variant: str = "minlogit",
    weight: float = 1.0,
    shares: Array | None = None,
) -> Step:
    """Section 4; `shares` are those of the `general` variant."""
    stacked = np.stack(list(logits.values()))
    if variant == "general":
        count = len(stacked)
        ensemble = np.tensordot(np.full(count, 1 / count) if shares is None else shares, stacked, 1)
    else:
        ensemble = ENSEMBLES[variant](stacked, targets)
    return Step(
        {
            name: cross_entropy(z, targets) + imitation(ensemble, z, temperature).times(weight)
            for name, z in logits.items()
        }
    )


def naive_ensemble(logits: Array, targets: Labels) -> Array:
    rows = []
    for b, label in enumerate(targets):
        losses = [-log_softmax(z[b : b + 1])[0, label] for z in logits]
        rows.append(logits[int(np.argmin(losses)), b])
    return np.stack(rows)


def minlogit_ensemble(logits: Array, targets: Labels) -> Array:
    rows = []
    for b, label in enumerate(targets):
        rows.append(np.min([z[b] - z[b, label] for z in logits], axis=0))
    return np.stack(rows)


def linear_ensemble(logits: Array, targets: Labels) -> Array:
    """Of two networks: the share of the first where the slope of the convex CE changes sign."""
    first, second = logits
    rows = []
    for b, label in enumerate(targets):
        low, high = 0.0, 1.0
        direction = first[b] - second[b]
        for _ in range(80):
            middle = (low + high) / 2
            p = softmax((second[b] + middle * direction)[None])[0]
            slope = p @ direction - direction[label]
            low, high = (low, middle) if slope > 0 else (middle, high)
        rows.append(second[b] + low * direction)
    return np.stack(rows)


def general_shares(logits: Array, targets: Labels) -> Array:
    """C^-1 1, made to add up to 1, C_ij = mean over images of (p_i - y) . (p_j - y)."""
    errors = [softmax(z) - one_hot(targets, z.shape[1]) for z in logits]
    covariance = np.array([[(e * f).sum(axis=1).mean() for f in errors] for e in errors])
    raw = np.linalg.inv(covariance).sum(axis=1)
    return raw / raw.sum()


ENSEMBLES: dict[str, Callable[[Array, Labels], Array]] = {
    "naive": naive_ensemble,
    "minlogit": minlogit_ensemble,
    "linear": linear_ensemble,
}
METHODS: dict[str, Callable[..., Step]] = {
    "vanilla": vanilla,
    "dml": dml,
    "switokd": switokd,
    "kdcl": kdcl,
}


class Network:
    """Linear, batch norm, ReLU, linear, with its gradient by hand and momentum SGD.

    `weights` has the keys of `cohorts.TinyNetwork`'s state dict.
    """

    def __init__(self, weights: dict[str, Array]) -> None:
        self.weights = {key: value.copy() for key, value in weights.items()}
        self.momentum_buffers: dict[str, Array] = {}

    def forward(self, images: Array, training: bool = True) -> Array:
        w = self.weights
        self._inputs = images.reshape(len(images), -1)
        hidden = self._inputs @ w["hidden.weight"].T + w["hidden.bias"]
        mean, variance = w["norm.running_mean"], w["norm.running_var"]
        if training:
            mean, variance = hidden.mean(axis=0), hidden.var(axis=0)
            unbiased = hidden.var(axis=0, ddof=1)
            for key, new in (("norm.running_mean", mean), ("norm.running_var", unbiased)):
                w[key] = (1 - BATCH_NORM_MOMENTUM) * w[key] + BATCH_NORM_MOMENTUM * new
            w["norm.num_batches_tracked"] = w["norm.num_batches_tracked"] + 1
        self._deviation = np.sqrt(variance + BATCH_NORM_EPSILON)
        self._standardised = (hidden - mean) / self._deviation
        scaled = self._standardised * w["norm.weight"] + w["norm.bias"]
        self._active = np.maximum(scaled, 0)
        return self._active @ w["head.weight"].T + w["head.bias"]

    def gradients(self, by_logits: Array) -> dict[str, Array]:
        """Gradients of the parameters, from that of the last training forward's logits."""
        w = self.weights
        by_active = by_logits @ w["head.weight"]
        by_scaled = by_active * (self._active > 0)
        by_standardised = by_scaled * w["norm.weight"]
        along = (by_standardised * self._standardised).mean(axis=0)
        by_hidden = by_standardised - by_standardised.mean(axis=0) - self._standardised * along
        by_hidden = by_hidden / self._deviation
        return {
            "hidden.weight": by_hidden.T @ self._inputs,
            "hidden.bias": by_hidden.sum(axis=0),
            "norm.weight": (by_scaled * self._standardised).sum(axis=0),
            "norm.bias": by_scaled.sum(axis=0),
            "head.weight": by_logits.T @ self._active,
            "head.bias": by_logits.sum(axis=0),
        }

    def update(
        self, by_logits: Array, learning_rate: float, momentum: float, weight_decay: float
    ) -> None:
        """One step of SGD: buffer = momentum x buffer + gradient + weight decay x weight."""
        for key, gradient in self.gradients(by_logits).items():
            buffer = momentum * self.momentum_buffers.get(key, np.zeros_like(gradient))
            self.momentum_buffers[key] = buffer + gradient + weight_decay * self.weights[key]
            self.weights[key] = self.weights[key] - learning_rate * self.momentum_buffers[key]
