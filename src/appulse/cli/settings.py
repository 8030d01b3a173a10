"""Every setting of a recipe as a typed option of the commands that train."""

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

from cyclopts import Parameter, Token

from .. import recipes
from .options import RecipeName

RECIPES = get_args(get_args(RecipeName)[0])
Command = Callable[..., None]


class Setting(NamedTuple):
    """One number or name of a recipe, such as "training.steps"."""

    path: str
    type: Any
    value: Any


def with_settings(unused: str = "", **parts: str) -> Callable[[Command], Command]:
    """Gives a command that takes a `Recipe` the option `--recipe`, and one for each setting.

    Args:
        unused: Where settings are that do nothing in this command.
        parts: What the command reads of a recipe, by names on the command line.
    """

    def decorate(command: Command) -> Command:
        every = (option for name, part in parts.items() for option in _options(name, part))
        options = {o.name: o for o in every if not (unused and o.name.startswith(unused))}

        @wraps(command)
        def run(*, recipe: RecipeName = "tiny", **arguments: Any) -> None:
            given = {n.replace("__", "."): arguments.pop(n) for n in options if n in arguments}
            command(recipe=_recipe(recipe, parts, given), **arguments)

        own = inspect.signature(command).parameters
        name = own["recipe"].replace(annotation=RecipeName, default="tiny")
        signature = inspect.Signature([*(own | {"recipe": name}).values(), *options.values()])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return run

    return decorate


def _recipe(name: str, parts: dict[str, str], given: dict[str, Any]) -> recipes.Recipe:
    """The recipe of that name, with settings that were given instead of its own."""
    recipe, left = getattr(recipes, name)(), dict(given)
    changed = {p: _changed(getattr(recipe, p), option, left) for option, p in parts.items()}
    if left:
        raise ValueError(
            f"the recipe {name} has no {', '.join(left)}: it is made of other parts there; see "
            "--help for what each recipe has"
        )
    return replace(recipe, **changed)


def _changed(value: Any, path: str, given: dict[str, Any]) -> Any:
    """A copy of nested dataclasses with some settings, taken out of `given` by their paths."""
    if path in given or not is_dataclass(value):
        return given.pop(path, value)
    inner = ((f.name, getattr(value, f.name)) for f in fields(value))
    return replace(value, **{name: _changed(v, f"{path}.{name}", given) for name, v in inner})  # type: ignore[type-var]


def _options(name: str, part: str) -> Iterator[inspect.Parameter]:
    """An option for each setting of a part, that of any recipe; left out, the recipe's holds."""
    whole = get_type_hints(recipes.Recipe)[part]
    types, values = {}, defaultdict[str, dict[str, Any]](dict)
    for recipe in RECIPES:
        for path, kind, value in _settings(name, whole, getattr(getattr(recipes, recipe)(), part)):
            types[path], values[path][recipe] = kind, value
    for path, kind in types.items():
        yield inspect.Parameter(
            path.replace(".", "__"),
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                kind,
                Parameter(
                    name=f"--{path.replace('_', '-')}",
                    help=_told(values[path]),
                    show_default=False,
                    negative_iterable=(),
                    group=f"Recipe: {name}",
                    converter=_whole if kind in (int, int | None) else None,
                ),
            ],
        )


def _settings(path: str, kind: Any, value: Any) -> Iterator[Setting]:
    if is_dataclass(value):
        kinds = get_type_hints(type(value))
        for name in (field.name for field in fields(value)):
            yield from _settings(f"{path}.{name}", kinds[name], getattr(value, name))
    elif not any(map(is_dataclass, get_args(kind))):  # else a part that this recipe does without
        yield Setting(path, kind, value)


def _told(values: dict[str, Any]) -> str:
    """What the recipes say, once if all say the same."""
    told = {
        name: f"{value:g}" if isinstance(value, float) else str(value).lower()
        for name, value in values.items()
    }
    if len(told) == len(RECIPES) and len(set(told.values())) == 1:
        return f"[default: {told['tiny']}]"
    return f"[default: {', '.join(f'{name} {value}' for name, value in told.items())}]"


def _whole(_kind: Any, tokens: Sequence[Token]) -> int:
    try:
        return int(tokens[0].value)  # cyclopts alone rounds 3.5 to 4
    except ValueError:
        raise ValueError(f"{tokens[0].value} is not a whole number") from None
