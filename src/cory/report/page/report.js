/** Fill the page with what its JSON says. */
function drawReport(report) {
  const main = document.getElementById("content");
  const figures = [];

  function drawSection(section) {
    const drawn = section.figures.map((figure) => {
      figures.push(drawFigure(report, figure, figures.length + 1));
      return figures.at(-1).drawn;
    });
    return frame(section.key, section.title, section.note, ...section.tables.map(drawTable), ...drawn);
  }

  const sections = report.sections.map(drawSection);
  if (report.answers.entries.length) sections.push(answersSection(report.answers));
  sections.push(...report.appendix.map(drawSection));
  main.replaceChildren(
    element("header", {},
      element("p", { class: "overline" }, `CORY · report of a ${report.kind}`),
      element("h1", {}, ...visible(report.title)),
      report.verdict ? element("p", { class: "verdict" }, ...visible(report.verdict)) : null,
      element("dl", { class: "facts" }, ...Object.entries(report.facts).map(([name, value]) =>
        element("div", {}, element("dt", {}, name), element("dd", {}, ...visible(value))))),
      element("nav", { "aria-label": "Sections" }, element("ul", {}, ...sections.map((section) =>
        element("li", {}, element("a", { href: `#${section.id}` }, section.querySelector("h2").textContent)))))),
    ...sections,
    element("footer", {}, `Written by cory ${report.version}. Plots by plotly.js (MIT licence). This page loads nothing from anywhere.`));

  const redraw = () => figures.forEach((figure) => figure.redraw());
  redraw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

function frame(key, title, note, ...children) {
  return element("section", { id: key, "aria-labelledby": `${key}-title` },
    element("h2", { id: `${key}-title` }, title),
    note ? element("p", { class: "lead" }, note) : null, ...children);
}

function answersSection(answers) {
  const all = answers.entries.length === answers.total && !answers.skipped;
  const kept = all ? `All ${answers.total} logged queries.`
    : `${answers.entries.length} of the ${answers.total} logged queries, as many as fit: the first ones of each logged iteration.`
      + (answers.skipped ? ` ${answers.skipped} more files of samples were not read.` : "");
  const marks = answers.entries.some((entry) => entry.turns.length > 1)
    ? element("p", { class: "lead" }, element("mark", {}, "Marked words"), " stand in an earlier answer to the same query, in a run of at least three words (without spaces: four characters).") : null;
  return frame("answers", "Answers", `${kept} Answers were given in training; the initial model got the plain query.`, marks, drawAnswers(answers));
}

drawReport(JSON.parse(document.getElementById("report").textContent));
