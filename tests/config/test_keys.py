from __future__ import annotations

from distdqn.config import RunConfig, to_mapping
from distdqn.config.compose import compose
from distdqn.config.keys import conf_dir, sections, text
from distdqn.config.section import one_line

BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"


def markdown() -> str:
    """A table for each section."""
    lines = []
    for cls, keys in sections():
        lines += [f"### {f'`{cls.key}`' if cls.key else 'The run'}", "", one_line(cls.__doc__ or ""), ""]
        lines += ["| key | default | may be | |", "|---|---|---|---|"]
        for key in keys:
            cells = (f"`{key.name}`", f"`{key.default}`" if key.default else "", key.allowed, key.meaning)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def test_the_page_has_every_key() -> None:
    """Between the marks of conf/README.md stands what `markdown()` gives."""
    page = (conf_dir() / "README.md").read_text()
    assert page.split(BEGIN)[1].split(END)[0].strip() == markdown().strip()


def test_every_key_is_there_once_with_its_default() -> None:
    def flat(values: object, key: str) -> list[str]:
        if isinstance(values, dict) and not key.endswith("kwargs"):
            return [leaf for name, value in values.items() for leaf in flat(value, f"{key}.{name}".lstrip("."))]
        return [key]

    keys = [key for _, own in sections() for key in own]
    assert sorted(key.name for key in keys) == sorted(flat(to_mapping(RunConfig()), ""))
    assert sum(bool(key.meaning) for key in keys) > len(keys) / 3
    by_name = {key.name: key for key in keys}
    rate = by_name["learner.optimizer.learning_rate"]
    assert (rate.default, rate.allowed) == ("0.0001", "a number above 0")
    assert "categorical" in by_name["agent.network.head.kind"].allowed


def test_a_default_as_it_is_written_is_an_override() -> None:
    keys = [key for _, own in sections() for key in own if key.name not in ("note", "run_dir")]
    config = compose(["experiment=pong", "form=gpu", *(f"{key.name}={key.default}" for key in keys)])
    assert to_mapping(config) == {**to_mapping(RunConfig()), "note": config.note, "run_dir": config.run_dir}


def test_the_terminal_shows_the_same() -> None:
    lines = text().splitlines()
    assert "learner.batch_size=512" in lines and all(len(line) < 300 for line in lines)
