"""What a run is made of: one frozen dataclass for each group of keys, checked on construction. Every field states what
it may be; a value outside raises `ConfigError`, whose one line names the key and what is allowed. `compose` makes a
config from a command line (it alone imports Hydra), `stored` from a run's folder."""

from distdqn.config.agent import (
    AgentConfig,
    AuxiliaryConfig,
    BonusConfig,
    BootstrapConfig,
    ExplorationConfig,
    SequenceConfig,
)
from distdqn.config.learner import AugmentConfig, LearnerConfig, OptimizerConfig, ResetConfig, TargetConfig
from distdqn.config.network import HeadConfig, MemoryConfig, NetworkConfig, TorsoConfig
from distdqn.config.run import (
    ActorsConfig,
    BudgetConfig,
    CheckpointConfig,
    EngineConfig,
    EnvConfig,
    EvaluationConfig,
    ProtocolConfig,
    ReplayConfig,
    RunConfig,
    TrackConfig,
)
from distdqn.config.section import ConfigError, Import, Section, from_mapping, to_mapping
