"""Mermaid diagrams in the chat panel: drawn where the front end draws them, and nothing is loaded for them."""

import pytest
from browser.panel_parts import OPEN, answers, ask
from playwright.sync_api import expect

from piano_jupyter.jupyter.render.markdown_html import render
from piano_jupyter.testing import ServerReply

SOON = 30_000  # ms: the front end loads the library that draws
#: diagrams for which the front end's own Markdown loads `/tracked` while it draws, which it does in the page
LOADING = [
    'graph TD; A["<img src=/tracked>"] --> B',
    "graph TD; A[\"<img src='/tracked' onerror='window.pwned = 1'>\"] --> B",
    "graph TD; A[\"<b style='background: url(/tracked)'>b</b>\"] --> B",
    'graph TD; A["<im%%{init: {}}%%g src=/tracked>"] --> B',
    'graph TD\n  A@{ img: "/tracked", label: "a" } --> B',
    'graph TD\n  A@{ "\\u0069mg": "/tracked", label: "a" } --> B',
    'sequenceDiagram\n  participant a\n  properties a: {"class": "internal", "icon": "/tracked"}\n  a->>a: x',
    '%%{init: {"themeCSS": ".node { background: url(/tracked) }"}}%%\ngraph TD; A --> B',
]
#: more ways to write the same, which load nothing today, or not each time
SUSPECT = [
    '%%{init: {"themeCSS": ".node { background: u\\\\72l(/tracked) }"}}%%\ngraph TD; A --> B',
    "---\nconfig:\n  themeCSS: '@import \"/tracked\";'\n---\ngraph TD; A --> B",
    "graph TD\n  A --> B\n  style A background:url(/tracked)",
    "graph TD\n  A --> B\n  classDef c background:url(/tracked)\n  class A c",
    "classDiagram\n  class A {\n    +f List~img src='/tracked'~\n  }",
    'graph TD; A["#lt;img src=/tracked#gt;"] --> B',
    'graph TD; A["&amp;lt;img src=/tracked&amp;gt;"] --> B',
]
DRAWN = [
    "graph LR\n  A[Raw data\\nof 2026] -->|x < 5| B(cleaned) --> C{good?}\n  C -- a = 1 --> D[<b>bold</b><br/>line]",
    'graph TD; A["<script>window.pwned = 1</script>"] --> B',
    'sequenceDiagram\n  actor Ada\n  Ada->>Bob: p <- 0.05, q = 3\n  Bob-->>Ada: "quoted"',
    "classDiagram\n  class Frame~T~ {\n    <<interface>>\n    +url() str\n    +rows List~int~\n  }\n  Frame <|-- Sales",
    "erDiagram\n  CUSTOMER ||--o{ ORDER : places",
    'pie title Pets\n  "Dogs" : 386\n  "Cats" : 85',
    "%%{init: {'theme': 'forest'}}%%\nstateDiagram-v2\n  [*] --> Still\n  Still --> [*]",
    "gantt\n  title Plan\n  dateFormat YYYY-MM-DD\n  section A\n  Task :a1, 2026-01-01, 30d",
]


DRAW = """([path, text]) => {
    const renderer = panels[path].content.rendermime.createRenderer('text/markdown');
    return renderer.renderModel({data: {'text/markdown': text}, metadata: {}, trusted: false, setData() {}});
}"""


def fenced(texts):
    return "\n\n".join(f"```mermaid\n{text}\n```" for text in texts)


@pytest.fixture(autouse=True)
def names_languages():
    if "language-mermaid" not in render(fenced("x")):
        pytest.skip("the renderer does not name the language of code")


def is_tracked(address):
    return "tracked" in address


def opened(notebook_in_each):
    nb = notebook_in_each([OPEN])
    nb.run(0)
    loaded = []
    nb.page.on("request", lambda request: loaded.append(request.url))
    return nb, loaded


def test_q3_a_diagram_is_an_image_in_which_nothing_runs_and_what_is_no_diagram_stays_code(notebook_in_each, stub_model):
    leaves = "````mermaid\nno diagram\n```\n![](/tracked.png)\n````"
    other = "```mermaid\nno diagram\n```"
    text = "\n\n".join([other, leaves, fenced(DRAWN)])
    stub_model.says(ServerReply(text, pieces=[text[:-1], text[-1]], held=True))
    nb, loaded = opened(notebook_in_each)

    ask(nb, "Draw it.")
    expect(answers(nb, "writing").locator("pre")).to_have_count(2 + len(DRAWN))
    stub_model.release.set()

    drawn = nb.panel.locator("img.piano-diagram")
    expect(drawn).to_have_count(len(DRAWN), timeout=SOON)
    assert all(each.get_attribute("src").startswith("data:image/svg+xml") for each in drawn.all())
    expect(nb.panel.locator("img")).to_have_count(len(DRAWN))
    expect(nb.panel.locator("pre")).to_have_count(2 + len(DRAWN))
    nb.shot(f"diagrams_{nb.front_end}")
    assert not any(map(is_tracked, loaded))
    assert nb.page.evaluate("window.pwned") is None


def test_q4_a_diagram_for_which_something_would_be_loaded_stays_code(notebook_in_each, stub_model):
    stub_model.says(fenced([*LOADING, *SUSPECT, DRAWN[0]]))
    nb, loaded = opened(notebook_in_each)

    ask(nb, "Draw it.")

    expect(nb.panel.locator("img.piano-diagram")).to_have_count(1, timeout=SOON)
    expect(nb.panel.locator("pre")).to_have_count(len(LOADING) + len(SUSPECT) + 1)
    assert not any(map(is_tracked, loaded))
    for number, each in enumerate(LOADING):  # they are what they are taken for
        own = f"tracked{number}"  # what is being loaded already is not asked for again
        nb.page.evaluate(DRAW, [nb.path, fenced([each.replace("tracked", own)])])
        nb.until(lambda own=own: any(own in address for address in loaded))
