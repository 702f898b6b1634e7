// Cells that begin with %%piano: their text is Markdown, or SQL after `sql`; their first line is a command.
//
// The type of the cell stays as it is: only the editor gets another language, at the keystroke that makes the cell one of
// Piano's. In a question, what stands in {{…}} is marked.
const START = /^\s*%%piano(?: +(sql)\b| |\n|$)/;
const MAX_HEAD_CHARS = 2000; // what is read of a cell to see what it is
const TOKENS = /%%piano|(?<=%%piano +)(?:agent|ask|edit|send|sql)\b|@[\w.-]+|--?[A-Za-z][\w-]*|"[^"\n]*"|'[^'\n]*'/g;
const PLACEHOLDER = /(?<!\{)(\{{2,})(?:(?!\{\{|\}\}).)*(\}{2,})/g;
const ESCAPED_BRACES = 4; // {{{{name}}}} is the text {{name}}
const MIME_TYPES = { markdown: "text/x-ipythongfm", sql: "text/x-sql" };

// which language a text is in, "" for a cell that is not Piano's, and where its first line begins and ends
function readHead(text) {
  const found = START.exec(text);
  if (!found) return { language: "" };
  const from = text.indexOf("%%piano");
  const end = text.indexOf("\n", from);
  return { language: found[1] ?? "markdown", from, to: end < 0 ? text.length : end };
}

const languageOf = (doc) => readHead(doc.sliceString(0, MAX_HEAD_CHARS)).language;

// return a function that makes the parser of a cell from the one of its text
function parsers({ NodeType, Parser, Tree }, { styleTags, tags }) {
  const type = (name, style) =>
    NodeType.define({ id: 0, name, top: !style, props: style ? [styleTags({ [name]: style })] : [] });
  const cell = type("PianoCell");
  const types = {
    "%": type("PianoMagic", tags.keyword),
    "@": type("PianoAgent", tags.labelName),
    "-": type("PianoOption", tags.attributeName),
    '"': type("PianoQuoted", tags.string),
    "'": type("PianoQuoted", tags.string),
  };
  const command = type("PianoCommand", tags.atom);

  class Running {
    constructor(head, line, body, start) {
      const tokens = [...line.matchAll(TOKENS)];
      this.children = tokens.map(([text]) => new Tree(types[text[0]] ?? command, [], [], text.length));
      this.positions = tokens.map(({ index }) => head.from + index);
      Object.assign(this, { body, start });
    }
    get parsedPos() {
      return this.body.parsedPos;
    }
    get stoppedAt() {
      return this.body.stoppedAt;
    }
    stopAt(position) {
      this.body.stopAt(Math.max(position, this.start));
    }
    advance() {
      const text = this.body.advance();
      return (
        text && new Tree(cell, [...this.children, text], [...this.positions, this.start], this.start + text.length)
      );
    }
  }

  return class extends Parser {
    constructor(text) {
      super();
      this.text = text;
    }
    createParse(input) {
      const written = input.read(0, Math.min(input.length, MAX_HEAD_CHARS));
      const head = readHead(written);
      const start = Math.min(head.to + 1, input.length);
      const body = this.text.startParse(input, [], [{ from: start, to: input.length }]);
      return new Running(head, written.slice(head.from, head.to), body, start);
    }
  };
}

export default async (shared) => {
  const { IEditorExtensionRegistry, IEditorLanguageRegistry, EditorExtensionRegistry } =
    await shared("@jupyterlab/codemirror");
  const { Compartment, EditorState, Prec } = await shared("@codemirror/state");
  const { Decoration, EditorView, MatchDecorator, ViewPlugin } = await shared("@codemirror/view");
  const { Language } = await shared("@codemirror/language");
  const CellParser = parsers(await shared("@lezer/common"), await shared("@lezer/highlight"));

  const mark = Decoration.mark({ class: "piano-placeholder" });
  const matches = new MatchDecorator({
    regexp: PLACEHOLDER,
    decoration: ([, before, after]) => (Math.min(before.length, after.length) < ESCAPED_BRACES ? mark : null),
  });
  const placeholders = ViewPlugin.define(
    (view) => ({
      decorations: matches.createDeco(view),
      update(change) {
        this.decorations = matches.updateDeco(change, this.decorations);
      },
    }),
    { decorations: (plugin) => plugin.decorations },
  );

  // what an editor needs for each of the two languages
  async function extensions(languages) {
    const made = await Promise.all(
      Object.entries(MIME_TYPES).map(async ([name, mime]) => {
        const { language, support } = (await languages.getLanguage(mime)).support;
        const parsed = new Language(language.data, new CellParser(language.parser), [], `piano-${name}`);
        return [name, Prec.highest([parsed.extension, support])];
      }),
    );
    const found = Object.fromEntries(made);
    return { "": [], sql: found.sql, markdown: [found.markdown, placeholders, EditorView.lineWrapping] };
  }

  return {
    id: "piano-jupyter:cells",
    description: "Shows the cells of %%piano as Markdown or SQL.",
    autoStart: true,
    requires: [IEditorExtensionRegistry, IEditorLanguageRegistry],
    activate: async (_, registry, languages) => {
      const inEditor = await extensions(languages);
      registry.addExtension({
        name: "piano-jupyter:cells",
        factory: ({ model, inline }) => {
          if (!inline || model.type !== "code") return null; // a file, or a cell of Markdown
          const place = new Compartment();
          const follow = EditorState.transactionExtender.of(({ docChanged, newDoc, startState }) => {
            const language = docChanged ? languageOf(newDoc) : "";
            if (!docChanged || language === languageOf(startState.doc)) return null;
            return { effects: place.reconfigure(inEditor[language]) };
          });
          const { language } = readHead(model.sharedModel.getSource().slice(0, MAX_HEAD_CHARS));
          return EditorExtensionRegistry.createImmutableExtension([follow, place.of(inEditor[language])]);
        },
      });
    },
  };
};
