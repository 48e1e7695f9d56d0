"""The learner: owns the Q-network, its target and the optimizer."""

import sys
from typing import Any

import torch
from torch import Tensor

from distdqn.config import AgentConfig, LearnerConfig
from distdqn.config.section import build
from distdqn.learn import optimizer as optimizers
from distdqn.learn.auxiliary import AUXILIARIES, Auxiliary, Penalty
from distdqn.learn.device import in_bfloat16, prepare_device
from distdqn.learn.minibatch import Minibatch, join, on_cpu, split_parts
from distdqn.learn.novelty_auxiliary import NoveltyAuxiliary
from distdqn.learn.objective import Horizon, Objective, horizon_at
from distdqn.learn.pace import make_pace
from distdqn.learn.pretrained import load_torso
from distdqn.learn.program import CannotCapture, Gradient, Program, may_capture
from distdqn.learn.report import Report
from distdqn.learn.sequences import make_sequence_loss
from distdqn.learn.staging import Staging
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
        self.optimizer = optimizers.make_optimizer(config.optimizer, self.parameters, self.pace.compiled)
        self.to_device = Staging(self.device) if self.device.type == "cuda" else on_cpu
        self.generator, self.target_generator = self._generators()
        self.updates = self.bad_in_a_row = 0
        self.program: Program | None = None
        asks = any(type(a).learn is not Auxiliary.learn for a in self.auxiliaries.values())
        self.may_capture = may_capture(agent, config, self.device.type == "cuda") and not asks

    def _network(self) -> QNetwork:
        network = QNetwork(self.agent.network, self.spec, self.agent.contexts).to(self.device)
        network.bf16 = in_bfloat16(self.config.precision, self.device, self.spec.pixels)
        if self.device.type == "cuda" and network.bf16:  # its convolutions of float32 want them first
            network.keep_planes_last()
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
        minibatches = split_parts(parts)
        step_size = optimizers.set_learning_rate(self.optimizer, self.config.optimizer, self.updates, progress)
        even = len({sum(map(len, rows)) for rows in minibatches}) == 1
        done = self._at_once(self.program, minibatches, report) if self.program and even else 0
        if done < len(minibatches):
            self._one_by_one(minibatches[done:], report)
        if self.may_capture and not self.program and report.names:  # the first updates made the optimizer's moments
            self.program = self._program(report.names)
        return *report.priorities(), report.stats(self.updates, positions, step_size)

    def _at_once(self, program: Program, minibatches: list[list[Batch]], report: Report) -> int:
        """Updates without a look at any before the last is on its way. Gives how many were made: not those from the
        first on that was not finite."""
        start = self.updates
        program.begin(len(minibatches), sum(len(rows) for rows in minibatches[0]))
        for number, batch in enumerate(self.to_device(minibatches), start):
            self._seed_target(number)
            self._seed_online(number)
            try:
                program(batch, self._horizon(number))
            except CannotCapture as error:
                print(f"distdqn: updates are made step by step, they cannot be captured: {error}", file=sys.stderr)
                self.may_capture, self.program = False, None
                self.generator, self.target_generator = self._generators()  # the others believe in the capture still
                break
            if self.target_update.copy_due(number + 1):
                self.target_update.copy_where(program.ok)
            if self.target_update.reset_due(number + 1):
                if start + len(program.read()) <= number:
                    break
                self._reset()
        for row in (made := program.read()):
            report.did(row.figures, row.priority)
        self.updates += len(made)
        self.bad_in_a_row *= not made
        return len(made)

    def _one_by_one(self, minibatches: list[list[Batch]], report: Report) -> None:
        """Updates that are looked at, each before it is applied."""
        prepared = self.pace.prepared(self.to_device(minibatches), lambda: self.updates, self.target_update.jumps)
        for rows, (batch, ready) in zip(minibatches, prepared, strict=True):
            self._seed_online(self.updates)
            outcome, norm, _ = found = self._gradient(batch, ready, may_read=True)
            if bool(torch.isfinite(norm + outcome.loss.detach())):
                self._apply()
                self.updates += 1
                self.bad_in_a_row = 0
                if self.target_update.copy_due(self.updates):
                    self.target_update.copy()
                if self.target_update.reset_due(self.updates):
                    self._reset()
                figures = found.figures
                for auxiliary in self.auxiliaries.values():
                    figures |= auxiliary.learn(batch)
                report.did(figures, outcome.priority)
            else:
                self.bad_in_a_row += 1
                report.skip(outcome, norm, join(rows).origin, self.bad_in_a_row >= self.config.max_bad_updates)

    def _generators(self) -> tuple[torch.Generator, torch.Generator]:
        return torch.Generator(self.device), torch.Generator(self.device)

    def _program(self, names: list[str]) -> Program:
        def gradient(batch: Minibatch, horizon: Horizon) -> Gradient:
            return self._gradient(batch, self._ready(batch, horizon), may_read=False)

        generators = self.generator, self.target_generator
        others = [*self.online.buffers(), *self.target_update.mixed]  # running statistics are of what was seen
        return Program(gradient, self._apply, self.optimizer, others, generators, names, self.device)

    def _gradient(self, batch: Minibatch, ready: Any, may_read: bool) -> Gradient:
        """The gradient of a minibatch of which `ready` was prepared; `may_read`: for the device."""
        if self.agent.network.head.noisy:
            resample_noise(self.online, 1, self.generator)
        found = self.objective.learn(ready, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        extra, metrics = self._beside(batch)
        self.pace.backward(found.loss if extra is None else found.loss + extra)
        return Gradient(found, optimizers.clip_gradients(self.config.optimizer, self.parameters, may_read), metrics)

    def _apply(self) -> None:
        self.optimizer.step()
        self.target_update.mix()

    def _reset(self) -> None:
        torch.manual_seed(self.generator.initial_seed())
        self.target_update.shrink(self._network())
        optimizers.forget_moments(self.optimizer)

    def _beside(self, batch: Minibatch) -> tuple[Tensor | None, dict[str, Tensor]]:
        """What the auxiliaries minimize beside the loss of Q, and their metrics."""
        terms, metrics = list[Tensor](), dict[str, Tensor]()
        for auxiliary in self.auxiliaries.values():
            loss, own = auxiliary.loss(self.online, batch)
            metrics |= own
            if loss is not None:
                terms.append(auxiliary.weight * loss)
        return sum(terms[1:], terms[0]) if terms else None, metrics

    def _center(self, parts: tuple[Batch, ...]) -> None:
        if self.updates == 0 and self.online.contrast:
            frames = torch.cat([torch.from_numpy(p.frames) for p in parts]).to(self.device)
            self.online.centre(frames)
            self.target.centre(frames)

    def _horizon(self, number: int) -> Horizon:
        return horizon_at(self.agent, number, self.config.reset.period)

    def _prepare(self, batch: Minibatch, number: int) -> Any:
        """What the loss of update `number` starts from, which no online weights go into."""
        self._seed_target(number)
        return self._ready(batch, self._horizon(number))

    def _ready(self, batch: Minibatch, horizon: Horizon) -> Any:
        if self.agent.network.head.noisy:
            resample_noise(self.target, 1, self.target_generator)
        return self.objective.prepare(batch, horizon, self.target_generator)

    def _seed_target(self, number: int) -> None:
        self.target_generator.manual_seed(self._seed_of(number, 1))

    def _seed_online(self, number: int) -> None:
        self.generator.manual_seed(self._seed_of(number, 0))
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
        self.program = None  # its tensors are others now
