// The page: upload a file, and see what becomes of each batch. The key stays in its field; nothing is stored.

const REFRESH_MS = 1000;
const find = (id) => document.getElementById(id);
const number = new Intl.NumberFormat();

/** An element with a text, and nothing that could be HTML. */
function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function authorized(extra = {}) {
  return { Authorization: `Bearer ${find("key").value}`, ...extra };
}

function showErrors(problem) {
  const errors = problem.errors ?? [];
  find("errors").hidden = errors.length === 0;
  find("errors").tBodies[0].replaceChildren(...errors.map((error) => {
    const row = document.createElement("tr");
    row.append(element("td", error.line), element("td", error.column ?? ""), element("td", error.message));
    return row;
  }));
}

/** Uploads with progress, which fetch does not tell. */
function upload(file) {
  const request = new XMLHttpRequest();
  request.open("POST", find("path").value);
  for (const [name, value] of Object.entries(authorized({ "Content-Type": "text/csv" }))) {
    request.setRequestHeader(name, value);
  }
  request.upload.onprogress = (event) => { find("progress").value = event.loaded / event.total; };
  request.onloadend = () => {
    find("progress").hidden = true;
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* said below */ }
    const accepted = request.status === 202;
    find("said").textContent = accepted
      ? `Accepted: ${number.format(answer.counts.total)} rows.`
      : answer.detail ?? "The server did not answer; try again.";
    showErrors(answer);
    refresh();
  };
  find("progress").hidden = false;
  find("said").textContent = "Uploading…";
  request.send(file);
}

function batchItem(batch) {
  const item = document.createElement("li");
  const { total, completed, failed, processing } = batch.counts;
  const bar = element("div", "", "bar");
  bar.setAttribute("role", "img");
  const told = `${number.format(completed)} completed, ${number.format(failed)} failed, of ${number.format(total)}`;
  bar.setAttribute("aria-label", told);
  for (const [status, rows] of Object.entries({ completed, failed, processing })) {
    const part = element("div", "", status);
    part.style.width = `${(100 * rows) / total}%`;
    bar.append(part);
  }
  const paused = batch.paused ? ", paused" : "";
  item.append(element("strong", `${batch.status}${paused}`), element("p", told), bar, element("p", batch.id));
  return item;
}

async function refresh() {
  if (find("key").value === "") return;
  try {
    const answer = await fetch("/v2/batches?limit=20", { headers: authorized() });
    const body = await answer.json();
    find("none").textContent = answer.ok ? (body.batches.length ? "" : "There are none yet.") : body.detail;
    find("batches").replaceChildren(...(body.batches ?? []).map(batchItem));
  } catch {
    find("none").textContent = "The server does not answer; trying again.";
  }
}

find("upload").addEventListener("submit", (event) => {
  event.preventDefault();
  upload(find("file").files[0]);
});
find("key").addEventListener("change", refresh);
setInterval(refresh, REFRESH_MS);
