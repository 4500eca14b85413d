"""The page on the codes of errors: what each says, and the remedies that it names, read from the code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import flowq

_CODE = re.compile(r"FQ(\d)\d\d")
_GROUPS = {
    "1": "The pipeline",
    "2": "Commands, settings and names",
    "3": "Running",
    "4": "Redis and the claim store",
    "5": "Messages",
    "6": "Tests",
    "9": "A fault of flowq itself",
}
_OF_THE_ROOT = "An error that flowq did not expect. Please report it, with the traceback that `--debug` shows."
_Names = Mapping[str, Sequence[ast.AST]]


@dataclass
class _Entry:
    """A code: what it means, and for each text that it is shown with the remedies."""

    meanings: list[str] = field(default_factory=list[str])
    says: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


def error_codes() -> str:
    """The page."""
    entries = _entries()
    lines = [
        "# Error codes",
        "",
        "Every error has a code, the place in your file where there is one, and a remedy. A code keeps its meaning;",
        "texts may change. `…` and names in `<>` stand for what is filled in.",
    ]
    group = ""
    for code, entry in sorted(entries.items()):
        if (found := _CODE.fullmatch(code)) and found[1] != group:
            group = found[1]
            lines += ["", f"## {_GROUPS[group]}"]
        lines += ["", f"### {code}", *(line for meaning in entry.meanings for line in ("", meaning))]
        if entry.says:
            lines += ["", "| it says | remedy |", "|---|---|"]
            lines += [f"| {_cell(text)} | {_cell(*hints)} |" for text, hints in entry.says.items()]
    return "\n".join(lines) + "\n"


def _entries() -> dict[str, _Entry]:
    modules = [ast.parse(file.read_text()) for file in sorted(Path(flowq.__file__).parent.rglob("*.py"))]
    classes = {node.name: node for module in modules for node in ast.walk(module) if isinstance(node, ast.ClassDef)}
    code_of = {name: code for name in classes if (code := _code_of(name, classes))}
    entries = defaultdict[str, _Entry](_Entry)
    for name, node in classes.items():
        if _own_code(node):
            meaning = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            entries[code_of[name]].meanings.append(_OF_THE_ROOT if name == "FlowqError" else meaning)
    for module in modules:
        known = _assigned(module.body)
        for scope in (node for node in ast.walk(module) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            inside = list(ast.walk(scope))
            names = known | _assigned(inside)
            for call in (node for node in inside if isinstance(node, ast.Call)):
                for code, texts, hints in _said(call, code_of, names):
                    for text in texts:
                        said = entries[code].says.setdefault(text, [])
                        said += [hint for hint in hints if hint not in said]
    return entries


def _assigned(statements: Iterable[ast.AST]) -> dict[str, list[ast.AST]]:
    """What the names of a module or a function are set to."""
    found = defaultdict[str, list[ast.AST]](list)
    for statement in statements:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name].append(value)
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                for each, value in zip(names, values, strict=False):
                    if isinstance(each, ast.Name):
                        found[each.id].append(value)
            case _:
                pass
    return dict(found)


def _own_code(node: ast.ClassDef) -> str:
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                return code
            case _:
                pass
    return ""


def _code_of(name: str, classes: dict[str, ast.ClassDef]) -> str:
    """Of a class, or of the first of its bases that has one."""
    if name not in classes:
        return ""
    bases = (base.id for base in classes[name].bases if isinstance(base, ast.Name))
    return _own_code(classes[name]) or next((code for base in bases if (code := _code_of(base, classes))), "")


def _said(
    call: ast.Call, code_of: Mapping[str, str], names: _Names
) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    """The code, the texts and the remedies of an error that this call makes."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    arguments = list(call.args)
    match arguments:
        case [ast.Constant(value=str(code)), *others] if _CODE.fullmatch(code):
            arguments = others
        case _:
            code = code_of.get(name, "")
    texts = _texts(arguments[0], names) if code and arguments else []
    hint = next((keyword.value for keyword in call.keywords if keyword.arg == "hint"), None)
    if hint is None and name == "_report" and len(arguments) > 1:
        hint = arguments[1]
    hints = _texts(hint, names) if hint else []
    yield code, [text for text in texts if _says_something(text)], [hint for hint in hints if _says_something(hint)]


def _says_something(text: str) -> bool:
    return re.search(r"\w", re.sub(r"<\w+>", "", text)) is not None


def _texts(node: ast.AST, names: _Names) -> list[str]:
    """What an expression may be, as text."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            parts = [_texts(value, {}) or [""] for value in values]
            return ["".join(part[0] for part in parts)]
        case ast.FormattedValue(value=ast.Name(id=name) | ast.Attribute(attr=name)):
            return [f"<{name.strip('_').lower()}>"]
        case ast.FormattedValue():
            return ["…"]
        case ast.BinOp(left=left, right=right):
            return [a + b for a in _texts(left, names) for b in _texts(right, names)]
        case ast.IfExp(body=body, orelse=orelse):
            return _texts(body, names) + _texts(orelse, names)
        case ast.Name(id=name):
            return [text for value in names.get(name, ()) for text in _texts(value, {})]
        case ast.Call(func=ast.Name(id="did_you_mean"), args=arguments):
            return ["did you mean …?", *(text for otherwise in arguments[2:] for text in _texts(otherwise, names))]
        case _:
            return []


def _cell(*texts: str) -> str:
    return "<br>".join(_as_code(" ".join(text.split())).replace("|", "\\|") for text in texts)


def _as_code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"
