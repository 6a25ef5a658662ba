const ALL = "*";
const MARKED_POINTS = 40; // Longer curves are drawn without a mark at each point.
const SHAPES = ["circle", "square", "diamond", "triangle-up", "x", "cross", "star"]; // By colour.
const LANE = 0.07; // Height of one row of a timeline, as a share of the panel's.

/** A colour of the palette; its black is the page's ink, so that it can be seen on a dark page. */
function paletteColour(report, index) {
  const colour = report.palette[index % report.palette.length];
  return colour === "#000000" ? pageColour("--ink") : colour;
}

function pageColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** plotly reads some HTML and templates in names, and draws them where nothing isolates them. */
function plainName(text) {
  return printable(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/%\{/g, "%&#123;");
}

/** A figure with its switches, its legend and its panels. */
function drawFigure(report, figure, number) {
  const state = { axis: figure.axes[0].key, hidden: new Set(), choice: {} };
  for (const each of figure.switches) state.choice[each.key] = Object.keys(each.options)[0];
  const plots = figure.panels.map((panel) =>
    element("div", { role: "img", "aria-label": `${figure.title} ${panel.label}` }));
  const legend = element("div", { class: "legend" });

  const shown = (curve) => shownName(figure, curve, state.choice);

  function redraw() {
    const chosen = figure.panels.map((panel) => panel.curves.filter((curve) => isChosen(curve, state.choice)));
    const byName = new Map(chosen.flat().map((curve) => [shown(curve), curve]));
    legend.replaceChildren(...legendEntries(report, figure, byName, state, redraw));
    plots.forEach((plot, index) => {
      const curves = chosen[index].filter((curve) => !state.hidden.has(shown(curve)));
      const axis = figure.axes.find((each) => each.key === state.axis);
      Plotly.react(plot,
        curves.flatMap((curve) => traces(report, curve, shown(curve), state.axis, figure.marks_end)),
        layout(report, figure, figure.panels[index], axis, curves.length === 0),
        { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "resetScale2d"]] });
    });
  }

  const drawn = element("figure", { id: `figure-${figure.key}` },
    controls(figure, state, redraw), legend,
    element("div", { class: `panels of-${plots.length}` }, ...plots),
    element("figcaption", {}, element("b", {}, `Figure ${number}. ${figure.title}`), ` ${figure.note}`));
  return { drawn, redraw };
}

function isChosen(curve, choice) {
  return Object.entries(curve.choice).every(([key, value]) =>
    [undefined, ALL, value].includes(choice[key]));
}

/** The name of a curve, with what tells it from others where a switch stands on all. */
function shownName(figure, curve, choice) {
  const open = figure.switches.filter(({ key }) => choice[key] === ALL && curve.choice[key] !== undefined);
  return [curve.name, ...open.map(({ key, label }) => `${label} ${curve.choice[key]}`)].join(" · ");
}

/** Radio buttons for the horizontal axis, a select for each switch. */
function controls(figure, state, redraw) {
  const parts = [];
  if (figure.axes.length > 1) {
    const radios = figure.axes.map((axis) => element("label", {},
      element("input", {
        type: "radio", name: `axis-${figure.key}`, value: axis.key, checked: axis.key === state.axis,
        onchange: () => { state.axis = axis.key; redraw(); },
      }), axis.label));
    parts.push(element("fieldset", {}, element("legend", {}, "against"), ...radios));
  }
  for (const each of figure.switches) {
    parts.push(selection(each.label, Object.entries(each.options), (value) => {
      state.choice[each.key] = value;
      redraw();
    }));
  }
  return parts.length ? element("div", { class: "controls" }, ...parts) : null;
}

/** A button per name, which hides and shows its curves; then what the colours of the strip mean. */
function legendEntries(report, figure, byName, state, redraw) {
  const entries = [...byName].map(([name, curve]) => element("button", {
    type: "button", "aria-pressed": state.hidden.has(name) ? "false" : "true",
    onclick: (event) => {
      if (!state.hidden.delete(name)) state.hidden.add(name);
      const place = [...event.currentTarget.parentNode.children].indexOf(event.currentTarget);
      redraw();
      // The entries are new; the keyboard stays where it was.
      document.getElementById(`figure-${figure.key}`).querySelector(".legend").children[place].focus();
    },
  }, swatch(paletteColour(report, curve.colour), report.dashes[curve.line % report.dashes.length]), name));
  if (figure.timeline) {
    const spans = Object.values(figure.timeline).flat();
    const lanes = new Map(spans.map((span) => [span.name, span.colour]));
    for (const [name, colour] of lanes) {
      entries.push(element("span", { class: "lane" }, block(paletteColour(report, colour)), name));
    }
  }
  return entries;
}

function drawing(width, child) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ width, height: 10, "aria-hidden": "true" })) made.setAttribute(key, value);
  made.append(child);
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function swatch(colour, dash) {
  const pattern = { solid: "", dash: "6 3", dashdot: "7 3 2 3", dot: "2 3" }[dash];
  return drawing(26, shape("line", {
    x1: 0, y1: 5, x2: 26, y2: 5, stroke: colour, "stroke-width": 2.2, "stroke-dasharray": pattern,
  }));
}

function block(colour) {
  return drawing(12, shape("rect", { x: 0, y: 1, width: 12, height: 8, fill: colour, opacity: 0.75 }));
}

/** A curve as plotly wants it: its band, its line, and its last point where ends matter. */
function traces(report, curve, shown, axis, marksEnd) {
  const colour = paletteColour(report, curve.colour);
  const x = curve.x[axis];
  const symbol = SHAPES[curve.colour % SHAPES.length];
  const made = [];
  if (curve.lower && !marksEnd) {
    made.push({
      x: [...x, ...x.toReversed()], y: [...curve.upper, ...curve.lower.toReversed()],
      fill: "toself", fillcolor: colour, opacity: 0.16, line: { width: 0 },
      mode: "lines", hoverinfo: "skip",
    });
  }
  made.push({
    x, y: curve.y, name: plainName(shown),
    mode: x.length > MARKED_POINTS ? "lines" : "lines+markers",
    line: { color: colour, width: 1.8, dash: report.dashes[curve.line % report.dashes.length] },
    marker: { color: colour, size: 5, symbol },
    hovertemplate: `${plainName(shown)}: %{y:.4~g}<extra></extra>`,
  });
  if (marksEnd) {
    made.push({
      x: x.slice(-1), y: curve.y.slice(-1), mode: "markers", hoverinfo: "skip",
      error_x: { array: [curve.x_half_width], visible: curve.x_half_width !== null, thickness: 1.2, width: 4 },
      error_y: { array: [curve.upper ? curve.upper.at(-1) - curve.y.at(-1) : 0], visible: curve.upper !== null, thickness: 1.2, width: 4 },
      marker: { color: colour, size: 11, symbol },
    });
  }
  return made;
}

function layout(report, figure, panel, axis, isEmpty) {
  const quiet = pageColour("--quiet");
  const line = { gridcolor: pageColour("--grid"), linecolor: pageColour("--line"), zerolinecolor: pageColour("--line"), automargin: true, exponentformat: "power" };
  const made = {
    font: { family: "system-ui, sans-serif", size: 11.5, color: quiet },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 46, r: 8, t: 30, b: 40 },
    title: {
      text: plainName(panel.label), font: { size: 12, color: pageColour("--ink") }, pad: { t: 6, l: 8 },
      x: 0, xref: "container", xanchor: "left", y: 1, yref: "container", yanchor: "top",
    },
    showlegend: false, hovermode: figure.marks_end ? "closest" : "x unified",
    hoverlabel: { bgcolor: pageColour("--page"), font: { color: pageColour("--ink") } },
    // By itself plotly takes the clear paper for black, and draws grey boxes.
    modebar: { bgcolor: "rgba(0,0,0,0)", color: quiet, activecolor: pageColour("--ink") },
    xaxis: { ...line, title: { text: plainName(axis.label), standoff: 6 }, zeroline: false, showline: true, ...(axis.is_log ? logTicks(panel, axis) : {}) },
    yaxis: { ...line, ...(panel.limits ? { range: panel.limits } : {}) },
  };
  if (isEmpty) {
    made.annotations = [{ text: "not measured for this choice", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 }];
  }
  return figure.timeline ? { ...made, ...strip(report, figure.timeline, made) } : made;
}

/** A tick for each value that was tried, none between them. */
function logTicks(panel, axis) {
  const values = [...new Set(panel.curves.flatMap((curve) => curve.x[axis.key]))];
  return { type: "log", tickvals: values, ticktext: values.map(String) };
}

/** The timeline below the curves: a lane per row, a block per span. */
function strip(report, timeline, made) {
  const rows = Object.entries(timeline);
  const top = LANE * rows.length;
  return {
    margin: { ...made.margin, b: 44 },
    xaxis: { ...made.xaxis, anchor: "y2" },
    yaxis: { ...made.yaxis, domain: [top + 0.08, 1] },
    yaxis2: {
      domain: [0, top], range: [rows.length - 0.5, -0.5], fixedrange: true, showgrid: false, zeroline: false,
      tickvals: rows.map((_, index) => index), ticktext: rows.map(([name]) => plainName(name)),
      tickfont: { size: 9 }, automargin: true,
    },
    shapes: rows.flatMap(([, spans], row) => spans.map((span) => ({
      type: "rect", xref: "x", yref: "y2", x0: span.start - 0.5, x1: span.end + 0.5,
      y0: row - 0.36, y1: row + 0.36, line: { width: 0 }, opacity: 0.75,
      fillcolor: paletteColour(report, span.colour),
    }))),
  };
}
