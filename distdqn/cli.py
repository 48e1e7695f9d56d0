"""The doors: `distdqn train`, `pretrain`, `resume`, `evaluate`, `record`, `plot`, `bench`, `scale` and so on."""

import argparse
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from distdqn.train import BAD_INPUT, WITH_KEYS, add_options, exit_code, go_on, train

EXAMPLES = """examples:
  distdqn train                                        Pong, in a form that fits this machine
  distdqn train experiment=cartpole                    a minute or two on a laptop
  distdqn train -m seed=1,2,3 experiment=cartpole      one run after the other
  distdqn train experiment=apex env.game=breakout actors.count=32 learner.device=cuda
  distdqn train engine.address=auto actors.count=256   on the Ray cluster that this machine belongs to
  distdqn resume runs/pong-20260101-120000             goes on where it stopped
  distdqn plot runs/*                                  learning curves by frames and by wall clock
  distdqn record runs/pong-20260101-120000             a GIF of a game with its Q-values
"""

STOPPED = 3
READ_NO_FURTHER = 128 + signal.SIGPIPE

BENCH_EXAMPLES = """examples:
  distdqn bench                                                Pong, in a form that fits this machine
  distdqn bench --seconds 1 experiment=catch engine=local      a quick look
  distdqn bench --out apex.json experiment=apex actors.count=32 learner.device=cuda
"""

SCALE_EXAMPLES = """examples:
  distdqn scale nodes=1,2,4 engine.address=auto experiment=apex actors.count=45 replay.shards=2
  distdqn scale nodes=1,4 engine.address=auto --strong --score 18 actors.count=16      the time to a score
  distdqn scale multirun/2026-01-01/12-00-00           of a sweep over jobs of a cluster, as cluster.head.nodes=1,2,4
  distdqn scale --simulate nodes=1,8,64 experiment=apex actors.count=45 replay.shards=2 scale.update_ms=3
"""

LAUNCH_EXAMPLES = """examples:
  distdqn launch cluster=local experiment=cartpole             goes on when the terminal is closed
  distdqn launch cluster=slurm cluster.head.nodes=4 cluster.head.gres=gpu:1 experiment=apex --dry-run
  distdqn launch cluster=slurm cluster.head.gres=gpu:1 cluster.actors.nodes=8 cluster.actors.cpus=64 experiment=apex
  distdqn launch -m cluster=slurm cluster.at_once=4 experiment=apex,r2d2 seed=1,2,3           an array of six
  distdqn launch cluster=kuberay cluster.image=registry/distdqn:1 cluster.runs.claim=runs cluster.actors.pods=8
  distdqn launch cluster=ray_up cluster.provider.head_ip=10.0.0.1 cluster.provider.worker_ips=[10.0.0.2]
  distdqn launch cluster=ray_job cluster.address=http://HEAD:8265 experiment=apex
  distdqn launch --config-dir sites cluster=mine experiment=r2d2 seed=2        the site is in sites/cluster/mine.yaml
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a door; gives the exit code: 0 done, 2 bad input, 3 stopped early but resumable, 1 anything else."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if str(Path.cwd()) not in sys.path:  # as with `python -m`: my_module:MyClass is found beside the user
        sys.path.insert(0, str(Path.cwd()))
    if arguments[:1] in (["-sc"], ["--shell-completion"]):
        arguments.insert(0, "train")
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    if wrong := [text for text in rest if known.door not in WITH_KEYS or text.startswith("-")]:
        parser.error(f"{known.door} does not know {' '.join(wrong)}")
    return exit_code(lambda: known.run(known, rest))


def entry() -> NoReturn:
    """The command line. A run that was told to stop leaves once all that is ours is closed: libraries have exit hooks,
    such as a tracker's that waits for a network. Who reads no further, as `head`, ends it as it ends other tools."""
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    code = READ_NO_FURTHER
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        output = select.poll()
        output.register(sys.stdout, 0)
        if not output.poll(0):  # a pipe of a run, not this one
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is for nobody
    if code == STOPPED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"distdqn: {message} (distdqn --help shows examples)", file=sys.stderr)
        sys.exit(BAD_INPUT)


def _checked(convert: Callable[[str], Any], fits: Callable[[Any], bool], allowed: str) -> Callable[[str], Any]:
    """A type for argparse, which says of anything that does not fit what is allowed."""

    def read(text: str) -> Any:
        try:
            if fits(value := convert(text)):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{text}: must be {allowed}")

    return read


positive = _checked(int, lambda value: value >= 1, "a whole number of at least 1")
above_zero = _checked(float, lambda value: 0 < value < 1e6, "a number above 0")
weights_file = _checked(Path, lambda path: path.suffix == ".safetensors", "a file's path that ends in .safetensors")
output_file = _checked(
    Path, lambda path: not path.is_dir() and path.absolute().parent.is_dir(), "a file in a folder that exists"
)


def _parser() -> argparse.ArgumentParser:
    from distdqn.config.keys import experiments

    formatter = argparse.RawDescriptionHelpFormatter
    about = "Deep Q-networks with many actors and one learner, on Ray and PyTorch."
    parser = _Parser("distdqn", description=about, epilog=EXAMPLES, formatter_class=formatter)
    doors = parser.add_subparsers(dest="door", required=True, metavar="DOOR")

    def add_door(run: Callable[[argparse.Namespace, list[str]], int], help: str, **texts: Any) -> Callable[..., Any]:
        door = doors.add_parser(run.__name__.strip("_"), help=help, formatter_class=formatter, **texts)
        door.set_defaults(run=run)
        return door.add_argument

    def add_weights_door(run: Callable[[argparse.Namespace, list[str]], int], help: str) -> Callable[..., Any]:
        option = add_door(run, help)
        option("folder", metavar="RUN", type=Path)
        option("--seed", type=int, default=1_000_003)
        option("--checkpoint", default="best", help="best, newest, or a checkpoint's name (default: best)")
        return option

    listing = "\n".join(f"  {name:<14} {line}" for name, line in experiments().items())
    add_door(
        train,
        "train an agent",
        usage="distdqn train [KEY=VALUE ...] [OPTION ...]",
        description="Trains. Takes Hydra's overrides and options; without any, it learns Pong.",
        epilog=f"experiments (experiment=NAME):\n{listing}\n\n{EXAMPLES}",
    )
    add_options(doors.choices["train"])
    option = add_door(
        _pretrain,
        "an autoencoder for the agent's torso, on what a random agent sees",
        usage="distdqn pretrain [OPTION ...] [KEY=VALUE ...]",
        description="Trains the torso of the config as an encoder; keys as for train.\n"
        "Use it with agent.network.torso.pretrained=FILE.safetensors.",
    )
    option("--images", type=positive, default=20_000, help="of a random agent (default: 20000)")
    option("--updates", type=positive, default=2_000, help="minibatches (default: 2000)")
    option("--out", type=weights_file, default=Path("pretrained/torso.safetensors"), help="file of weights")
    option = add_door(
        _resume,
        "go on with a run that was stopped, or further than it was to go",
        usage="distdqn resume RUN [KEY=VALUE ...]",
        description="Goes on from the newest checkpoint: same counters, epsilon, target network, optimizer, W&B run.\n"
        "Keys may change, such as budget.env_frames; those of the network and of the environment may not.",
    )
    option("folder", metavar="RUN", type=Path, help="the run's folder")
    option = add_weights_door(_evaluate, "play games with a run's best weights")
    option("--episodes", type=positive, default=30, help="games (default: 30)")
    option = add_weights_door(_record, "a GIF of a game with its Q-values")
    option("--out", type=Path, help="default: RUN/videos/CHECKPOINT-recorded.gif")
    option("--every", type=positive, default=1, help="keep one frame of this many")
    option("--max-frames", type=int, default=0, help="keep only the last frames (0: all)")
    option = add_door(_plot, "learning curves of one run or several")
    option("folders", metavar="RUN", type=Path, nargs="+", help="folders of runs, or of a sweep")
    option("--out", type=Path, default=Path("curves.png"), help="the picture (default: curves.png)")
    option("--panels", action="store_true", help="a small panel for each setting, over frames alone")
    option = add_door(
        _bench,
        "throughput of each stage and of the whole",
        usage="distdqn bench [--seconds S] [--out FILE.json] [KEY=VALUE ...]",
        description="Measures this machine with the config at hand and prints one table. Keys are those of train.",
        epilog=BENCH_EXAMPLES,
    )
    seconds = "for each stage (default: 5); the whole system takes six times as long"
    option("--seconds", type=above_zero, default=5.0, metavar="S", help=seconds)
    option("--out", type=output_file, metavar="FILE.json", help="write the figures too")
    option = add_door(
        _scale,
        "what a config does on more and more machines, and what binds it",
        usage="distdqn scale nodes=1,2,4 engine.address=auto [OPTION ...] [KEY=VALUE ...]\n"
        "       distdqn scale RUN ... [OPTION ...]\n"
        "       distdqn scale --simulate [OPTION ...] [nodes=1,8] [KEY=VALUE ...] [scale.KEY=VALUE ...]",
        description="Trains the config on so many machines of a Ray cluster, run after run, compares runs that are\n"
        "there already, or simulates machines. The config says what one machine brings.",
        epilog=SCALE_EXAMPLES,
    )
    option("--simulate", action="store_true", help="machines that are not there, with what work costs on this one")
    seconds = "of a run, or for each stage of a simulation, that are measured (default: 60, 5)"
    option("--seconds", type=above_zero, metavar="S", help=seconds)
    option("--warm-up", type=above_zero, default=30.0, metavar="S", help="after learning begins (default: 30)")
    option("--repeats", type=positive, default=2, help="runs for each number of machines (default: 2)")
    option("--strong", action="store_true", help="the same actors and shards on more machines")
    option("--score", type=float, help="go on until an evaluation reaches it, and say when")
    option("--out", type=output_file, metavar="FILE.json", help="write the figures too")
    option("--plot", type=output_file, metavar="FILE.png", help="draw them too")
    option = add_door(
        _launch,
        "train on a cluster, by one command",
        usage="distdqn launch cluster=NAME [-m] [--dry-run] [--config-dir DIR] [KEY=VALUE ...]",
        description="Sends a run to where cluster=NAME says, a file in conf/cluster or in DIR/cluster. Keys are those\n"
        "of train, and cluster.KEY=VALUE those of the site.",
        epilog=LAUNCH_EXAMPLES,
    )
    option("--dry-run", action="store_true", help="print what would be sent, and leave")
    option("--config-dir", "-cd", metavar="DIR", help="groups of your own: DIR/cluster/mine.yaml")
    option("--multirun", "-m", action="store_true", help="a run for each combination of seed=1,2 and so on")
    add_door(_doctor, "what this machine has and what it would run")
    return parser


def _pretrain(known: argparse.Namespace, overrides: list[str]) -> int:
    from distdqn.pretrain import pretrain

    return pretrain(overrides, known.images, known.updates, known.out)


def _resume(known: argparse.Namespace, rest: list[str]) -> int:
    from distdqn.config.stored import load_to_go_on

    return go_on(load_to_go_on(known.folder, rest))


def _evaluate(known: argparse.Namespace, rest: list[str]) -> int:
    from distdqn.evaluate.main import evaluate

    return evaluate(known.folder, known.checkpoint, known.seed, known.episodes)


def _record(known: argparse.Namespace, rest: list[str]) -> int:
    from distdqn.evaluate.main import record

    return record(known.folder, known.checkpoint, known.seed, known.out, known.every, known.max_frames)


def _plot(known: argparse.Namespace, rest: list[str]) -> int:
    from distdqn.record.console import make_console
    from distdqn.report.plot import plot_panels, plot_runs
    from distdqn.report.results import runs_in, show

    runs = runs_in(known.folders)
    picture = (plot_panels if known.panels else plot_runs)(runs, known.out)
    if len(runs) > 1:
        show(runs, make_console())
    print(picture)
    return 0


def _bench(known: argparse.Namespace, overrides: list[str]) -> int:
    from distdqn.bench.main import bench

    return bench(overrides, known.seconds, known.out)


def _scale(known: argparse.Namespace, overrides: list[str]) -> int:
    if known.simulate:
        from distdqn.scale.main import simulated

        return simulated(overrides, known.seconds or 5.0, known.out, known.plot)
    from distdqn.scale.experiment import Method
    from distdqn.scale.real import compare, run

    method = Method(known.seconds or 60.0, known.warm_up, known.repeats, known.strong, known.score)
    folders = [Path(text) for text in overrides if "=" not in text]
    if len(folders) == len(overrides) > 0:
        return compare(folders, method, known.out, known.plot)
    return run(overrides, method, known.out, known.plot)


def _launch(known: argparse.Namespace, overrides: list[str]) -> int:
    from distdqn.launch.main import launch

    return launch(overrides, known.config_dir, known.dry_run, known.multirun)


def _doctor(known: argparse.Namespace, rest: list[str]) -> int:
    from distdqn.doctor import doctor

    return doctor()


if __name__ == "__main__":
    entry()
