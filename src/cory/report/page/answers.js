const PER_PAGE = 20;

/** The browser of answers: search, filters, order, pages. */
function drawAnswers(answers) {
  const roles = [...new Set(answers.entries.flatMap((entry) => entry.turns.map((turn) => turn.role)))];
  const hasTeam = roles.length > 1;
  const state = { text: "", run: "", step: "", role: roles.at(-1), from: null, to: null, onlyBetter: false, order: "step", direction: -1, page: 0 };
  const orders = sortKeys(roles, hasTeam);
  const count = element("span", { role: "status" });
  const list = element("div");
  const previous = element("button", { type: "button", class: "plain", onclick: () => turnPage(-1) }, "Previous");
  const next = element("button", { type: "button", class: "plain", onclick: () => turnPage(1) }, "Next");

  function turnPage(by) {
    state.page += by;
    redraw();
    list.scrollIntoView({ block: "start" });
  }

  function change(name) {
    return (value) => {
      state[name] = value;
      state.page = 0;
      redraw();
    };
  }

  function redraw() {
    const found = answers.entries.filter((entry) => passes(entry, state));
    const key = orders.get(state.order).of;
    found.sort((left, right) => compare(key(left), key(right), state.direction) || left.step - right.step || left.index - right.index);
    const first = state.page * PER_PAGE;
    const shown = found.slice(first, first + PER_PAGE);
    list.replaceChildren(...shown.map((entry) => drawEntry(entry, answers)));
    const range = shown.length ? `${first + 1}–${first + shown.length} of ` : "";
    count.textContent = `${range}${found.length} queries` + (found.length < answers.entries.length ? `, filtered from ${answers.entries.length}` : "");
    previous.disabled = state.page === 0;
    next.disabled = first + PER_PAGE >= found.length;
  }

  const tools = answerControls(answers, roles, hasTeam, state, orders, change);
  redraw();
  return element("div", { class: "browser" }, tools,
    element("div", { class: "status" }, count, element("span", {}, previous, " ", next)), list);
}

function answerControls(answers, roles, hasTeam, state, orders, change) {
  const steps = [...new Set(answers.entries.map((entry) => entry.step))].sort((a, b) => a - b);
  const number = (label, name) => element("label", {}, element("span", { class: "name" }, label),
    element("input", {
      type: "number", step: "any", "aria-label": `reward ${label}`,
      oninput: (event) => change(name)(event.target.value === "" ? null : Number(event.target.value)),
    }));
  const direction = element("button", {
    type: "button", class: "plain",
    onclick: () => {
      change("direction")(-state.direction);
      direction.textContent = state.direction < 0 ? "highest first" : "lowest first";
    },
  }, "highest first");
  return element("div", { class: "controls" },
    element("label", {}, element("span", { class: "name" }, "search"),
      element("input", { type: "search", placeholder: "in queries and answers", oninput: (event) => change("text")(event.target.value.toLowerCase()) })),
    answers.runs.length > 1
      ? selection("run", [["", "all"], ...answers.runs.map((name, index) => [String(index), name])], change("run")) : null,
    selection("iteration", [["", "all"], ...steps.map((step) => [String(step), String(step)])], change("step")),
    element("fieldset", {}, element("legend", {}, "reward of"),
      hasTeam ? roleSelection(roles, state, change) : element("span", {}, roles[0]), number("from", "from"), number("to", "to")),
    hasTeam ? element("label", {}, element("input", { type: "checkbox", onchange: (event) => change("onlyBetter")(event.target.checked) }), "observer better than pioneer") : null,
    selection("sort by", [...orders].map(([key, { label }]) => [key, label]), change("order")), direction);
}

function roleSelection(roles, state, change) {
  const select = element("select", { "aria-label": "reward of", onchange: () => change("role")(select.value) });
  for (const role of roles) select.append(element("option", { value: role, selected: role === state.role }, role));
  return select;
}

function turnOf(entry, role) {
  return entry.turns.find((turn) => turn.role === role);
}

/** What entries can be sorted by. */
function sortKeys(roles, hasTeam) {
  const keys = new Map([["step", { label: "iteration", of: (entry) => entry.step }]]);
  for (const role of roles) {
    keys.set(`reward-${role}`, { label: `${role}'s reward`, of: (entry) => turnOf(entry, role)?.reward });
    keys.set(`kl-${role}`, { label: `${role}'s KL`, of: (entry) => turnOf(entry, role)?.kl });
  }
  keys.set("initial", { label: "initial model's reward", of: (entry) => entry.initial[0]?.reward });
  if (hasTeam) {
    keys.set("lift", { label: "observer's lift", of: (entry) => entry.turns.length > 1 ? entry.lift : null });
    keys.set("copied", { label: "copied share", of: (entry) => entry.turns.at(-1).copied });
  }
  return keys;
}

function passes(entry, state) {
  const reward = turnOf(entry, state.role)?.reward;
  if (state.run !== "" && entry.run !== Number(state.run)) return false;
  if (state.step !== "" && entry.step !== Number(state.step)) return false;
  if (state.from !== null && !(reward >= state.from)) return false;
  if (state.to !== null && !(reward <= state.to)) return false;
  if (state.onlyBetter && !(entry.turns.length > 1 && entry.lift > 0)) return false;
  return state.text === "" || searched(entry).includes(state.text);
}

/** All texts of an entry, in lower case; made once. */
function searched(entry) {
  entry.searched ??= [
    entry.query, ...entry.initial.map((answer) => answer.text), ...entry.turns.map((turn) => turn.pieces.join("")),
  ].join("\n").toLowerCase();
  return entry.searched;
}

function drawEntry(entry, answers) {
  const where = [`iteration ${entry.step}`, `query ${entry.index + 1}`];
  if (answers.runs.length > 1) where.unshift(answers.runs[entry.run]);
  const team = entry.turns.length > 1;
  return element("article", {},
    element("header", {}, element("span", {}, ...where.flatMap((part, index) => [index ? " · " : "", element("bdi", {}, part)])),
      team ? element("span", {}, "lift ", element("span", { class: entry.lift > 0 ? "better" : entry.lift < 0 ? "worse" : null }, signed(entry.lift)),
        ` · copied ${Math.round(100 * entry.turns.at(-1).copied)}%`) : null),
    element("h3", {}, element("p", { class: "query said", dir: "auto" }, ...visible(entry.query))),
    element("div", { class: "answers" },
      ...entry.initial.map((answer) => drawAnswer("initial model", [answer.text], `reward ${decimals(answer.reward)}`)),
      ...entry.turns.map((turn) => drawAnswer(`${turn.role} · ${turn.agent}`, turn.pieces, `reward ${decimals(turn.reward)} · KL ${decimals(turn.kl)}`))));
}

/** One answer; every second piece of it is copied. */
function drawAnswer(who, pieces, numbers) {
  const text = pieces.flatMap((piece, index) => {
    if (piece === "") return [];
    // The space between the query and an answer that goes on from it would only indent the answer.
    const said = index === 0 ? piece.replace(/^ /, "") : piece;
    return index % 2 ? [element("mark", {}, ...visible(said))] : visible(said);
  });
  return element("div", { class: "answer" },
    element("p", { class: "who", dir: "auto" }, who),
    element("p", { class: "said", dir: "auto" }, ...text),
    element("p", { class: "numbers" }, numbers));
}
