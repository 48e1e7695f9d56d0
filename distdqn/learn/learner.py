"""The learner: owns the Q-network, its target and the optimizer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distdqn.algo.horizon import anneal_discount, anneal_horizon
from distdqn.config import AgentConfig, LearnerConfig
from distdqn.learn.ahead import Ahead
from distdqn.learn.auxiliary import Autoencoder
from distdqn.learn.loss import Horizon
from distdqn.learn.losses import make_loss
from distdqn.learn.minibatch import Minibatch, ToDevice, cut, join_parts
from distdqn.learn.novelty import NoveltyLearner
from distdqn.learn.optimizer import make_optimizer, optimizer_state, restore_optimizer, step_size
from distdqn.learn.pretrained import load_torso
from distdqn.learn.regularize import penalty, shrink_and_perturb, weights_of
from distdqn.learn.weight_gradients import WeightGradients
from distdqn.machine import cpu_has, keep_freed_memory
from distdqn.nets.arrays import load_module_arrays, module_arrays
from distdqn.nets.noisy import resample_noise
from distdqn.nets.qnetwork import QNetwork, stack_frames
from distdqn.types import Batch, EnvSpec, Priorities, State, UpdateStats, Weights


def pick_device(name: str) -> torch.device:
    """The device that `learner.device` names; `auto` is the first CUDA device where there is one.

    Raises:
        ValueError: CUDA is asked for and not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"learner.device={name}: PyTorch finds no CUDA device here, use cpu or auto")
    return torch.device(name)


class Learner:
    """Samples in, priorities and weights out.

    Loop:
        *priorities, stats = learner.update(progress, *batches)   # one Batch from each shard
        weights = learner.weights()
    """

    def __init__(self, agent: AgentConfig, config: LearnerConfig, spec: EnvSpec, seed: int) -> None:
        torch.manual_seed(seed)
        self.agent, self.config, self.spec, self.seed = agent, config, spec, seed
        self.device = pick_device(config.device)
        aside = self.device.type == "cpu" and config.threads > 1 and config.target == "period" and agent.transitions
        self.ahead = Ahead(self._prepare) if aside else None
        self.threads = config.threads - aside
        """Those that share one operation; `ahead` has one of its own."""
        self.online = self._network()
        self.target = self._network().requires_grad_(False).eval()
        if agent.network.pretrained:
            load_torso(self.online, agent.network.pretrained)
        self.target.load_state_dict(self.online.state_dict())
        self.online.bf16 = self.target.bf16 = self._bf16(spec)
        plain = not agent.network.noisy and agent.network.normalize != "spectral"
        # where two threads can share the backward pass, that gains more than to compile it, which would not go with it
        shared = self.ahead is not None and config.threads == 2 and plain and config.compile != "on"
        compiled = config.compile == "on" or (
            config.compile == "auto" and self.device.type == "cpu" and spec.pixels and not shared
        )
        self.loss = make_loss(agent, config, spec.stack, self.online, self.target, compiled)
        self.gradients: WeightGradients | None = None
        if self.ahead is not None and shared:
            self.gradients = WeightGradients(self.online, self.ahead.submit)
            keep_freed_memory()
        self.autoencoder = Autoencoder(self.online, spec).to(self.device) if agent.autoencoder else None
        self.parameters = [*self.online.parameters(), *(self.autoencoder.parameters() if self.autoencoder else ())]
        self.penalised = weights_of(self.online) if config.l1 or config.l2 else []
        self.optimizer = make_optimizer(config, self.parameters)
        self.novelty = NoveltyLearner(agent.bonus, spec, self.device, seed) if agent.bonus.kind == "ngu" else None
        self.to_device = ToDevice(self.device)
        self.generator, self.their_generator = torch.Generator(self.device), torch.Generator(self.device)
        self.updates = 0
        self.bad_in_a_row = 0
        self.bad_batch: dict[str, Any] = {}

    def _network(self) -> QNetwork:
        return QNetwork(self.agent.network, self.spec, self.agent.contexts).to(self.device)

    def _bf16(self, spec: EnvSpec) -> bool:
        if self.config.bf16 != "auto":
            return self.config.bf16 == "on"
        return spec.pixels and (self.device.type == "cuda" or cpu_has("avx512_bf16"))

    def update(self, progress: float, *parts: Batch) -> tuple[Any, ...]:
        """One gradient step on each minibatch that `parts` make up together.

        Args:
            progress: share of the budget in [0, 1], for the step-size schedule.
            parts: what each shard drew, all with the same number of minibatches.

        Returns:
            `Priorities` for each part, then `UpdateStats`. Rows of a skipped update get no priority.
        """
        start = time.perf_counter()
        torch.set_num_threads(self.threads)  # other components in this process have their own number
        minibatches = join_parts(parts)
        self._centre(parts)
        lr = step_size(self.config, self.updates, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        figures: list[Tensor] = []
        errors: list[Tensor] = []
        skipped, aborted = 0, False
        for arrays, (batch, ready) in zip(minibatches, self._prepared(self.to_device(minibatches)), strict=True):
            self._fresh_noise()
            loss, td_abs, q = self.loss.learn(ready, self.generator)
            self.optimizer.zero_grad(set_to_none=True)
            extra = self._extra(batch)
            with self.gradients or nullcontext():
                (loss if extra is None else loss + extra).backward()
            norm = self._clip_gradients()
            if bool(torch.isfinite(norm + loss.detach())):
                self.optimizer.step()
                self.updates += 1
                self.bad_in_a_row = 0
                self._update_target()
                self._reset_if_due()
                if self.novelty is not None:
                    self._learn_novelty(batch)
                figures.append(torch.stack([loss.detach(), norm.detach(), q.mean(), td_abs.mean()]))
                errors.append(td_abs)
            else:
                skipped += 1
                self.bad_in_a_row += 1
                aborted |= self.bad_in_a_row >= self.config.max_bad_updates
                self.bad_batch = {
                    "loss": str(float(loss.detach())),
                    "grad_norm": str(float(norm)),
                    "origin": arrays.origin.tolist(),
                }
                errors.append(torch.full_like(td_abs, float("nan")))
        values = cut(parts, [e.float().cpu().numpy() for e in errors])
        mean = torch.stack(figures).mean(0).tolist() if figures else [float("nan")] * 4
        versions = np.concatenate([p.origin[:, 4] for p in parts])
        stats = UpdateStats(
            version=self.updates,
            updates=len(figures),
            samples=sum(len(p) for p in parts) * self.agent.sequence.length,
            loss=mean[0],
            grad_norm=mean[1],
            q_mean=mean[2],
            td_abs=mean[3],
            step_size=lr,
            weights_lag=float(self.updates - versions.mean()),
            seconds=time.perf_counter() - start,
            skipped=skipped,
            aborted=aborted,
            bad_batch=self.bad_batch if skipped else {},
        )
        return *(_priorities(p, v) for p, v in zip(parts, values, strict=True)), stats

    def _centre(self, parts: tuple[Batch, ...]) -> None:
        if self.updates == 0 and self.online.contrast:
            frames = torch.from_numpy(np.concatenate([p.frames for p in parts])).to(self.device)
            self.online.centre(frames)
            self.target.centre(frames)

    def _prepared(self, batches: Iterator[Minibatch]) -> Iterator[tuple[Minibatch, Any]]:
        """Each minibatch with what the loss starts from; `ahead` is then on the next one already, unless the
        target network changes in between."""
        if self.ahead is None:
            for batch in batches:
                yield batch, self._prepare(batch, self.updates)
            return
        everything = list(batches)
        for i, batch in enumerate(everything):
            ready, following = self.ahead.take(batch, self.updates), self.updates + 1
            if i + 1 < len(everything) and not self._due(following):
                self.ahead.prepare(everything[i + 1], following)
            yield batch, ready

    def _prepare(self, batch: Minibatch, number: int) -> Any:
        """What the loss of update `number` starts from, which no online weights go into."""
        self.their_generator.manual_seed(self._seed_of(number, "target"))
        if self.agent.network.noisy:
            resample_noise(self.target, 1, self.their_generator)
        return self.loss.prepare(batch, self._horizon(number), self.their_generator)

    def _due(self, updates: int) -> bool:
        """Whether the target network changes after so many updates."""
        period = self.config.reset_period
        return updates % self.config.target_period == 0 or (period is not None and updates % period == 0)

    def _fresh_noise(self) -> None:
        self.generator.manual_seed(self._seed_of(self.updates, "online"))
        if self.agent.network.noisy:
            resample_noise(self.online, 1, self.generator)
        if self.agent.network.dropout:
            torch.manual_seed(self.generator.initial_seed())

    def _seed_of(self, number: int, network: str) -> int:
        """Every update has random numbers of its own, which its number alone decides, so that a resumed run goes on
        as the same run."""
        numbers = self.seed, number, int(network == "target")  # no text: its hash is another in every process
        return hash(numbers) & 0x7FFF_FFFF_FFFF

    def _horizon(self, number: int) -> Horizon:
        a = self.agent
        if a.n_step_final is None and a.discount_final is None:
            return Horizon(a.n_step, a.discount)
        since = number % self.config.reset_period if self.config.reset_period else number
        n = anneal_horizon(since, a.n_step, a.n_step_final or a.n_step, a.anneal_updates)
        final = a.discount if a.discount_final is None else a.discount_final
        return Horizon(n, anneal_discount(since, a.discount, final, a.anneal_updates))

    def _extra(self, batch: Minibatch) -> Tensor | None:
        """What is minimised beside the loss of Q: penalties and the autoencoder's reconstruction."""
        extra: Tensor | None = None
        if self.penalised:
            extra = penalty(self.penalised, self.config.l1, self.config.l2)
        if self.autoencoder is not None:
            stack = self.spec.stack
            seen = stack_frames(batch.frames[:, :stack], batch.age[:, 0], stack)
            drawn = self.agent.autoencoder * self.autoencoder(self.online, seen)
            extra = drawn if extra is None else extra + drawn
        return extra

    def _clip_gradients(self) -> Tensor:
        """Clips by value, then by norm; gives the norm in between."""
        if self.config.max_grad_value is not None:
            torch.nn.utils.clip_grad_value_(self.parameters, self.config.max_grad_value, foreach=True)
        grads = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads, foreach=True)
        limit = self.config.max_grad_norm
        if limit is not None and bool(norm > limit):  # within it, a pass over all gradients would multiply by 1
            torch._foreach_mul_(grads, limit / (norm + 1e-6))
        return norm

    def _learn_novelty(self, batch: Minibatch) -> None:
        """On the first loss position of each window, which is no dummy and whose next step is of its episode."""
        assert self.novelty is not None
        at, stack = self.agent.sequence.burn_in, self.spec.stack
        age = batch.age[:, at]

        def seen(step: int) -> Tensor:
            if batch.frames.dim() == 3:
                return batch.frames[:, step]
            return stack_frames(batch.frames[:, step : step + stack], age + (step - at), stack)

        self.novelty.update(seen(at), batch.action[:, at], seen(at + 1), (age >= 0) & ~batch.last[:, at])

    def _reset_if_due(self) -> None:
        period = self.config.reset_period
        if period is None or self.updates % period:
            return
        torch.manual_seed(self.generator.initial_seed())
        shrink_and_perturb(self.online, self._network(), self.config.reset_keep)
        self.target.load_state_dict(self.online.state_dict())
        self.optimizer.state.clear()

    @torch.no_grad()
    def _update_target(self) -> None:
        if self.config.target == "polyak":
            torch._foreach_lerp_(list(self.target.parameters()), list(self.online.parameters()), self.config.target_tau)
            for theirs, ours in zip(self.target.buffers(), self.online.buffers(), strict=True):
                theirs.copy_(ours)
        elif self.updates % self.config.target_period == 0:
            self.target.load_state_dict(self.online.state_dict())

    def weights(self) -> Weights:
        """The online network's weights, and those of the novelty networks as `novelty/...` where there are any."""
        arrays = self.online.arrays()
        if self.novelty is not None:
            arrays |= {f"novelty/{name}": value for name, value in self.novelty.arrays().items()}
        return Weights(self.updates, arrays)

    def state(self) -> State:
        """Both networks, the optimizer's moments and the counters, as arrays and plain values."""
        return {
            "online": self.online.arrays(),
            "target": self.target.arrays(),
            "optimizer": optimizer_state(self.optimizer),
            "updates": self.updates,
            **({"novelty": self.novelty.state()} if self.novelty is not None else {}),
            **({"autoencoder": module_arrays(self.autoencoder)} if self.autoencoder is not None else {}),
        }

    def restore(self, state: State) -> None:
        """Takes over what `state` gave.

        Raises:
            ValueError: the state belongs to another network.
        """
        self.online.load_arrays(state["online"])
        self.target.load_arrays(state["target"])
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.novelty is not None:
            self.novelty.restore(state["novelty"])
        if self.autoencoder is not None:
            load_module_arrays(self.autoencoder, state["autoencoder"])
        self.updates = int(state["updates"])
        self.bad_in_a_row = 0


def _priorities(part: Batch, values: np.ndarray) -> Priorities:
    good = np.isfinite(values)
    return Priorities(part.key[good], values[good])
