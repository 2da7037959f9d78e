"use strict";
const D = JSON.parse(document.getElementById("drive").textContent);
const $ = (id) => document.getElementById(id);
const last = D.time.length - 1;
const duration = Math.max(last * D.dt, D.dt);
let now = 0, playing = false, rate = 1, stamp = 0;

const clamp = (x, a, b) => Math.min(b, Math.max(a, x));
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const bytes = (b64) => Uint8Array.from(atob(b64), (c) => c.charCodeAt(0));
const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
const turn = (a, b, u) => a + (((b - a + 3 * Math.PI) % (2 * Math.PI) + 2 * Math.PI) % (2 * Math.PI) - Math.PI) * u;

/* A strip of embedded pictures: decodes what is near the playhead, forgets what is far. */
class Film {
  constructor(canvas, film) {
    this.canvas = canvas; this.film = film; this.ready = new Map(); this.shown = -1;
    this.context = canvas.getContext("2d");
  }
  image(k) {
    let entry = this.ready.get(k);
    if (!entry) {
      entry = new Image();
      entry.src = `data:${this.film.mime};base64,${this.film.frames[k]}`;
      entry.decode().then(() => { if (this.wanted === k) this.paint(k); }, () => {});
      this.ready.set(k, entry);
      if (this.ready.size > 80) this.ready.delete(this.ready.keys().next().value);
    }
    return entry;
  }
  paint(k) {
    const image = this.ready.get(k);
    if (!image || !image.complete || !image.naturalWidth) return;
    this.context.drawImage(image, 0, 0, this.canvas.width, this.canvas.height);
    this.shown = k;
  }
  show(time) {
    const count = this.film.frames.length;
    if (!count) return;
    const k = clamp(Math.floor(time / D.dt * this.film.per_step + 1e-6), 0, count - 1);
    this.wanted = k;
    this.image(k);
    if (k !== this.shown) this.paint(k);
    for (let ahead = 1; ahead < 6 && k + ahead < count; ahead++) this.image(k + ahead);
  }
}

/* ---------------------------------------------------------------- the sensors */
const films = [new Film($("view"), D.film)];
function figure(name, caption, width, height) {
  const box = document.createElement("figure"), canvas = document.createElement("canvas"), text = document.createElement("figcaption");
  canvas.width = width; canvas.height = height;
  canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", name);
  box.style.setProperty("--ratio", (width / height).toFixed(2));
  text.innerHTML = caption; box.append(canvas, text); $("sensors").append(box);
  return canvas;
}
const given = (name) => !D.meta.seen || D.meta.seen.includes(name);
if (!given("lidar")) D.lidar = null;
if (!given("radar")) D.radar = null;
for (const camera of D.cameras) {
  const canvas = figure(`${camera.name} camera`, `<b>${camera.name}</b> camera, ${camera.width}&times;${camera.height}${given(camera.name) ? "" : ": not given"}`, camera.width * 3, camera.height * 3);
  canvas.classList.toggle("withheld", !given(camera.name));
  films.push(new Film(canvas, camera));
}
const sweep = D.lidar || D.radar ? figure("LiDAR and radar from above", [D.lidar && "<b>LiDAR</b>", D.radar && "<b>radar</b> (red nears)"].filter(Boolean).join(" + "), 300, 192) : null;

function drawSweep(k) {
  if (!sweep) return;
  const g = sweep.getContext("2d"), W = sweep.width, H = sweep.height, scale = 3.1;
  const at = (x, y) => [W / 2 - y * scale, H * .66 - x * scale];
  g.fillStyle = "#07090c"; g.fillRect(0, 0, W, H);
  g.strokeStyle = "#1d2731"; g.lineWidth = 1;
  for (const r of [10, 20, 30, 40, 50]) { g.beginPath(); g.arc(...at(0, 0), r * scale, 0, 7); g.stroke(); }
  if (D.lidar) {
    const raw = bytes(D.lidar.frames[k]), ranges = new Uint16Array(raw.buffer), L = D.lidar;
    for (let b = 0; b < L.beams; b++) {
      const lift = L.elevations[b];
      for (let c = 0; c < L.columns; c++) {
        const range = ranges[b * L.columns + c] / 100;
        if (!range) continue;
        const azimuth = Math.PI - (c + .5) * 2 * Math.PI / L.columns, flat = range * Math.cos(lift), z = L.z + range * Math.sin(lift);
        const [px, py] = at(L.x + flat * Math.cos(azimuth), flat * Math.sin(azimuth));
        g.fillStyle = z < .25 ? "#2f4a57" : `hsl(${clamp(190 - z * 45, 30, 190)} 85% 62%)`;
        g.fillRect(px - 1, py - 1, z < .25 ? 1.4 : 2.4, z < .25 ? 1.4 : 2.4);
      }
    }
  }
  for (const [range, azimuth, speed] of D.radar ? D.radar.frames[k] : []) {
    const x = D.radar.x + range * Math.cos(azimuth), y = range * Math.sin(azimuth), [px, py] = at(x, y);
    const [qx, qy] = at(x + speed * .8 * Math.cos(azimuth), y + speed * .8 * Math.sin(azimuth));
    g.strokeStyle = speed < -.5 ? "#ff6b5e" : speed > .5 ? "#6cb6ff" : "#d8c26a"; g.lineWidth = 2;
    g.beginPath(); g.arc(px, py, 4.5, 0, 7); g.moveTo(px, py); g.lineTo(qx, qy); g.stroke();
  }
  const [ex, ey] = at(D.car.length - D.car.overhang, D.car.width / 2);
  g.fillStyle = D.colors.ego; g.fillRect(ex, ey, D.car.width * scale, D.car.length * scale);
}

/* ---------------------------------------------------------------- from above */
const bird = $("bird");
function path(g, points, close) {
  g.beginPath();
  points.forEach(([x, y], i) => (i ? g.lineTo(x, y) : g.moveTo(x, y)));
  if (close) g.closePath();
}
function box(g, x, y, yaw, length, width, paint) {
  g.save(); g.translate(x, y); g.rotate(yaw); paint(length, width); g.restore();
}
function drawRoads(g) {
  g.lineJoin = g.lineCap = "round";
  g.strokeStyle = css("--walk");
  for (const lane of D.map.walks) { g.lineWidth = lane.w; path(g, lane.p); g.stroke(); }
  g.fillStyle = g.strokeStyle = css("--road");
  for (const outline of D.map.junctions) { path(g, outline, true); g.fill(); }
  g.lineCap = "butt";
  for (const lane of D.map.lanes) { g.lineWidth = lane.w + .15; path(g, lane.p); g.stroke(); }
  g.lineWidth = .17;
  for (const mark of D.map.marks) {
    g.strokeStyle = css(mark.center ? "--center" : "--mark"); g.setLineDash(mark.dash ? [2.5, 3.5] : []); g.globalAlpha = mark.dash ? .75 : .65; path(g, mark.p); g.stroke();
  }
  g.strokeStyle = css("--mark");
  g.setLineDash([.5, .5]); g.globalAlpha = .6;
  for (const [a, b, width] of D.map.crossings) { g.lineWidth = width; path(g, [a, b]); g.stroke(); }
  g.setLineDash([]); g.globalAlpha = 1;
}
function drawStanding(g) {
  for (const [color, corners] of D.map.buildings) {
    g.fillStyle = color; g.globalAlpha = .85; path(g, corners, true); g.fill();
    g.globalAlpha = 1; g.strokeStyle = "rgba(0,0,0,.35)"; g.lineWidth = .3; g.stroke();
  }
  for (const [color, x, y, radius] of D.map.trees) {
    g.fillStyle = color; g.globalAlpha = .75; g.beginPath(); g.arc(x, y, radius, 0, 7); g.fill();
  }
  g.globalAlpha = 1;
}
function drawAgents(g, k, u) {
  const later = new Map((D.agents[Math.min(k + 1, last)] || []).map((a) => [a[0], a]));
  for (const a of D.agents[k]) {
    const b = later.get(a[0]) || a, x = a[2] + (b[2] - a[2]) * u, y = a[3] + (b[3] - a[3]) * u, yaw = turn(a[4], b[4], u);
    if (a[1] === 5) {
      g.fillStyle = D.colors[a[0]]; g.strokeStyle = "#fff"; g.lineWidth = .22;
      g.beginPath(); g.arc(x, y, .6, 0, 7); g.fill(); g.stroke(); continue;
    }
    box(g, x, y, yaw, a[5], a[6], (l, w) => {
      g.fillStyle = D.colors[a[0]]; g.beginPath(); g.roundRect(-l / 2, -w / 2, l, w, Math.min(.5, w / 3)); g.fill();
      g.fillStyle = "rgba(10,14,18,.55)"; if (a[1] < 4) g.fillRect(l * .1, -w * .4, l * .16, w * .8);
      if (a[7] & 1) { g.fillStyle = "#ff3b30"; g.fillRect(-l / 2, -w / 2, .35, w); }
      g.fillStyle = "#ff9f0a";
      if (a[7] & 2) g.fillRect(l / 2 - .6, w / 2 - .3, .6, .5);
      if (a[7] & 4) g.fillRect(l / 2 - .6, -w / 2 - .2, .6, .5);
    });
  }
}
function drawBird(k, u) {
  const ratio = window.devicePixelRatio || 1, W = Math.round(bird.clientWidth * ratio), H = Math.round(bird.clientHeight * ratio);
  if (!W || !H) return;
  if (bird.width !== W || bird.height !== H) { bird.width = W; bird.height = H; }
  const g = bird.getContext("2d"), p = D.pose[k], q = D.pose[Math.min(k + 1, last)], reach = 50;
  const x = p[0] + (q[0] - p[0]) * u, y = p[1] + (q[1] - p[1]) * u, yaw = turn(p[2], q[2], u), zoom = H / reach;
  g.setTransform(1, 0, 0, 1, 0, 0); g.fillStyle = css("--ground"); g.fillRect(0, 0, W, H);
  g.translate(W / 2, H * .7); g.scale(zoom, -zoom); g.rotate(Math.PI / 2 - yaw); g.translate(-x, -y);
  drawRoads(g);
  drawStanding(g);
  D.map.signals.forEach((line, i) => {
    g.strokeStyle = { 0: "#ff453a", 1: "#ffb340", 2: "#30d158", 3: "#ff8a3a" }[D.signals[k][i]] || "#777";
    g.lineWidth = .9; path(g, line); g.stroke();
  });
  g.lineCap = "round"; g.strokeStyle = D.colors.ego;
  g.globalAlpha = .45; g.lineWidth = .5; g.setLineDash([.2, 1.3]); path(g, D.pose.slice(k)); g.stroke(); g.setLineDash([]);
  g.globalAlpha = .8; g.lineWidth = .7; path(g, [...D.pose.slice(Math.max(0, k - 60), k + 1), [x, y]]); g.stroke(); g.globalAlpha = 1;
  drawAgents(g, k, u);
  box(g, x, y, yaw, D.car.length, D.car.width, (l, w) => {
    g.fillStyle = D.colors.ego; g.strokeStyle = "#fff"; g.lineWidth = .3; g.shadowColor = "rgba(0,0,0,.5)"; g.shadowBlur = 8;
    g.beginPath(); g.roundRect(-D.car.overhang, -w / 2, l, w, .5); g.fill(); g.shadowBlur = 0; g.stroke();
    g.fillStyle = "#0c1e22"; g.fillRect(l * .42, -w * .4, l * .16, w * .8);
  });
}

/* ---------------------------------------------------------------- words and numbers */
const NAMES = ["accepted", "clipped", "replaced"];
let shownStep = -1;
function showStep(k) {
  if (k === shownStep) return;
  shownStep = k;
  const said = D.instructions[D.said[k]], reason = D.reasons[D.reason[k]], sent = D.actuation[k], chosen = D.act[k];
  $("sentence").textContent = said.sentence;
  $("who").textContent = D.said[k] ? `You typed at ${clock(said.step * D.dt)}` : "You typed";
  $("why").textContent = reason ? reason.text : "";
  $("tokens").replaceChildren(...(reason ? reason.tokens : ["no reason given"]).map((token) => {
    const chip = document.createElement("span"); chip.textContent = token; return chip;
  }));
  $("speed").textContent = Math.round(D.speed[k] * 3.6);
  $("wheel-turn").setAttribute("transform", `rotate(${(-sent[0] * 270).toFixed(1)})`);
  $("steer-value").textContent = `${Math.abs(sent[0]).toFixed(2)} ${sent[0] > .005 ? "left" : sent[0] < -.005 ? "right" : ""}`;
  for (const [name, i] of [["throttle", 1], ["brake", 2]]) {
    $(name).style.width = `${sent[i] * 100}%`;
    $(`${name}-value`).textContent = `${Math.round(sent[i] * 100)}%`;
    $(`${name}-act`).style.left = `calc(${clamp(chosen[i], 0, 1) * 100}% - 1px)`;
  }
  const kind = D.verdict[k];
  $("verdict").textContent = D.meta.guarded ? NAMES[kind] : "off";
  $("verdict-why").textContent = D.why[k] ? `(${D.why[k]})` : "";
  $("verdict-dot").style.background = ["var(--go)", "var(--accent)", "var(--halt)"][kind];
  const event = D.events.find((e) => e.step <= k && k < e.step + 8 && e.bad);
  $("flag").hidden = !(event || kind === 2);
  $("flag").textContent = event ? event.text : "The guard brakes";
  drawSweep(k);
  showLog(k);
}

/* ---------------------------------------------------------------- moments */
const rows = D.moments.map((moment) => {
  const item = document.createElement("li"), button = document.createElement("button"), time = document.createElement("time"), text = document.createElement("span");
  time.textContent = clock(moment.step * D.dt); text.textContent = moment.text; text.className = `${moment.kind}-line`;
  button.append(time, text); button.addEventListener("click", () => seek(moment.step * D.dt));
  item.append(button); $("log").append(item);
  return button;
});
let shownRow = -1;
function showLog(k) {
  let current = -1;
  D.moments.forEach((moment, i) => { if (moment.step <= k) current = i; });
  rows.forEach((row, i) => { row.className = i === current ? "now" : i > current ? "future" : ""; });
  if (current >= 0 && current !== shownRow) {
    const list = $("log"), row = rows[current];
    list.scrollTop = row.offsetTop - list.offsetTop - list.clientHeight / 2;
  }
  shownRow = current;
}

/* ---------------------------------------------------------------- the graph of speed */
const graph = $("graph");
function drawGraph() {
  const ratio = window.devicePixelRatio || 1, W = graph.clientWidth, H = graph.clientHeight, g = graph.getContext("2d");
  if (!W) return;
  if (graph.width !== Math.round(W * ratio) || graph.height !== Math.round(H * ratio)) { graph.width = Math.round(W * ratio); graph.height = Math.round(H * ratio); }
  g.setTransform(ratio, 0, 0, ratio, 0, 0); g.clearRect(0, 0, W, H);
  const top = Math.max(...D.speed, 5) * 1.12, X = (s) => s / duration * W, Y = (v) => H - 9 - v / top * (H - 32);
  g.font = "12px system-ui, sans-serif"; g.textBaseline = "middle";
  D.instructions.forEach((said, i) => {
    const from = X(said.step * D.dt), to = i + 1 < D.instructions.length ? X(D.instructions[i + 1].step * D.dt) : W;
    g.fillStyle = css("--accent"); g.globalAlpha = .16; g.fillRect(from + 1, 0, to - from - 2, 19); g.globalAlpha = 1;
    g.save(); g.beginPath(); g.rect(from, 0, to - from - 5, 19); g.clip(); g.fillText(said.sentence, from + 8, 10); g.restore();
  });
  g.beginPath(); g.moveTo(0, Y(0));
  D.speed.forEach((v, k) => g.lineTo(X(k * D.dt), Y(v)));
  g.lineTo(W, Y(0)); g.closePath(); g.fillStyle = css("--blue"); g.globalAlpha = .22; g.fill(); g.globalAlpha = 1;
  g.beginPath(); D.speed.forEach((v, k) => (k ? g.lineTo(X(k * D.dt), Y(v)) : g.moveTo(0, Y(v))));
  g.strokeStyle = css("--blue"); g.lineWidth = 1.6; g.stroke();
  D.verdict.forEach((kind, k) => { if (kind) { g.fillStyle = kind === 2 ? css("--halt") : css("--accent"); g.fillRect(X(k * D.dt), H - 6, Math.max(2, X(D.dt)), 5); } });
  for (const event of D.events) {
    const x = clamp(X(event.step * D.dt), 2, W - 2);
    g.strokeStyle = g.fillStyle = event.bad ? css("--halt") : css("--go"); g.lineWidth = 1.5;
    g.beginPath(); g.moveTo(x, 22); g.lineTo(x, H - 8); g.stroke(); g.beginPath(); g.arc(x, 26, 4, 0, 7); g.fill();
    g.textAlign = x > W - 150 ? "right" : "left"; g.fillText(event.text, x + (x > W - 150 ? -9 : 9), 29); g.textAlign = "left";
  }
  const x = clamp(X(now), 1, W - 1);
  g.strokeStyle = css("--text"); g.lineWidth = 2; g.beginPath(); g.moveTo(x, 0); g.lineTo(x, H); g.stroke();
}

/* ---------------------------------------------------------------- playback */
function show() {
  const at = now / D.dt, k = clamp(Math.floor(at + 1e-6), 0, last);
  films.forEach((film) => film.show(now));
  showStep(k);
  drawBird(k, clamp(at - k, 0, 1));
  drawGraph();
  $("clock").textContent = `${clock(now)} / ${clock(duration)}`;
  $("scrub").value = k;
  $("scrub").setAttribute("aria-valuetext", `${now.toFixed(1)} seconds, ${Math.round(D.speed[k] * 3.6)} kilometres per hour`);
}
function seek(time) { now = clamp(time, 0, duration); show(); }
function play(on) {
  if (on && now >= duration - 1e-3) now = 0;
  playing = on; stamp = performance.now();
  $("start").hidden = true; $("start").style.display = "none";
  $("play").setAttribute("aria-label", on ? "Pause" : "Play");
  $("play-shape").setAttribute("d", on ? "M6 4h4v16H6zM14 4h4v16h-4z" : "M7 4l14 8-14 8z");
  if (on) requestAnimationFrame(tick);
}
function tick(time) {
  if (!playing) return;
  now += Math.min(.25, Math.max(0, time - stamp) / 1000) * rate; stamp = time;
  if (now >= duration) { now = duration; play(false); }
  show();
  if (playing) requestAnimationFrame(tick);
}
const step = (n) => { play(false); seek((Math.floor(now / D.dt + 1e-6) + n) * D.dt); };
const setRate = (by) => { const box = $("rate"); box.selectedIndex = clamp(box.selectedIndex + by, 0, box.length - 1); rate = +box.value; };
const setTheme = (name) => { document.documentElement.dataset.theme = name; show(); };

$("scrub").max = last;
$("scrub").addEventListener("input", (e) => { play(false); seek(+e.target.value * D.dt); });
$("scrub").addEventListener("keydown", (e) => { if (e.key.startsWith("Arrow") || e.key === "Home" || e.key === "End") e.preventDefault(); });
$("play").addEventListener("click", () => play(!playing));
$("start").addEventListener("click", () => { play(true); $("play").focus(); });
$("view").addEventListener("click", () => play(!playing));
$("back").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("rate").addEventListener("change", () => setRate(0));
$("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "light" ? "dark" : "light"));
document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.tagName === "SELECT") return;
  const button = e.target.tagName === "BUTTON";
  const actions = {
    " ": () => play(!playing), k: () => play(!playing), ArrowLeft: () => step(e.shiftKey ? -Math.round(1 / D.dt) : -1),
    ArrowRight: () => step(e.shiftKey ? Math.round(1 / D.dt) : 1), Home: () => seek(0), End: () => seek(duration),
    "+": () => setRate(1), "-": () => setRate(-1), t: () => $("theme").click(),
  };
  if (!actions[e.key] || (button && e.key === " ")) return;
  e.preventDefault(); actions[e.key]();
});
new ResizeObserver(show).observe(document.body);

document.title = D.title;
$("outcome").textContent = D.meta.outcome; $("outcome").classList.add(D.meta.good ? "good" : "bad");
$("meta").textContent = D.meta.line;
document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
const link = /t=([\d.]+)/.exec(location.hash);
seek(link ? +link[1] : 0);
