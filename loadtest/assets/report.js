// Draws the charts from the data in the page. Nothing is fetched.
(() => {
  'use strict';
  const page = JSON.parse(document.getElementById('data').textContent);
  const paper = matchMedia('print');
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const tone = name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();

  const number = v => v.toLocaleString('en', v >= 100 ? {maximumFractionDigits: 0} : {maximumSignificantDigits: 3});
  const written = {
    seconds: v => v === 0 ? '0' : v < 0.9995e-3 ? number(v * 1e6) + ' µs' : v < 0.9995 ? number(v * 1e3) + ' ms' : number(v) + ' s',
    bytes: v => v >= 2 ** 30 ? number(v / 2 ** 30) + ' GiB' : number(v / 2 ** 20) + ' MiB',
  };
  const percent = x => (100 * (1 - 10 ** -x)).toFixed(Math.max(0, Math.ceil(x) - 2)) + ' %';
  const place = {time: v => number(v) + ' s', share: percent, rate: v => number(v) + '/s'};
  const nines = [Math.log10(2), 1, 2, 3, 4, 5, 6, 7];

  const binary = Array.from({length: 50}, (_, i) => 2 ** i);

  // An axis starts at 0, or holds whole decades; either must stand when there is no value, or one.
  const linear = (_, min, max) => [0, max > 0 ? max * 1.08 : 1];
  const decades = (_, min, max) => min == null ? [1e-3, 1] : [10 ** Math.floor(Math.log10(min)), 10 ** (Math.floor(Math.log10(max)) + 1)];
  const across = c => () => {
    const xs = c.data[0], last = xs[xs.length - 1];
    return c.x === 'time' ? [0, page.until] : [0, last > 0 ? last * 1.02 : 1];
  };

  // The warm-up is shaded below the lines; the end of the load and other marks lie above the grid, with a name.
  const shade = u => {
    const {ctx, bbox} = u, from = u.valToPos(0, 'x', true), to = u.valToPos(Math.min(page.warmup, page.until), 'x', true);
    ctx.fillStyle = tone('shade');
    ctx.fillRect(from, bbox.top, to - from, bbox.height);
  };
  const named = (u, at, name, rule) => {
    const {ctx, bbox} = u, dpr = devicePixelRatio, x = Math.round(u.valToPos(at, 'x', true));
    ctx.save();
    ctx.fillStyle = ctx.strokeStyle = tone('muted');
    ctx.lineWidth = dpr;
    ctx.setLineDash([3 * dpr, 3 * dpr]);
    if (rule) ctx.stroke(new Path2D(`M${x} ${bbox.top}v${bbox.height}`));
    ctx.font = 11 * dpr + 'px system-ui, sans-serif';
    ctx.textBaseline = 'top';
    const full = bbox.left + bbox.width - x < ctx.measureText(name).width + 8 * dpr;
    ctx.textAlign = full ? 'right' : 'left';
    ctx.fillText(name, x + (full ? -4 : 4) * dpr, bbox.top + 3 * dpr);
    ctx.restore();
  };
  const marks = c => u => {
    if (c.x === 'time' && page.warmup > 0) named(u, 0, 'warm-up');
    if (c.x === 'time' && page.end > 0 && page.end + 1 < page.until) named(u, page.end, 'end of load', true);
    for (const m of c.marks || []) named(u, m.at, m.name, true);
  };

  // The legend shows what lies under the crosshair, and a dash for a gap there.
  const shown = say => (u, v) => v != null ? say(v) : u.cursor.idx != null ? '–' : '';

  const draw = (c, box) => {
    const say = written[c.unit] || number;
    const grid = {stroke: tone('grid'), width: 1};
    const axis = {stroke: tone('muted'), grid, ticks: {...grid, size: 4}, font: '12px system-ui, sans-serif'};
    const options = {
      width: box.clientWidth, height: 260,
      scales: {x: {time: false, range: across(c)}, y: c.log ? {distr: 3, range: decades} : {range: linear}},
      axes: [
        {...axis, size: 34, values: (_, at) => at.map(place[c.x]), ...(c.x === 'share' ? {splits: (_u, _a, _min, max) => nines.filter(n => n <= max)} : {})},
        {...axis, size: 66, values: (_, at) => at.map(v => v == null ? '' : say(v)), ...(c.unit === 'bytes' ? {incrs: binary} : {})},
      ],
      series: [
        {label: {time: 'at', share: 'share', rate: 'rate'}[c.x], value: shown(place[c.x])},
        ...c.lines.map(l => ({
          label: l.name, stroke: tone(l.tone), width: l.dots ? 0 : 1.75, spanGaps: c.x !== 'time' || c.id.startsWith('series'),
          points: l.dots ? {show: true, size: 9, fill: tone(l.tone)} : c.data[0].length < 25 ? {show: true, size: 5, fill: tone(l.tone)} : {show: false},
          value: shown(say),
        })),
      ],
      cursor: {y: false, drag: {setScale: false}, points: {size: 7}, ...(c.x === 'time' ? {sync: {key: 'time', setSeries: false}} : {})},
      hooks: {drawClear: c.x === 'time' && page.warmup > 0 ? [shade] : [], draw: [marks(c)]},
    };
    return new uPlot(options, c.data, box);
  };

  let plots = [];
  const all = () => {
    for (const p of plots) p.destroy();
    plots = page.charts.map(c => draw(c, document.getElementById(c.id)));
  };
  all();
  dark.addEventListener('change', all);
  paper.addEventListener('change', all); // paper is white, and has another width
  let width = innerWidth;
  addEventListener('resize', () => {
    if (innerWidth !== width) requestAnimationFrame(() => plots.forEach((p, i) => p.setSize({width: document.getElementById(page.charts[i].id).clientWidth, height: 260})));
    width = innerWidth;
  });
})();
