// The container that JupyterLab loads: it calls init(shareScope), then get("./extension") for the plugins.
//
// There is no build: each plugin is a module of its own, and takes what it shares with the front end from the scope. The
// version in the address of this file goes into the addresses of the modules, so that no browser mixes two versions.
(() => {
  const PLUGINS = ["cells", "dock", "errors", "answers", "transcripts", "proposals", "notebooks"];
  const { src } = document.currentScript;
  let scope;

  const address = (file) => Object.assign(new URL(file, src), { search: new URL(src).search }).href;
  const byVersion = (a, b) => a.localeCompare(b, undefined, { numeric: true });

  // a module of the front end: the version that runs, else the newest
  async function shared(name) {
    const versions = scope[name] ?? {};
    const known = Object.keys(versions).toSorted(byVersion);
    const version = known.findLast((each) => versions[each].loaded) ?? known.at(-1);
    if (version === undefined) throw new Error(`Piano: this front end does not share ${name}`);
    return (await versions[version].get())();
  }

  async function plugins() {
    const made = await Promise.all(PLUGINS.map((name) => import(address(`${name}.js`))));
    const renewed = await import(address("renewed.js")); // which the page of the chat panel has, too
    return Promise.all(made.map((each) => each.default(shared, renewed)));
  }

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB["piano-jupyter"] = {
    init(given) {
      scope = given;
    },
    async get(module) {
      if (module !== "./extension") throw new Error(`Piano: there is no module ${module}`);
      document.head.append(
        Object.assign(document.createElement("link"), { rel: "stylesheet", href: address("piano.css") }),
      );
      const all = await plugins();
      return () => ({ __esModule: true, default: all });
    },
  };
})();
