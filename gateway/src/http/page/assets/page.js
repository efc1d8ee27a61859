// What makes pages live. Every page works without it; here is what a form and a link can't do: counting times on, copying,
// asking in place, and taking over what changed. Its one contract with the markup is the data- attributes below.

const announce = (text) => { document.getElementById("announcements").textContent = text; };
const each = (root, selector, act) => root.querySelectorAll(selector).forEach(act);

// Times: "12 s ago", with the time itself when pointed at.

const relative = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

const tellTime = (element) => {
  const at = Date.parse(element.dateTime);
  if (Number.isNaN(at)) return;
  if (!element.title) element.title = element.textContent;
  const seconds = Math.round((at - Date.now()) / 1000);
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
  const text = Math.abs(seconds) < 2 ? "just now" : relative.format(Math.trunc(seconds / size), unit);
  if (element.textContent !== text) element.textContent = text;
};

const tellTimes = () => each(document, "time[datetime]", tellTime);

// Copying.

const copy = async (button) => {
  const element = document.getElementById(button.dataset.copy);
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    // Plain HTTP has no clipboard, and somebody may have said no: the text is selected, so that the keyboard can copy it.
    getSelection().selectAllChildren(element);
    said = "Selected: press Ctrl+C";
  }
  const label = button.firstChild;
  label.data = said;
  announce(said);
  setTimeout(() => { label.data = "Copy"; }, 3000);
};

// Confirmation: the page that asks, in a dialog. Where that fails, the link leads to the page itself.

const confirmInPlace = async (link) => {
  try {
    const answer = await fetch(link.href, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const question = answer.ok && page.querySelector("[data-confirmation]");
    if (!question) throw new Error("not a question");
    const dialog = document.createElement("dialog");
    dialog.append(document.adoptNode(question));
    dialog.setAttribute("aria-label", question.querySelector("h1, h2").textContent);
    dialog.addEventListener("close", () => { dialog.remove(); link.focus(); });
    each(dialog, "[data-cancel]", (cancel) => cancel.addEventListener("click", (event) => {
      event.preventDefault();
      dialog.close();
    }));
    document.body.append(dialog);
    enliven(dialog);
    dialog.showModal();
  } catch {
    location.assign(link.href);
  }
};

// Colours: kept in a cookie, so that the gateway sends the page in them and nothing flickers.

const chooseTheme = (button) => {
  const theme = button.value;
  const life = theme === "auto" ? 0 : 31536000;
  document.cookie = `tidegate-theme=${theme}; path=/; max-age=${life}; samesite=strict`;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  each(document, "[data-theme-switch] button", (other) => other.setAttribute("aria-pressed", other === button));
};

// A file of lines into a text field, where it can be looked over before it is sent.

const readFile = async (input) => {
  const [file] = input.files;
  if (!file) return;
  if (file.size > Number(input.dataset.most)) {
    announce("This file is too large");
    input.setCustomValidity("This file is too large.");
    input.reportValidity();
    return;
  }
  input.setCustomValidity("");
  document.getElementById(input.dataset.fills).value = await file.text();
};

// What changed: a stream of fragments, each with the id of the element whose place it takes.

let source;

const sayLink = (text) => {
  let element = document.querySelector(".link");
  if (!text) return void element?.remove();
  if (!element) {
    element = document.createElement("p");
    element.className = "link";
    element.setAttribute("role", "status");
    document.body.append(element);
  }
  if (element.textContent !== text) element.textContent = text;
};

const replace = (fresh) => {
  const old = document.getElementById(fresh.id);
  if (!old || fresh.outerHTML === old.dataset.markup) return;
  const markup = fresh.outerHTML;
  const known = old.dataset.markup !== undefined;
  const focused = old.contains(document.activeElement) ? document.activeElement.id : undefined;
  const open = [...old.querySelectorAll("details[open][id]")].map((details) => details.id);
  old.replaceWith(fresh);
  fresh.dataset.markup = markup;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus();
  if (known && !fresh.querySelector("time")) fresh.classList.add("fresh");
  enliven(fresh);
};

const follow = (path) => {
  source = new EventSource(path);
  source.addEventListener("open", () => sayLink());
  source.addEventListener("fragments", (event) => {
    const template = document.createElement("template");
    template.innerHTML = event.data;
    [...template.content.children].forEach(replace);
    tellTimes();
  });
  source.addEventListener("error", () => {
    sayLink(source.readyState === EventSource.CLOSED
      ? "No longer live. Reload the page to go on."
      : "Connection lost; trying again…");
  });
};

const live = document.querySelector("[data-live]");
if (live) {
  const path = live.dataset.live;
  follow(path);
  // A page that nobody sees needs no connection; it catches up when it is seen again.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && source.readyState === EventSource.CLOSED) follow(path);
    else if (document.hidden) { source.close(); sayLink(); }
  });
  addEventListener("pagehide", () => source.close());
}

// A log that goes on: lines of server-sent events, the last ones only.

const MOST_LINES = 5000;

const tail = (element) => {
  const lines = new EventSource(element.dataset.log);
  const isAtEnd = () => element.scrollTop + element.clientHeight >= element.scrollHeight - 8;
  lines.addEventListener("open", () => { element.replaceChildren(); sayLink(); });
  lines.addEventListener("log", (event) => {
    const { at, source, text } = JSON.parse(event.data);
    const follows = isAtEnd();
    const line = document.createElement("span");
    line.className = source;
    if (at) line.title = at;
    line.textContent = `${text}\n`;
    element.append(line);
    while (element.childElementCount > MOST_LINES) element.firstElementChild.remove();
    if (follows) element.scrollTop = element.scrollHeight;
  });
  lines.addEventListener("end", (event) => { lines.close(); sayLink(event.data); });
  lines.addEventListener("error", () => sayLink("Connection lost; trying again…"));
  addEventListener("pagehide", () => lines.close());
  element.scrollTop = element.scrollHeight;
};

each(document, "[data-log]", tail);

// Everything in `root` that waits for a script.

const enliven = (root) => {
  each(root, "[data-copy], [data-theme-switch], [data-scripted]", (element) => { element.hidden = false; });
  each(root, "time[datetime]", tellTime);
};

addEventListener("click", (event) => {
  const target = event.target.closest?.("[data-copy], [data-confirm], [data-theme-switch] button");
  if (!target) return;
  if (target.dataset.copy) copy(target);
  else if (target.dataset.confirm !== undefined) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    confirmInPlace(target);
  } else chooseTheme(target);
});

addEventListener("change", (event) => {
  if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
  else if (event.target.matches("[data-fills]")) readFile(event.target);
});

// "/" goes to the search, unless somebody is writing.
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input, textarea, select")) return;
  const field = document.querySelector(`[data-shortcut="${CSS.escape(event.key)}"]`);
  if (!field) return;
  event.preventDefault();
  field.focus();
  field.select();
});

// A form that was sent is not sent twice by a double click.
addEventListener("submit", (event) => {
  const button = event.submitter;
  if (event.defaultPrevented || !button || event.target.method !== "post") return;
  setTimeout(() => { button.disabled = true; });
  addEventListener("pageshow", () => { button.disabled = false; }, { once: true });
});

enliven(document);
setInterval(tellTimes, 1000);
