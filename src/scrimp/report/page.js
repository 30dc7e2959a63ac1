// Sorting, filtering and unfolding. The page is complete without it: this script only adds controls.
"use strict";

(() => {
  const table = document.getElementById("claims-table");
  const form = document.getElementById("filters");
  const count = document.getElementById("count");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);

  // ---------------------------------------------------------------------------------------------------- sorting
  const headers = Array.from(table.tHead.rows[0].cells);

  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent.trim();
  };

  const words = (left, right) => left.localeCompare(right, undefined, { numeric: true, sensitivity: "base" });

  // Numbers of different units have no order: rows of one unit stay together.
  const unitOf = (row, header) => (header.classList.contains("number") ? row.dataset.unit : "");

  const compare = (left, right, numeric) => (numeric ? toNumber(left) - toNumber(right) : words(left, right));

  // The page writes infinities as Python does.
  const toNumber = (text) => (text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text));

  const sortBy = (header) => {
    const column = headers.indexOf(header);
    const numeric = header.dataset.type === "number";
    const descending = header.getAttribute("aria-sort") === "ascending";
    headers.forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const known = rows.filter((row) => keyOf(row, column) !== "");
    const unknown = rows.filter((row) => keyOf(row, column) === ""); // always last, whatever the direction
    known.sort(
      (a, b) =>
        words(unitOf(a, header), unitOf(b, header)) ||
        compare(keyOf(a, column), keyOf(b, column), numeric) * (descending ? -1 : 1),
    );
    body.append(...known, ...unknown);
  };

  headers.forEach((header) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sortBy(header));
    header.append(button);
  });

  // -------------------------------------------------------------------------------------------------- filtering
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  // The filter is part of the address, so that a view can be sent to somebody: #claims?verdict=contradicted
  const MARK = "#claims?";
  const remember = (wanted) => {
    const told = new URLSearchParams([...wanted].filter(([, value]) => value)).toString();
    if (told) history.replaceState(null, "", MARK + told);
    else if (location.hash.startsWith(MARK)) history.replaceState(null, "", "#claims");
  };
  const recall = () => {
    if (!location.hash.startsWith(MARK)) return;
    new URLSearchParams(location.hash.slice(MARK.length)).forEach((value, name) => {
      if (form.elements[name]) form.elements[name].value = value;
    });
    document.getElementById("claims").scrollIntoView();
  };

  const applyFilters = () => {
    const wanted = new FormData(form);
    const words = String(wanted.get("text")).toLowerCase().split(/\s+/).filter(Boolean);
    const study = wanted.get("study");
    const verdict = wanted.get("verdict");
    let shown = 0;
    rows.forEach((row) => {
      const fits =
        (!study || row.dataset.study === study) &&
        (!verdict || row.dataset.verdict === verdict) &&
        words.every((word) => texts.get(row).includes(word));
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    remember(wanted);
    count.textContent = shown === rows.length ? `${rows.length} claims` : `${shown} of ${rows.length} claims`;
  };

  form.addEventListener("input", applyFilters);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(applyFilters)); // the fields are cleared after this event
  form.hidden = false;
  recall();
  applyFilters();

  // -------------------------------------------------------------------------------------------------- unfolding
  // What an address points at is shown, however deep it is folded away.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  // A figure is embedded once; beside a claim it is shown again on request.
  document.querySelectorAll("details.again").forEach((details) => {
    details.hidden = false;
    details.addEventListener("toggle", () => {
      if (details.open && !details.querySelector(".paper-white")) {
        const original = document.getElementById(details.dataset.figure);
        details.append(original.querySelector(".paper-white").cloneNode(true));
      }
    });
  });

  const closedBeforePrint = [];
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open]):not(.again)").forEach((details) => {
      details.open = true;
      closedBeforePrint.push(details);
    });
  });
  addEventListener("afterprint", () => {
    closedBeforePrint.splice(0).forEach((details) => (details.open = false));
  });

  document.documentElement.dataset.scrimp = "ready";
})();
