"""Search the hyperparameters of a network with KerasTuner; the test clips have no part in it.

Command: `python -m tuning.search --preset P --tuner random|hyperband|bayesian --trials N --out DIR [--data STORE]`.
The same command goes on with a search that was interrupted.
"""

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence

from keras_genre import cli, files
from keras_genre.clips import Clip
from keras_genre.datasets.options import add_split_options, apply_split_options
from keras_genre.errors import ParameterError, SearchError
from keras_genre.models.presets import DEFAULT_PRESET, preset
from keras_genre.params import TrainParams, with_epochs, with_values
from keras_genre.places import local_path, place
from keras_genre.train import EMBEDDED_DATA
from tuning.data import feature_stores
from tuning.plan import OBJECTIVES, TUNERS, Method, SearchPlan, make_search_plan
from tuning.project import BEST, claim, clear_leftovers, read_search
from tuning.records import best_first, count_ended, read_trials
from tuning.running import run_worker, search_alone, search_with_workers
from tuning.space import kinds_to_try, read_table

DEFAULT_TRIALS = 20
SILENCE_SECONDS = 60.0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("tuning.search", "Search the hyperparameters of a network; the test clips have no part in it.")
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument(
        "--out", type=local_path, required=True, metavar="DIR", help="search folder; goes on with one there"
    )
    parser.add_argument("--preset", default=DEFAULT_PRESET, metavar="P", help="network and recipe (lstm_optim)")
    parser.add_argument("--data", type=place, default=EMBEDDED_DATA, metavar="STORE", help="(the embedded one)")
    parser.add_argument("--tuner", choices=TUNERS, default="random", help="(random)")
    parser.add_argument("--trials", type=int, metavar="N", help="at most (20; under Hyperband those of one iteration)")
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default="accuracy", help="of whole validation clips (accuracy)"
    )
    parser.add_argument(
        "--folds",
        # `folds` is what another flag of this name means to the commands that divide clips.
        dest="validation_folds",
        type=int,
        default=0,
        metavar="K",
        help="artist-grouped folds that validate a trial (the split's own)",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings of each fold in a trial (1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the tuner (0)")
    parser.add_argument("--factor", type=int, default=3, metavar="N", help="of Hyperband: one trial in N goes on (3)")
    parser.add_argument("--epochs", type=int, metavar="N", help="whole budget of a trial (the preset's)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as for keras_genre.train")
    parser.add_argument(
        "--space", type=local_path, metavar="FILE", help="JSON: what varies, in place of the default ranges"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the space and what a search would do")
    add_split_options(parser)
    end = parser.add_argument_group("the end of a search")
    end.add_argument(
        "--top", type=int, metavar="K", help="print the best K trials as flags of keras_genre.train, no more"
    )
    end.add_argument(
        "--retrain-best",
        action="store_true",
        help="then train the winner on training and validation clips, test it once, export it: into DIR/best",
    )
    end.add_argument("--retrain-seeds", type=int, default=5, metavar="N", help="with --retrain-best: so often (5)")
    end.add_argument("--no-export", action="store_true", help="with --retrain-best: write no SavedModel")
    spread = parser.add_argument_group("several processes")
    spread.add_argument("--workers", type=int, default=0, metavar="N", help="on this machine; GPUs are shared out")
    spread.add_argument("--chief", metavar="HOST:PORT", help="listen for workers and run no trial here")
    spread.add_argument(
        "--worker", metavar="HOST:PORT", help="run trials for the chief there; other flags as the chief's"
    )
    spread.add_argument(
        "--renew-after", type=int, default=20, metavar="K", help="begin a new process every K trials (20; 0: never)"
    )
    spread.add_argument(
        "--wait-seconds", type=float, default=600.0, metavar="S", help="for workers, or for the chief (600)"
    )
    spread.add_argument(
        "--silence-seconds",
        type=float,
        default=SILENCE_SECONDS,
        metavar="S",
        help="a worker without a sign of life for so long has lost its trial (60)",
    )
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    check_options(options)
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    plan = plan_of(options)
    for note in plan.notes:
        cli.say(f"note: {note}")
    if options.dry_run:
        print(description(plan))
        return cli.DONE
    if options.top:
        print_top(plan, options)
        return cli.DONE
    if options.worker:
        run_worker(plan, options)
        return cli.DONE
    # A search in this process may be replaced by a new one only if it is the whole of it.
    renew_after = options.renew_after if argv is None else 0
    with files.locked_folder(options.out):
        began = claim(options.out, plan.identity())
        clear_leftovers(options.out)
        ended_before = count_ended(options.out)
        cli.say(f"{'going on with' if began else 'beginning'} the search in {options.out}; starting Keras")
        if options.workers or options.chief:
            search_with_workers(plan, options, sys.argv[1:] if argv is None else list(argv))
            renewed = False
        else:
            renewed = search_alone(plan, options.out, renew_after)
    if renewed:
        from tuning.workers import start_again

        start_again()
    if missing := what_is_missing(plan, ended_before, count_ended(options.out)):
        cli.say(f"note: {missing}")
    conclude(plan, options)
    return cli.DONE


def check_options(options: argparse.Namespace) -> None:
    """Refuse flags that exclude each other.

    Raises
    ------
    ParameterError
    """
    if sum(bool(flag) for flag in (options.workers, options.chief, options.worker)) > 1:
        raise ParameterError("--workers, --chief and --worker exclude each other")
    if min(options.workers, options.renew_after) < 0 or min(options.wait_seconds, options.silence_seconds) <= 0:
        raise ParameterError(
            "--workers and --renew-after must not be negative, --wait-seconds and --silence-seconds positive"
        )
    if options.retrain_seeds < 1 or (options.top is not None and options.top < 1):
        raise ParameterError("--top and --retrain-seeds must be at least 1")
    for flag in ("chief", "worker"):
        if text := getattr(options, flag):
            host, _, port = text.rpartition(":")
            if not host or not port.isdecimal() or not int(port) <= 65535:
                raise ParameterError(f"--{flag} {text}: expected HOST:PORT")


def plan_of(options: argparse.Namespace) -> SearchPlan:
    """Make the search that the flags describe.

    Raises
    ------
    KerasGenreError
        If a flag or the data cannot work.
    """
    base = base_params(options)
    trials = options.trials if options.trials is not None or options.tuner == "hyperband" else DEFAULT_TRIALS
    method = Method(
        tuner=options.tuner,
        objective=options.objective,
        trials=trials,
        folds=options.validation_folds,
        seeds=options.seeds,
        seed=options.seed,
        factor=options.factor,
        split_seed=options.split_seed,
    )
    changes = read_table(options.space) if options.space else {}
    stores = feature_stores(options.data, base.features, kinds_to_try(base, changes))
    # One index is divided; the stores beside it hold the same clips.
    divided, notes = apply_split_options(stores[0].clips, options)
    split_of = {clip.track: clip for clip in divided}
    stores = [store.with_clips([clip_like(clip, split_of[clip.track]) for clip in store.clips]) for store in stores]
    return make_search_plan(options.preset, base, method, stores, changes, notes)


def clip_like(clip: Clip, divided: Clip) -> Clip:
    """Return a clip with the split and the group that it has in another store."""
    return dataclasses.replace(clip, split=divided.split, group=divided.group)


def base_params(options: argparse.Namespace) -> TrainParams:
    """Return the preset's parameters with flags in their place."""
    base = preset(options.preset)
    return with_values(base if options.epochs is None else with_epochs(base, options.epochs), options.set)


def description(plan: SearchPlan) -> str:
    """Return what a search would do, for people."""
    method, base = plan.method, plan.space.base
    data = plan.identity()["data"]
    width = max(len(domain.name) for domain in plan.space.domains)
    runs = data["folds"] * method.seeds
    lines = [
        f"{method.tuner} search, {plan.trials} trials; objective: {method.objective} of whole validation clips",
        f"{plan.preset} ({base.model.family}), up to {base.epochs} epochs; "
        f"{runs} trainings a trial ({data['folds']} folds, {method.seeds} seeds)",
        f"{data['clips']} clips for training and validation; features: {', '.join(data['features'])}",
        "",
        *(f"{domain.name:<{width}}  {domain}" for domain in plan.space.domains),
    ]
    return "\n".join(lines)


def what_is_missing(plan: SearchPlan, before: int, after: int) -> str:
    """Return why a search that is over has not run what one might expect; empty if it has.

    Parameters
    ----------
    plan : SearchPlan
    before, after : int
        Trials that had ended before this start of it, and at its end.
    """
    if after < plan.trials:
        return f"{after} trials have ended, not {plan.trials}: {plan.method.tuner} search finds no more to try"
    if before == after:
        return f"nothing was left to run: {after} trials have ended; --trials N with a larger N runs more"
    return ""


def print_top(plan: SearchPlan, options: argparse.Namespace) -> None:
    """Print the best trials so far as flags; what they reached goes to standard error."""
    from tuning.winner import division_flags, top_lines

    # Before the claim, which would make the folder a search's.
    read_search(options.out)
    claim(options.out, plan.identity())
    best = best_first(read_trials(options.out, plan.space))[: options.top]
    data = options.data if options.data != EMBEDDED_DATA else None
    for trial, line in zip(best, top_lines(plan, best, data, division_flags(options)), strict=True):
        cli.say(f"trial {trial.trial}: {plan.method.objective} {trial.objective:.3f}")
        print(line)


def conclude(plan: SearchPlan, options: argparse.Namespace) -> None:
    """Write the report, say what was best, and train it anew if that is wished."""
    from tuning.report import PAGE, write_report
    from tuning.trials import clear_networks, without_retracing_warnings
    from tuning.winner import division_flags, flags_of, retrain

    out, method = options.out, plan.method
    trials = read_trials(out, plan.space)
    ranked = best_first(trials)
    if not ranked:
        raise SearchError(f"{out}: no trial succeeded")
    facts = {
        "tuner": f"{method.tuner}, {len(trials)} trials, {len(trials) - len(ranked)} of which failed",
        "objective": f"{method.objective} of whole validation clips, {len(plan.folds)} folds, {method.seeds} seeds",
        "preset": plan.preset,
        "data": str(plan.stores[0].path),
        **{f"note {number}": note for number, note in enumerate(plan.notes, 1)},
    }
    write_report(out, f"Search in {out.name}", plan.space, method.objective, facts, trials)
    clear_networks(out)
    best = ranked[0]
    print(f"best: trial {best.trial}, {method.objective} {best.objective:.3f}, on clips that chose it")
    print(f"report: {out / PAGE}")
    if not options.retrain_best:
        data = options.data if options.data != EMBEDDED_DATA else None
        flags = flags_of(plan.preset, plan.space.params_with(best.values), data, division_flags(options))
        print(f"python -m keras_genre.train {shlex.join(flags)}")
        return
    with files.locked_folder(out), without_retracing_warnings():
        summary = retrain(plan, out, best, options.retrain_seeds, export=not options.no_export)
    print(f"run folders: {out / BEST}")
    if not summary["runs"]:
        print("no clips to test on")
        return
    print(
        f"test accuracy {summary['test_accuracy']:.3f} (95 % interval {summary['test_accuracy_95_low']:.3f} to "
        f"{summary['test_accuracy_95_high']:.3f}; mean of {summary['seeds']} seeds on {summary['test_clips']} clips), "
        f"macro F1 {summary['test_macro_f1']:.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
