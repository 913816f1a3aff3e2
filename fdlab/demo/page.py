"""The page: what can be set on the left, the picture on the right, below it how it came about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from fdlab.demo import choices, markup
from fdlab.demo.drawing import Drawn, Painter
from fdlab.demo.examples import Example
from fdlab.demo.guard import OwnPageOnly, names_of
from fdlab.demo.recipe import Models, Recipe, ask
from fdlab.errors import UserError

CSS = Path(__file__).with_name("page.css")
SYSTEM = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")
SMALL = 256
"""Pictures up to this many pixels a side are shown by their pixels, larger ones smoothly."""
INTRODUCTION = """# fdlab: given people in new scenes
Two models draw together: the **TDM** makes the scene from the text, the **SDM** the people from their photos;
where each of them draws is decided place by place, at every step. Everything is computed on this machine."""
FAILED = "drawing failed; what happened is printed where fdlab demo was started."
MARKERS = "Write <|image|> right behind the words of each person: the first marker is the first photo."


class Page:
    """The page of one painter; each browser has its own stop button."""

    def __init__(self, painter: Painter, models: Models, examples: Sequence[Example]) -> None:
        self.painter, self.models, self.examples = painter, models, examples
        self.own = {path.name: path for example in examples for path in example.photos}
        self.stops: dict[str, Event] = {}

    def build(self) -> gr.Blocks:
        """Lay the page out and connect it."""
        # Drawings and uploads are kept while the page is open for long, not for ever.
        with gr.Blocks(title="fdlab", analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as blocks:
            gr.Markdown(INTRODUCTION)
            with gr.Row():
                with gr.Column(min_width=400):
                    self._people()
                    self._sampler()
                with gr.Column(min_width=400):
                    self._result()
            with gr.Tabs():
                with gr.Tab("Who drew what"):
                    self.figure = gr.HTML('<p class="note">The steps will be here.</p>', elem_id="figure")
                with gr.Tab("The same picture again"):
                    self._recipes()
            self._connect(blocks)
        return blocks

    def _people(self) -> None:
        first = self.examples[0]
        self.photos = gr.Gallery(
            [str(path) for path in first.photos],
            label=f"Photos: 1 to {choices.MAX_PHOTOS} people",
            file_types=["image"],
            columns=choices.MAX_PHOTOS,
            fit_columns=False,
            height=180,
            object_fit="cover",
            interactive=True,
            buttons=[],
            elem_id="photos",
        )
        self.prompt = gr.Textbox(first.prompt, label="Prompt", info=MARKERS, lines=2, elem_id="prompt")
        gr.Examples(
            [[[str(path) for path in example.photos], example.prompt] for example in self.examples],
            [self.photos, self.prompt],
            label="Examples: click one; rendered people, whom no training has seen",
            elem_id="examples",
        )

    def _sampler(self) -> None:
        offered = choices.offered()
        first = next(iter(offered))
        settings, shares = choices.defaults(first), choices.shares(first)
        self.guider = gr.Dropdown(
            [(f"{name}: {what}", name) for name, what in offered.items()],
            value=first,
            label="Guider",
            info="How two models become one.",
            filterable=False,
            elem_id="guider",
        )
        with gr.Row():
            self.shares = {
                name: gr.Slider(
                    0,
                    1,
                    shares.get(name, 0.5),
                    step=0.05,
                    label=name.replace("_", " "),
                    info=choices.sliders(first).get(name),
                    min_width=150,
                    visible=name in shares,
                    elem_id=name,
                )
                for name in choices.all_sliders()
            }
        with gr.Row():
            self.steps = gr.Slider(
                1, 100, settings.num_steps, step=1, label="Steps", min_width=150, elem_id="steps"
            )
            self.scale = gr.Slider(
                1,
                15,
                settings.guidance_scale,
                step=0.5,
                label="Guidance scale",
                min_width=150,
                elem_id="scale",
            )
        with gr.Row():
            self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=150, elem_id="seed")
            self.shown = gr.Slider(
                2, 16, 8, step=1, label="Steps shown below", min_width=150, elem_id="shown"
            )

    def _result(self) -> None:
        with gr.Row():
            self.go = gr.Button("Draw", variant="primary", elem_id="go")
            self.halt = gr.Button("Stop", interactive=False, elem_id="halt")
        self.status = gr.HTML(markup.idle(), elem_id="status")
        self.picture = gr.Image(
            label="Picture",
            format="png",
            type="pil",
            interactive=False,
            height=514,
            buttons=["download", "fullscreen"],
            elem_id="picture",
            elem_classes=["pixels"] if self.painter.size <= SMALL else [],
        )
        self.faces = gr.HTML(elem_id="faces")

    def _recipes(self) -> None:
        gr.HTML(markup.note("Of an upload only the name is known: put its folder in front."))
        shown: dict[str, Any] = {"interactive": False, "wrap_lines": True, "lines": 1}
        self.command = gr.Code(label="Command line", language="shell", elem_id="command", **shown)
        with gr.Row():
            self.python = gr.Code(label="Python", language="python", min_width=400, elem_id="python", **shown)
            self.json = gr.Code(label="JSON", language="json", min_width=400, elem_id="json", **shown)

    def _connect(self, blocks: gr.Blocks) -> None:
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        inputs = [self.photos, self.prompt, self.guider, self.steps, self.scale, self.seed, self.shown]
        inputs += self.shares.values()
        results = [self.status, self.faces, self.picture, self.figure, self.command, self.python, self.json]
        buttons = [self.go, self.halt]
        pressed = gr.on(
            [self.go.click, self.prompt.submit], self.begin, None, [self.status, *buttons], **quick
        )
        drawing = pressed.then(
            self.draw,
            inputs,
            results,
            # The pipeline has a state: whoever comes second waits.
            concurrency_limit=1,
            show_progress="hidden",
            api_visibility="private",
        )
        drawing.failure(lambda: markup.refusal(FAILED), None, self.status, **quick)
        drawing.then(self.end, None, buttons, **quick)
        self.halt.click(self.stop, None, None, **quick)
        self.guider.change(self.offer, self.guider, list(self.shares.values()), **quick)
        blocks.unload(self.stop)

    def offer(self, guider: str) -> list[Any]:
        """Show the sliders of a guider, at its own values."""
        own, said = choices.shares(guider), choices.sliders(guider)
        return [
            gr.Slider(value=own[name], info=said[name], visible=True)
            if name in own
            else gr.Slider(visible=False)
            for name in self.shares
        ]

    def begin(self, request: gr.Request) -> list[Any]:
        """A press of the button, which may have to wait for its turn."""
        self.stops[request.session_hash or ""] = Event()
        return [markup.waiting(), gr.Button(interactive=False), gr.Button(interactive=True)]

    def end(self, request: gr.Request) -> list[Any]:
        """The buttons as they were."""
        self.stops.pop(request.session_hash or "", None)
        return [gr.Button(interactive=True), gr.Button(interactive=False)]

    def stop(self, request: gr.Request) -> None:
        """End this browser's drawing after the current step."""
        if (event := self.stops.get(request.session_hash or "")) is not None:
            event.set()

    def draw(
        self,
        request: gr.Request,
        photos: list[tuple[str, Any]] | None,
        prompt: str,
        guider: str,
        steps: int,
        scale: float,
        seed: int | None,
        shown: int,
        *shares: float,
    ) -> Iterator[dict[Any, Any]]:
        """Draw, telling the page what happens; what does not fit is said in one line."""
        stop = self.stops.get(request.session_hash or "", Event())
        paths = [path for path, _ in photos or ()]
        try:
            given = dict(zip(self.shares, shares, strict=True))
            named = [self._named(path) for path in paths]
            recipe = ask(prompt, named, guider, given, steps, scale, seed, self.models)
            recipe = replace(recipe, head=self.painter.head)
            faces = self.painter.faces(paths[: len(recipe.photos)])
            yield {self.faces: markup.faces(faces, guider)}
            for news in self.painter.draw(recipe, faces, stop, int(shown)):
                yield self._ended(recipe, news) if isinstance(news, Drawn) else self._going(news)
        except UserError as error:
            yield {self.status: markup.refusal(str(error))}

    def _named(self, path: str) -> str:
        """A photo as one would type it; of an upload, only the name is known."""
        name = Path(path).name
        own = self.own.get(name)
        return str(own) if own and own.read_bytes() == Path(path).read_bytes() else name

    def _going(self, step: Any) -> dict[Any, Any]:
        preview = {} if step.preview is None else {self.picture: step.preview}
        return {self.status: markup.progress(step), **preview}

    def _ended(self, recipe: Recipe, drawn: Drawn) -> dict[Any, Any]:
        recipes = (recipe.command, recipe.script(self.painter.artist.pipeline.device.type), recipe.as_json)
        if drawn.stopped_at is not None:
            # They would give the whole picture.
            recipes = ("", "", "")
        return {
            self.status: markup.finished(drawn),
            self.picture: drawn.picture,
            self.figure: markup.figure(drawn.steps, recipe.sampler),
            **dict(zip((self.command, self.python, self.json), recipes, strict=True)),
        }


def launch(blocks: gr.Blocks, host: str, port: int, allowed: Path, open_browser: bool) -> str:
    """Serve the page from a thread; returns its address. Browsers fetch nothing from elsewhere."""
    guard = Middleware(OwnPageOnly, names=names_of(host))
    theme = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=SYSTEM, font_mono=MONOSPACE)
    _, address, _ = blocks.queue(default_concurrency_limit=1).launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inbrowser=open_browser,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        max_file_size="32mb",
        app_kwargs={"middleware": [guard]},
        allowed_paths=[str(allowed)],
        theme=theme,
        css_paths=CSS,
    )
    return address
