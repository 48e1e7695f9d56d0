"""The learner: owns the Q-network, its target and the optimizer."""

from typing import Any

import torch
from torch import Tensor

from distdqn.config import AgentConfig, LearnerConfig
from distdqn.config.section import build
from distdqn.learn import optimizer as optimizers
from distdqn.learn.auxiliary import AUXILIARIES, Auxiliary, Penalty
from distdqn.learn.device import in_bfloat16, prepare_device
from distdqn.learn.minibatch import Minibatch, ToDevice, join_parts
from distdqn.learn.novelty_auxiliary import NoveltyAuxiliary
from distdqn.learn.objective import Objective, horizon_at
from distdqn.learn.pace import make_pace
from distdqn.learn.pretrained import load_torso
from distdqn.learn.report import Report
from distdqn.learn.sequences import make_sequence_loss
from distdqn.learn.target import TargetUpdate
from distdqn.learn.transitions import make_transition_loss
from distdqn.nets.noisy import resample_noise
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import Batch, EnvSpec, State, Weights


def make_loss(
    config: AgentConfig, learner: LearnerConfig, stack: int, online: QNetwork, target: QNetwork, compiled: bool = False
) -> Objective:
    """The loss of `config` over windows: of single transitions where that is all it needs, else of sequences."""
    if config.transitions:
        return make_transition_loss(config, learner, stack, online, target, compiled)
    return make_sequence_loss(config, stack, online, target)


class Learner:
    """Samples in, priorities and weights out.

    Loop:
        *priorities, stats = learner.update(progress, *batches)   # one Batch from each shard
        weights = learner.weights()

    With `deterministic` two runs of a seed give the same bits on a GPU, too.
    """

    def __init__(
        self, agent: AgentConfig, config: LearnerConfig, spec: EnvSpec, seed: int, deterministic: bool = False
    ) -> None:
        torch.manual_seed(seed)
        self.agent, self.config, self.spec, self.seed = agent, config, spec, seed
        self.device = prepare_device(config, spec.pixels, deterministic)
        self.online, self.target = self._network(), self._network()
        if agent.network.torso.pretrained:
            load_torso(self.online, agent.network.torso.pretrained)
        self.target_update = TargetUpdate(config.target, config.reset, self.online, self.target)
        self.auxiliaries = self._auxiliaries()
        self.pace = make_pace(agent, config, self.device, spec.pixels, self.online, self._prepare)
        self.objective = make_loss(agent, config, spec.stack, self.online, self.target, self.pace.compiled)
        shared = (p for a in self.auxiliaries.values() for p in a.shared)
        self.parameters = [*self.online.parameters(), *shared]
        self.optimizer = optimizers.make_optimizer(config.optimizer, self.parameters)
        self.to_device = ToDevice(self.device)
        self.generator, self.target_generator = torch.Generator(self.device), torch.Generator(self.device)
        self.updates = self.bad_in_a_row = 0

    def _network(self) -> QNetwork:
        network = QNetwork(self.agent.network, self.spec, self.agent.contexts).to(self.device)
        network.bf16 = in_bfloat16(self.config.precision, self.device, self.spec.pixels)
        return network

    def _auxiliaries(self) -> dict[str, Auxiliary]:
        """What is learned beside the Q-values, by the name under which a checkpoint holds it."""
        agent, found = self.agent, dict[str, Auxiliary]()
        if self.config.optimizer.l1 or self.config.optimizer.l2:
            found["penalty"] = Penalty(self.config.optimizer)
        if agent.auxiliary.kind != "none":
            found["auxiliary"] = build(agent.auxiliary, AUXILIARIES, self.online, self.spec)
        if agent.bonus.kind == "ngu":
            found["novelty"] = NoveltyAuxiliary(agent.bonus, self.spec, self.seed, agent.sequence.burn_in)
        return {name: auxiliary.to(self.device) for name, auxiliary in found.items()}

    def update(self, progress: float, *parts: Batch) -> tuple[Any, ...]:
        """One gradient step on each minibatch that `parts` make up together. Gives `Priorities` for each part, then
        `UpdateStats`. Rows of a skipped update get no priority.

        Args:
            progress: share of the budget in [0, 1], for the learning-rate schedule.
            parts: what each shard drew, all with the same number of minibatches.
        """
        report, positions = Report(parts), self.agent.sequence.length
        torch.set_num_threads(self.pace.threads)  # other components in this process have their own number
        self._center(parts)
        minibatches = join_parts(parts)
        step_size = optimizers.set_learning_rate(self.optimizer, self.config.optimizer, self.updates, progress)
        prepared = self.pace.prepared(self.to_device(minibatches), lambda: self.updates, self.target_update.jumps)
        for arrays, (batch, ready) in zip(minibatches, prepared, strict=True):
            self._fresh_noise()
            found = self.objective.learn(ready, self.generator)
            self.optimizer.zero_grad(set_to_none=True)
            extra, metrics = self._beside(batch)
            self.pace.backward(found.loss if extra is None else found.loss + extra)
            norm = optimizers.clip_gradients(self.config.optimizer, self.parameters)
            if bool(torch.isfinite(norm + found.loss.detach())):
                self._step()
                for auxiliary in self.auxiliaries.values():
                    metrics |= auxiliary.learn(batch)
                report.did(found, norm, metrics)
            else:
                self.bad_in_a_row += 1
                report.skip(found, norm, arrays.origin, self.bad_in_a_row >= self.config.max_bad_updates)
        return *report.priorities(), report.stats(self.updates, positions, step_size)

    def _beside(self, batch: Minibatch) -> tuple[Tensor | None, dict[str, Tensor]]:
        """What the auxiliaries minimize beside the loss of Q, and their metrics."""
        terms, metrics = list[Tensor](), dict[str, Tensor]()
        for auxiliary in self.auxiliaries.values():
            loss, own = auxiliary.loss(self.online, batch)
            metrics |= own
            if loss is not None:
                terms.append(auxiliary.weight * loss)
        return sum(terms[1:], terms[0]) if terms else None, metrics

    def _step(self) -> None:
        self.optimizer.step()
        self.updates += 1
        self.bad_in_a_row = 0
        self.target_update.follow(self.updates)
        if self.target_update.reset_due(self.updates):
            torch.manual_seed(self.generator.initial_seed())
            self.target_update.shrink(self._network())
            self.optimizer.state.clear()

    def _center(self, parts: tuple[Batch, ...]) -> None:
        if self.updates == 0 and self.online.contrast:
            frames = torch.cat([torch.from_numpy(p.frames) for p in parts]).to(self.device)
            self.online.centre(frames)
            self.target.centre(frames)

    def _prepare(self, batch: Minibatch, number: int) -> Any:
        """What the loss of update `number` starts from, which no online weights go into."""
        self.target_generator.manual_seed(self._seed_of(number, 1))
        if self.agent.network.head.noisy:
            resample_noise(self.target, 1, self.target_generator)
        horizon = horizon_at(self.agent, number, self.config.reset.period)
        return self.objective.prepare(batch, horizon, self.target_generator)

    def _fresh_noise(self) -> None:
        self.generator.manual_seed(self._seed_of(self.updates, 0))
        if self.agent.network.head.noisy:
            resample_noise(self.online, 1, self.generator)
        if self.agent.network.head.dropout:
            torch.manual_seed(self.generator.initial_seed())

    def _seed_of(self, number: int, network: int) -> int:
        """Every update has random numbers of its own, which its number alone decides, so that a resumed run goes on
        as the same run. `network` is 0 for the online one, 1 for the target."""
        return hash((self.seed, number, network)) & 0x7FFF_FFFF_FFFF

    def weights(self) -> Weights:
        """The online network's weights, and what the auxiliaries publish."""
        arrays = self.online.arrays()
        for auxiliary in self.auxiliaries.values():
            arrays |= auxiliary.published()
        return Weights(self.updates, arrays)

    def state(self) -> State:
        """Both networks, the optimizer's moments and the counters, as arrays and plain values."""
        return {
            "online": self.online.arrays(),
            "target": self.target.arrays(),
            "optimizer": optimizers.optimizer_state(self.optimizer),
            "updates": self.updates,
            "auxiliaries": {name: auxiliary.state() for name, auxiliary in self.auxiliaries.items()},
        }

    def restore(self, state: State) -> None:
        """Takes over what `state` gave; ValueError where that belongs to another network or optimizer."""
        self.online.load_arrays(state["online"])
        self.target.load_arrays(state["target"])
        optimizers.restore_optimizer(self.optimizer, state["optimizer"])
        for name, auxiliary in self.auxiliaries.items():
            auxiliary.restore(state["auxiliaries"][name])
        self.updates = int(state["updates"])
        self.bad_in_a_row = 0
