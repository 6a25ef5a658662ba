"""What reaches a terminal: text, never what acts on it."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console as RichConsole

import cory
from cory.cli import main
from cory.cli.comparison_tables import result_table
from cory.cli.tables import evaluation_table
from cory.compare.plan import Comparison
from cory.compare.progress import MatrixProgress
from cory.compare.running import failure
from cory.config import CORYConfig
from cory.io.terminal import CONTROLS, model_text, new_console, printable, write
from cory.report.results import Results
from cory.training.console import Console

PACKAGE = Path(cory.__file__).parent
HOSTILE = "\x1b]8;;http://x\x07[red]a[/red][link=http://x]b[/link]\x9b2J\u202ec:smile:\ud800"
SHOWN = "<U+001B>]8;;http://x<U+0007>[red]a[/red][link=http://x]b[/link]<U+009B>2J<U+202E>c:smile:<U+D800>"
ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
ANY_TEXT = st.text(st.characters(codec=None, categories=None) | st.sampled_from("\x1b[]\u202e\x9b"))


@given(ANY_TEXT)
def test_what_is_printable_cannot_steer_a_terminal(text: str) -> None:
    """Prevents answers with escape sequences from hiding or recolouring what a user sees."""
    shown = printable(text)
    assert not ACTING.search(shown)
    assert printable(shown) == shown
    shown.encode("utf-8")
    kept = re.sub(f"[{CONTROLS}]", "", text)
    assert re.sub(r"<U\+[0-9A-F]{4,6}>", "", shown) == re.sub(r"<U\+[0-9A-F]{4,6}>", "", kept)


def test_what_is_harmless_stays() -> None:
    """Prevents a filter that takes joined emoji, other scripts or tables apart."""
    text = "é 🎬 👩\u200d🚀 שלום می\u200cخواهم\tα\n"
    assert printable(text) == text
    assert printable("a\x1b[31m\x00\r") == "a<U+001B>[31m<U+0000><U+000D>"


@given(ANY_TEXT)
def test_rich_takes_nothing_for_markup(text: str) -> None:
    """Prevents `[red]` in an answer from colouring, and `[link=…]` from leading somewhere."""
    stream = io.StringIO()
    console = RichConsole(file=stream, force_terminal=True, width=10_000, highlight=False)
    console.print(model_text(text), soft_wrap=True)
    assert not ACTING.search(stream.getvalue())
    assert "".join(stream.getvalue().split()) == "".join(printable(text).split())


def test_tables_show_names_as_they_are() -> None:
    """Prevents an arm or a directory named like markup from vanishing, or acting."""
    stream = io.StringIO()
    console = RichConsole(file=stream, width=1000, highlight=False)
    console.print(evaluation_table(f"in {HOSTILE}", {HOSTILE: {"task_reward": 1.0}}))
    lines = [line for line in stream.getvalue().splitlines() if SHOWN in line]
    assert len(lines) == 2
    assert not ACTING.search(stream.getvalue())


def test_an_arm_of_a_file_is_shown_as_text() -> None:
    """Prevents a table of a comparison that its own names recolour."""
    arm, shown = HOSTILE.rstrip("\ud800"), SHOWN.removesuffix("<U+D800>")
    row = {"arm": arm, "kl_coef": 0.1, "learning_rate": 1e-4, "step": 1, "seeds": 1}
    row |= {"task_reward": 0.5, "kl": 0.1, "total_samples": 1.0, "total_seconds": 1.0}
    rows = [row | {"agent": agent} for agent in ("agent_0", "mean")]
    results = Results({"baseline": arm}, rows, rows, rows, [], [])
    stream = io.StringIO()
    RichConsole(file=stream, width=1000).print(result_table(results))
    assert shown in stream.getvalue()
    assert not ACTING.search(stream.getvalue())


def test_progress_of_a_training_is_text() -> None:
    """Prevents a model's name or a path from steering the terminal during hours of training."""
    stream = io.StringIO()
    console = Console(RichConsole(file=stream, width=1000, force_terminal=True))
    args = CORYConfig(model_name_or_path=HOSTILE, output_dir=f"runs/{HOSTILE}")

    class State:
        global_step, max_steps = 0, 1

    console.on_train_begin(args, State(), None)
    console.on_train_end(args, State(), None)
    written = stream.getvalue()
    assert written.count(SHOWN) == 3
    # rich's own sequences: colours, the cursor, the line of the bar; none of the names' own.
    assert not ACTING.search(re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\r", "", written))


def test_errors_quote_values_as_text(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents a file or an option from acting by the message that refuses it."""
    for words in (
        ["report", str(tmp_path / "\x1b[2J\u202e")],
        ["train", "--config", str(tmp_path / "\x1b[2J\u202e.yaml")],
        ["generate", str(tmp_path), "--prompt", "x", "--agent", "\x1b[2J"],
        ["\x1b[2J\u202e"],
    ):
        with pytest.raises(SystemExit):
            main(words)
        errors = capsys.readouterr().err
        assert errors.startswith("cory: ")
        assert not ACTING.search(errors)


def test_an_error_that_nobody_caught_is_text() -> None:
    """Prevents a traceback that plays back what a model wrote."""
    program = "from cory.cli import main\nmain([])\nraise RuntimeError('\\x1b[2J\\u202e')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "RuntimeError: <U+001B>[2J<U+202E>" in done.stderr
    assert not ACTING.search(done.stderr)


def test_the_log_of_a_failed_run_is_shown_as_text(tmp_path: Path) -> None:
    """Prevents a run's last words, which quote what a model wrote, from steering the terminal."""
    comparison = Comparison(base={"task": "pocket-arithmetic"}, arms={"ppo": {}}, seeds=[0])
    (run,) = comparison.runs(tmp_path)
    run.directory.mkdir(parents=True)
    (run.directory / "run.log").write_text(HOSTILE.rstrip("\ud800"), encoding="utf-8")
    stream = io.StringIO()
    console = RichConsole(file=stream, width=1000)
    with MatrixProgress([run], lambda run: False, console) as progress:
        progress.started(run)
        progress.failed(run, failure(run, 1))
    assert SHOWN.removesuffix("<U+D800>") in stream.getvalue()
    assert not ACTING.search(stream.getvalue())


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_answers_go_to_files_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a filter that changes what a program reads from a pipe."""
    for stream, shown in ((io.StringIO(), "a\x1b[2J\n"), (Terminal(), "a<U+001B>[2J\n")):
        monkeypatch.setattr(sys, "stdout", stream)
        write("a\x1b[2J")
        assert stream.getvalue() == shown


def test_no_console_understands_markup() -> None:
    """Prevents a console on which one forgotten `model_text` is enough."""
    console = new_console()
    with console.capture() as captured:
        console.print("[red]a[/red] :smile:")
    assert captured.get() == "[red]a[/red] :smile:\n"


def ways_out(source: str) -> list[str]:
    """Expressions by which a source could reach a terminal, past `cory.io.terminal`."""
    tree = ast.parse(source)
    names = {"sys.stdout", "sys.stderr", "print"} | {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "rich.console"
        for alias in node.names
    }
    called = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [name for name in called if name in names or name.rpartition(".")[0] in names]


def test_there_is_one_way_to_the_terminal() -> None:
    """Prevents a new message that prints what a model wrote."""
    source = "from rich.console import Console as C\nC()\nprint(x)\nself.console.print(x)"
    assert ways_out(source) == ["C", "print"]
    assert ways_out("import sys\nsys.stderr.write(x)") == ["sys.stderr.write"]
    for path in PACKAGE.rglob("*.py"):
        if path.name != "terminal.py":
            assert ways_out(path.read_text()) == [], path
