"""Breaks lines of the product one at a time, and prints which test notices.

    python -m tests.mutants --seed 31 [--only 4 7]

The seed draws lines of each package, as many of one as of another, and a change in each: a comparison
turned, + for -, a number one higher, `not` dropped, nothing returned. A worktree of the last commit is
changed and tested: the tests of the module, then of its folder, of its package, and all quick tests.
"""

import argparse
import ast
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("beam_jobs", "index_builder", "model", "serving", "twinspire", "twinspire_core")
PAIRS = (
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.In, ast.NotIn),
    (ast.Is, ast.IsNot),
    (ast.Add, ast.Sub),
    (ast.Mult, ast.Div),
    (ast.And, ast.Or),
)
TURNED = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}


def changed(node: ast.AST) -> ast.AST | None:
    """What an expression or statement becomes, if it is one of those that are changed."""
    match node:
        case ast.Compare(left, [operator], values):
            return ast.Compare(left, [TURNED[type(operator)]()], values)
        case ast.BinOp(left, operator, right) if type(operator) in TURNED:
            return ast.BinOp(left, TURNED[type(operator)](), right)
        case ast.BoolOp(operator, values):
            return ast.BoolOp(TURNED[type(operator)](), values)
        case ast.UnaryOp(ast.Not(), operand):
            return operand
        case ast.Constant(bool() as value):
            return ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            return ast.Constant(value + 1)
        case ast.Return(ast.expr()):
            return ast.Return(ast.Constant(None))
    return None


def running(node: ast.AST, inside: bool = False) -> Iterator[ast.AST]:
    """What runs when functions are called, and is written on one line: no errors' texts."""
    for name, value in ast.iter_fields(node):
        within = inside or (name == "body" and isinstance(node, ast.FunctionDef))
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, (ast.Raise, ast.JoinedStr)):
                if within and changed(child) and child.lineno == child.end_lineno:
                    yield child
                yield from running(child, within)


def draw(seed: int, number: int) -> Iterator[tuple[Path, ast.AST]]:
    """Modules and what is changed in each, the packages in turn."""
    chance = random.Random(seed)
    for n in range(number):
        files = sorted(Path(PACKAGES[n % len(PACKAGES)]).rglob("*.py"))
        lines = [(f, node) for f in files for node in running(ast.parse(f.read_text()))]
        yield chance.choice(lines)


def mutated(file: Path, node: ast.AST) -> tuple[str, str, str]:
    """The module's text with the change; the line before and after."""
    lines = file.read_text().split("\n")
    before = lines[node.lineno - 1].encode()
    new = ast.unparse(changed(node))
    new = new if isinstance(node, ast.stmt) else f"({new})"
    after = before[: node.col_offset] + new.encode() + before[node.end_col_offset :]
    lines[node.lineno - 1] = after.decode()
    return "\n".join(lines), before.decode().strip(), after.decode().strip()


def places(file: Path) -> Iterator[list[str]]:
    """What is tested, narrowest first: tests mirror the packages."""
    folder = Path("tests", file).parent
    yield sorted(map(str, folder.glob(f"test_{file.stem.strip('_')}*.py")))
    yield [str(folder)] if folder.exists() else []
    yield [f"tests/{file.parts[0]}"]
    yield ["tests"]


def killer(copy: Path, tests: list[str]) -> str:
    """The first test that fails, or nothing."""
    command = [sys.executable, "-m", "pytest", "-xq", "--timeout=200", "-p", "no:cacheprovider"]
    workers = ["-n", "2", "--dist", "loadfile"] if tests == ["tests"] else ["-n", "0"]
    done = subprocess.run(
        [*command, *workers, "-m", "not system", *tests], cwd=copy, capture_output=True, text=True
    )
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    return failed[1] if failed else "" if done.returncode in (0, 5) else "the tests do not start"


def main() -> None:
    """Prints a row for each change: the place, before, after, and what failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--only", type=int, nargs="*", help="changes of these numbers alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        copy = Path(home, "copy")
        subprocess.run(["git", "worktree", "add", "-q", "--detach", copy], check=True)
        try:
            for number, (file, node) in enumerate(draw(given.seed, 15), 1):
                text, before, after = mutated(file, node)
                print(
                    f"{number} | {file}:{node.lineno} | `{before}` | `{after}` | ",
                    end="",
                    flush=True,
                )
                (copy / file).write_text(text)
                tried = [] if given.only is not None and number not in given.only else places(file)
                print(next(filter(None, (killer(copy, tests) for tests in tried if tests)), "none"))
                (copy / file).write_text(file.read_text())
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", copy], check=True)


if __name__ == "__main__":
    main()
