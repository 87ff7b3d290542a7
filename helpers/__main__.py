"""Command line: `python -m helpers run | plan | score | search | complete | verify | report | compare | ...`.

The parameters of a command are its options, however many there are.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from helpers.error_text import told
from helpers.errors import SuiteError
from helpers.paths import PathError, below_home
from helpers.settings import SEEDS

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Adapt a small code model to a repository, and measure honestly whether it helped.",
)

profiling = typer.Typer(no_args_is_help=True, help="The profiling lab: grade faster training scripts.")
app.add_typer(profiling, name="profiling")


def option_path(given: str | Path) -> Path:
    """Return the path that an option gives; one that cannot be is a wrong option."""
    try:
        return below_home(given)
    except PathError as error:
        raise typer.BadParameter(str(error)) from None


PathOption = functools.partial(Option, parser=option_path)

# Options that several commands have.
Corpus = Annotated[str, Option(help="installed:NAME, path:DIR, git:URL[@rev] or zip:FILE")]
CausalLm = Annotated[str, Option(help="Track A's model: hub name, folder, gguf:FILE, package:NAME")]
ChatLm = Annotated[str, Option(help="Track B's model: hub name, folder, gguf:FILE, package:NAME")]
Embedder = Annotated[str, Option(help="Track C's model: hub name, folder, package:NAME")]
Nf4 = Annotated[bool, Option("--nf4", help="hold the causal LMs' frozen weights in 4 bits")]
Changes = Annotated[list[str] | None, Option("--set", help="one setting, e.g. track_a.epochs=1; repeatable")]
RunFolder = Annotated[Path | None, PathOption(help="a folder below runs/; by default the newest there")]
Workers = Annotated[int, Option(help="sandboxed processes side by side")]
Scale = Annotated[str, Option(help="full, half, small, smoke; auto: full with CUDA, else small")]
Out = Annotated[Path, PathOption(help="folder for exports/ and runs/")]


@app.command()
def run(
    profile: Annotated[str, Option(help="t4, cpu, laptop, smoke, or auto")] = "auto",
    corpus: Corpus = "",
    out: Annotated[Path, PathOption(help="folder for reports and runs/")] = Path("."),
    resume: Annotated[bool, Option("--resume", help="resume the last unfinished run")] = False,
    seed: Annotated[int | None, Option(help="seed of everything random")] = None,
    causal_lm: CausalLm = "",
    chat_lm: ChatLm = "",
    embedder: Embedder = "",
    nf4: Nf4 = False,
    keep: Annotated[str, Option(help="folder for a second copy of finished steps")] = "",
    changes: Changes = None,
    language: Annotated[
        str,
        Option(help="writes the prose of Track B's pairs: deterministic, chat[:MODEL], openai:MODEL[@URL]"),
    ] = "",
    benchmark: Annotated[
        list[Path] | None, PathOption(help="problem file that no pair may share code with; repeatable")
    ] = None,
) -> None:
    """Execute the notebook headless and publish metrics.json, data_card.md and the HTML export."""
    from helpers.profiles import RunRequest
    from helpers.report.headless_run import run_suite
    from helpers.tracks.request_check import check_request

    request = RunRequest(
        profile=profile, corpus=corpus, out=out, resume=resume, seed=seed, causal_lm=causal_lm,
        chat_lm=chat_lm, embedder=embedder, nf4=nf4, second_copy=keep, language=language,
        changed_settings=tuple(changes or ()), benchmarks=tuple(map(str, benchmark or ())),
    )  # fmt: skip
    check_request(request)
    run_suite(request)


@app.command()
def plan(
    profile: Annotated[str, Option(help="t4, cpu, laptop or smoke")] = "t4",
    causal_lm: CausalLm = "",
    chat_lm: ChatLm = "",
    embedder: Embedder = "",
    nf4: Nf4 = False,
    micro_batch: Annotated[int, Option(min=0, help="examples at once; 0 leaves it to the training")] = 0,
    here: Annotated[
        bool | None, Option("--here/--t4", help="the machine; by default a T4 for profile t4, else this one")
    ] = None,
    changes: Changes = None,
) -> None:
    """Print memory and time of every stage, computed from the models' shapes."""
    from helpers.plan import print_plan
    from helpers.profiles import RunRequest, resolve_profile

    request = RunRequest(
        profile, causal_lm=causal_lm, chat_lm=chat_lm, embedder=embedder, nf4=nf4,
        changed_settings=tuple(changes or ()),
    )  # fmt: skip
    chosen = resolve_profile(request)
    print_plan(chosen, here=chosen.name != "t4" if here is None else here, micro_batch=micro_batch or None)


@app.command()
def score(
    problems: Annotated[Path, PathOption(help="problems of a published form, see docs/scoring.md")],
    samples: Annotated[Path, PathOption(help="rows with task_id and completion or solution")],
    out: Annotated[Path, PathOption(help="results, one row per sample")],
    k: Annotated[str, Option(help="comma-separated k of pass@k")] = "1",
    workers: Workers = 2,
    timeout_s: Annotated[float, Option(help="seconds of processor time per program")] = 5.0,
) -> None:
    """Score samples by really running the problems' tests in the sandbox."""
    from helpers.tools.score import score_samples, summary_text

    try:
        ks = tuple(sorted({int(part) for part in k.split(",")}))
    except ValueError:
        raise typer.BadParameter(f"--k takes whole numbers such as 1,2,3, not {k!r}") from None
    print(summary_text(score_samples(problems, samples, ks, out, workers=workers, timeout_s=timeout_s)))
    print(f"\neach sample with its verdict: {out}")


@app.command("search")
def search_command(
    question: Annotated[str, typer.Argument(help='what the code should do, e.g. "find the shortest path"')],
    run: RunFolder = None,
    k: Annotated[int, Option(help="functions to show")] = 5,
    as_json: Annotated[bool, Option("--json", help="one JSON list instead of text")] = False,
) -> None:
    """Find functions of the run's code base by a question, with its tuned embedder."""
    from helpers.machine.hardware import detect_runtime
    from helpers.run.workspace import to_plain
    from helpers.tools.search import newest_run, print_hits, search_code

    hits = search_code(run or newest_run(Path("runs")), question, k, detect_runtime())
    if as_json:
        print(json.dumps(to_plain(hits), indent=2, ensure_ascii=False))
    else:
        print_hits(hits)


@app.command()
def complete(
    run: RunFolder = None,
    prompt: Annotated[str | None, Option(help="the code to continue")] = None,
    file: Annotated[Path | None, PathOption(help="continue this file instead")] = None,
    line: Annotated[int | None, Option(help="continue after this line; by default at the end")] = None,
    max_tokens: Annotated[int, Option(help="longest answer, in tokens")] = 64,
    temperature: Annotated[float, Option(help="0 takes the likeliest token each time")] = 0.0,
    seed: Annotated[int, Option(min=0, max=SEEDS[-1], help="seed of the sampling")] = 0,
    retrieve: Annotated[
        bool, Option("--retrieve", help="use the arm that the run's comparison says, retrieved code included")
    ] = False,
    arm: Annotated[
        str, Option(help="base, base+retrieved, adapted or adapted+retrieved; by default adapted")
    ] = "",
) -> None:
    """Continue code with the run's adapted language model; on a terminal, word by word."""
    from helpers.machine.hardware import detect_runtime
    from helpers.tools.complete import PromptSource, complete_code, newest_adapted_run, prompt_from
    from helpers.tools.retrieved_prompt import chosen_context

    if retrieve and arm:
        raise typer.BadParameter("--retrieve takes the arm that the run found best; give it or --arm")
    wanted = prompt_from(prompt, file, line)
    chosen = run or newest_adapted_run(Path("runs"))
    if retrieve:
        context = chosen_context(chosen)
        arm = context.arm
        print(f"arm: {arm}. {context.answer}", file=sys.stderr)
    sizes = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    complete_code(
        chosen, wanted, detect_runtime(), **sizes, source=PromptSource(arm or "adapted", file),
        on_text=lambda text: print(text, end="", flush=True),
    )  # fmt: skip
    print()


@app.command()
def completion(
    run: Annotated[Path, PathOption(help="the folder of a finished run, below runs/")],
    places: Annotated[int | None, Option(help="places in held-out files; by default the run's own")] = None,
    chat: Annotated[bool, Option("--chat", help="also Track B's model, before and after training")] = False,
) -> None:
    """Measure completion on held-out lines: untouched or adapted model, with or without retrieved code."""
    from helpers.machine.hardware import detect_runtime
    from helpers.tools.completion_run import FOLDER, completion_table, measure_run

    for line in completion_table(measure_run(run, detect_runtime(), count=places, chat=chat)):
        print(line)
    print(f"\nplaces, completions and figures: {run / FOLDER}")
    print(f"to have them in the run's reports: python -m helpers report --run {run}")


@app.command()
def serve(
    run: Annotated[Path, PathOption(help="the folder of a finished run, below runs/")],
    host: Annotated[
        str, Option(help="address to listen on; others than this machine's need a key")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="0 takes a free one")] = 8012,
    api_key: Annotated[str, Option(help="key that clients must send; or ADAPT_CODE_MODEL_API_KEY")] = "",
    retrieve: Annotated[
        bool, Option("--retrieve", help="put retrieved code in front of code prompts")
    ] = False,
    only: Annotated[list[str] | None, Option(help="model to serve, e.g. code-adapted; repeatable")] = None,
    slots: Annotated[int, Option(min=1, help="texts that a model writes at the same time")] = 16,
    queue: Annotated[int, Option(min=1, help="texts that may be unfinished at the same time")] = 64,
) -> None:
    """Serve a run's models, base and adapted, as an OpenAI-compatible API and for editor plugins."""
    from helpers.serving.http_server import ServeRequest, serve_run

    serve_run(ServeRequest(run, host, port, api_key, retrieve, tuple(only or ()), slots, queue))


@app.command()
def mcp(
    run: Annotated[Path, PathOption(help="the folder of a finished run, below runs/")],
    retrieve: Annotated[
        bool, Option("--retrieve", help="put retrieved code in front of code prompts")
    ] = False,
) -> None:
    """Offer search_code and complete_code to assistants, by the Model Context Protocol over stdio."""
    from helpers.serving.mcp_server import serve_tools

    serve_tools(run, retrieve=retrieve)


@app.command()
def ladder(
    profile: Annotated[str, Option(help="t4, cpu, laptop or smoke: where the rungs start from")] = "cpu",
    corpus: Corpus = "",
    causal_lm: CausalLm = "",
    tokens: Annotated[int, Option(help="training tokens per rung")] = 40_000,
    out: Out = Path("."),
) -> None:
    """Train Track A with one setting changed at a time, compared on validation; resumes where it stopped."""
    from helpers.machine.hardware import detect_runtime
    from helpers.profiles import RunRequest, resolve_profile
    from helpers.report.ladder_table import ladder_table
    from helpers.tools.track_a_ladder import run_track_a_ladder

    chosen = resolve_profile(RunRequest(profile, corpus=corpus, causal_lm=causal_lm))
    print(ladder_table(run_track_a_ladder(chosen, detect_runtime(), out, tokens=tokens)).to_string())


@app.command()
def verify(
    run: Annotated[Path, PathOption(help="a folder below runs/")],
    pairs: Annotated[bool, Option(help="execute Track B's pairs and tasks again")] = True,
    times: Annotated[int, Option(help="also run the tasks' references N times, under varied conditions")] = 0,
    workers: Workers = 2,
) -> None:
    """Recompute the figures and verdicts of a run from its per-item files, and execute its pairs again."""
    from helpers.report.metrics import recompute
    from helpers.tools.verify_pairs import verify_run

    problems = recompute(run)
    checked = verify_run(run, workers=workers, times=times) if pairs else None
    problems += checked.problems if checked else ()
    for line in problems:
        print(line)
    if problems:
        raise typer.Exit(1)
    print("every figure and verdict agrees with the per-item files")
    if checked:
        n_items = sum(checked.items.values())
        print(f"all {n_items} pairs and tasks of Track B hold, {checked.programs} programs run again")


@app.command()
def report(
    run: Annotated[Path, PathOption(help="the folder of a finished run, below runs/")],
) -> None:
    """Rebuild metrics.json, the data card and the HTML page from a run's folder, without any model."""
    from helpers.report.rebuild import rebuild_report

    for line in rebuild_report(run):
        print(line)


@app.command()
def export(
    run: Annotated[Path, PathOption(help="the folder of a finished run, below runs/")],
    to: Annotated[str, Option(help="hf, gguf, ollama or onnx-embedder")],
    track: Annotated[str, Option(help="a or b: whose adapter; by default a, if the run has it")] = "",
    kinds: Annotated[
        list[str] | None,
        Option("--type", help="gguf, ollama: f16, bf16, q8_0, q4_k_m; gguf also lora; repeatable"),
    ] = None,
    out: Annotated[
        Path | None, PathOption(help="folder to write; by default below the run's take_home/")
    ] = None,
    replace: Annotated[bool, Option("--replace", help="write anew what is already there")] = False,
) -> None:
    """Write an adapted model for other programs, and prove that it computes what was measured."""
    from helpers.machine.hardware import detect_runtime
    from helpers.take_home.export_run import ExportRequest, export_run

    request = ExportRequest(run, to, track.lower() or None, tuple(kinds or ("f16",)), out, replace)
    for line in export_run(request, detect_runtime()).lines:
        print(line)


@app.command()
def pretrain(
    data: Annotated[str, Option(help="hn, file:PATH, docstrings, or code for the base model")] = "docstrings",
    recipe: Annotated[str, Option(help="baseline, improved, ensemble; base for --data code")] = "baseline",
    scale: Scale = "auto",
    smoke: Annotated[bool, Option("--smoke", help="the same as --scale smoke")] = False,
    seed: Annotated[
        int, Option(min=0, max=SEEDS[-1], help="training seed; values other than 1337 require --spread")
    ] = 1337,
    spread: Annotated[bool, Option("--spread", help="allow another seed, marked in the result")] = False,
    resume: Annotated[
        bool, Option("--resume", help="resume the run that is there, or keep it if finished")
    ] = False,
    out: Annotated[Path, PathOption(help="runs/ is made in this folder")] = Path("."),
    steps: Annotated[int | None, Option(help="with --data code: steps, instead of the recipe's")] = None,
    processes: Annotated[int, Option(help="with --data code: processes that share each step")] = 1,
) -> None:
    """Train one recipe from random weights under the fixed-budget rules, and score it.

    With --data code: the embedded base model (recipes base, stretch); no rules, a report and a card.
    """
    from helpers.fixed_budget.commands import pretrain_titles

    if data == "code":
        if processes > 1:
            launch_again(processes)
        from helpers.base_model.training import train_base_model

        train_base_model("smoke" if smoke else recipe, out=out, resume=resume, steps=steps)
        return
    scale = "smoke" if smoke else scale
    pretrain_titles(data, recipe, scale, seed=seed, spread=spread, resume=resume, out=out)


@app.command()
def lab(
    data: Annotated[str, Option(help="hn, file:PATH or docstrings")] = "docstrings",
    scale: Scale = "auto",
    seeds: Annotated[str, Option(help="seeds of the improved recipe, 1337 first")] = "1337,1338,1339",
    ladder: Annotated[bool, Option("--ladder/--no-ladder", help="run every rung")] = True,
    resume: Annotated[bool, Option("--resume", help="keep finished runs, resume the others")] = False,
    jobs: Annotated[int, Option(help="runs side by side, if the GPU has room for several")] = 1,
    finished: Annotated[bool, Option("--finished", help="run nothing; report on the finished runs")] = False,
    out: Out = Path("."),
) -> None:
    """Execute the fixed-budget notebook headless: baseline, seeds, ladder, page and report."""
    from helpers.fixed_budget.commands import report_finished, run_lab

    if finished:
        report_finished(data=data, scale=scale, out=out)
        return
    run_lab(data=data, scale=scale, seeds=seeds, ladder=ladder, out=out, resume=resume, jobs=jobs)


@profiling.command("grade")
def profiling_grade(
    problem: Annotated[str, Option(help="a folder of labs/problems, e.g. numpy")],
    submission: Annotated[Path, PathOption(help="the script to grade")],
    as_json: Annotated[Path | None, PathOption("--json", help="file to write the whole grade to")] = None,
) -> None:
    """Grade one submission: speed-up with its interval, and every check; exit status 0 only if it passes."""
    from helpers.profiling_lab.grade_text import grade_lines
    from helpers.profiling_lab.grader import grade
    from helpers.run.workspace import check_writable, write_json

    if as_json:
        check_writable(as_json)
    found = grade(problem, submission)
    for line in grade_lines(found):
        print(line)
    if as_json:
        write_json(as_json, found.to_json())
    if not found.passed:
        raise typer.Exit(1)


@profiling.command("solve")
def profiling_solve(
    problem: Annotated[str, Option(help="a folder of labs/problems, e.g. torch")],
    model: Annotated[str, Option(help="the model's name at its provider")],
    out: Annotated[Path | None, PathOption(help="folder for results; by default a new one in runs/")] = None,
    runs: Annotated[int, Option(help="how often the model solves the problem")] = 10,
    concurrent: Annotated[int, Option(help="conversations side by side; scripts still run one by one")] = 1,
    provider: Annotated[
        str, Option(help="anthropic, openai (or alike), auto: by --base-url and keys")
    ] = "auto",
    base_url: Annotated[str, Option(help="address of the endpoint, e.g. http://localhost:8000/v1")] = "",
    max_tokens: Annotated[int, Option(help="of a run, input and output of all requests")] = 500_000,
    max_seconds: Annotated[float, Option(help="of a run, without grading")] = 1_800.0,
    max_turns: Annotated[int, Option(help="answers of the model in a run")] = 60,
    reply_tokens: Annotated[int, Option(help="of one answer")] = 8_192,
    script_seconds: Annotated[float, Option(help="of one script that the model runs")] = 120.0,
) -> None:
    """Let a language model solve a problem with tools, several times, and say how often it passed.

    Keys are read from ANTHROPIC_API_KEY and OPENAI_API_KEY. Slow script, card, and what the model writes and
    runs are sent to the provider; docs/profiling-agent.md says what else is and is not.
    """
    from helpers.profiling_lab.agent.solve_command import SolveRequest, solve_named_problem
    from helpers.profiling_lab.agent.solving import Limits

    limits = Limits(max_tokens, max_seconds, max_turns, reply_tokens, script_seconds)
    solve_named_problem(SolveRequest(problem, model, out, runs, concurrent, provider, base_url, limits))


@profiling.command("lab")
def profiling_lab(out: Out = Path(".")) -> None:
    """Execute the profiling lab's notebook headless, and write its page and its grades to exports/."""
    from helpers.profiling_lab.lab_run import run_profiling_lab

    run_profiling_lab(out)


@profiling.command("own-loops")
def profiling_own_loops(
    track: Annotated[list[str] | None, Option(help="A, B or C; repeat for several; by default all")] = None,
    out: Out = Path("."),
) -> None:
    """Time this suite's training of each track against plain library defaults, and score both results.

    Prints a line for each track, and writes exports/own_loops.json if all were compared. Exit status 0 only
    if ours is faster everywhere and no result is worse.
    """
    from helpers.profiling_lab.own_loops.compare_loops import compare_own_loops

    if not all(grade.verdict == "faster" for grade in compare_own_loops(out, track or ("A", "B", "C"))):
        raise typer.Exit(1)


@app.command()
def secrets(
    split: Annotated[str, Option(help="test, or tune or dev, to look at while changing rules")] = "test",
    seed: Annotated[int, Option(help="seed of the planted values")] = 17,
    n: Annotated[int, Option(min=1, help="planted secrets, and as many look-alikes")] = 2_400,
    show: Annotated[int, Option(min=0, help="mistakes to show of each kind; not of --split test")] = 0,
) -> None:
    """Measure the masking of secrets: recall and precision on planted secrets and look-alikes."""
    from helpers.eval.planted_secrets.secret_check import SPLITS, check_secrets, summary_lines

    if split not in SPLITS:
        raise typer.BadParameter(f"--split takes {' or '.join(SPLITS)}, not {split!r}")
    if show and split == "test":
        raise typer.BadParameter(
            "rules are tuned on --split tune and dev: whoever looks at mistakes on test spoils it"
        )
    for line in summary_lines(check_secrets(split, seed, n), show):
        print(line)


@app.command()
def compare(
    runs: Annotated[
        list[str], typer.Argument(help="metrics.json files or run folders, each NAME=FILE or FILE")
    ],
    out: Annotated[Path | None, PathOption(help="file to write the page to, as Markdown")] = None,
    html: Annotated[
        Path | None, PathOption(help="HTML page that also tests every run against the first, item by item")
    ] = None,
) -> None:
    """Lay the primary metrics of several runs side by side; --html tests what changed beyond noise."""
    from helpers.report.compare import comparison
    from helpers.run.workspace import check_writable, write_text

    for file in filter(None, (out, html)):
        check_writable(file)
    if html:
        from helpers.report.compare_page import compare_page

        write_text(html, compare_page(runs))

    page = comparison(runs)
    if out:
        write_text(out, page)
    print(page, end="")


def launch_again(processes: int) -> None:
    """Replace this process by the same command under torch's launcher, in `processes` processes."""
    given = iter(sys.argv[1:])
    arguments = []
    for word in given:
        if word == "--processes":
            next(given)  # its value, wherever else the same text is given
        elif not word.startswith("--processes="):
            arguments.append(word)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    os.execve(sys.executable, [sys.executable, *launcher, "-m", "helpers", *arguments], environment)


def main() -> None:
    """Run the command line; a `SuiteError` ends with one line, any other error with its traceback."""
    try:
        app()
    except SuiteError as error:
        said = str(error).strip() or told(error)
        print(f"error: {said}" if error.exit_status == 1 else said, file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("stopped; finished steps are kept, continue with --resume", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
