// Five kinds of load with k6, each with its own executors and thresholds: smoke, load, stress, soak, spike.
//
//   KIND       which of the five
//   RATE       expected requests a second; 200. Smoke has users that pause instead of a rate.
//   DURATION   of the whole (smoke, soak), the hold (load), each step (stress), each phase (spike)
//   BASE       http://127.0.0.1:18080       PATH_  /users/42
//   TOKENS     file of "user token" lines, as bench/load/mint prints them: bearer tokens, all in turn
//   API_KEY    sent in API_KEY_HEADER (X-API-Key). Neither: no credentials.
//   P95 P99    thresholds in milliseconds, in place of the kind's own
//   ERRORS     threshold of failed requests, as a share: 0.01 is 1 %
//   STEPS      of stress, in multiples of RATE: "1 2 4 8"
//   SETTLE     of spike: time between the burst and the phase that has to be calm again; 5s
//   LIMITED    yes: 429 is meant everywhere; no: nowhere. Otherwise where the load goes beyond RATE.

import http from 'k6/http';
import exec from 'k6/execution';
import { check, sleep } from 'k6';
import { Rate, Trend } from 'k6/metrics';
import { SharedArray } from 'k6/data';

// An empty variable is one that is not set: scripts pass them on without asking.
const text = (name, otherwise) => __ENV[name] || otherwise;
function number(name, otherwise) {
  const n = Number(text(name, otherwise));
  if (!(n >= 0)) throw new Error(`${name}: ${__ENV[name]} is not a number`);
  return n;
}
function seconds(name, otherwise) {
  const given = text(name, otherwise);
  const parts = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?$/.exec(given);
  const n = parts ? (parts[1] || 0) * 3600 + (parts[2] || 0) * 60 + (parts[3] || 0) * 1 : 0;
  if (!n) throw new Error(`${name}: ${given} is not a duration like 90s, 5m or 1h30m`);
  return n;
}

const kind = text('KIND', '');
const rate = number('RATE', 200);
const target = text('BASE', 'http://127.0.0.1:18080') + text('PATH_', '/users/42');

const file = text('TOKENS', '');
// k6 opens names beside the script; a name on the command line is meant from where the caller stands.
const users = !file ? [] : new SharedArray('users', () =>
  open(file.startsWith('/') ? file : `${__ENV.PWD}/${file}`).trim().split('\n').map((line) => {
    const [name, token] = line.split(' ');
    return { name, token };
  }));
const key = text('API_KEY', '');
const keyHeader = text('API_KEY_HEADER', 'X-API-Key');

// Latency of 2xx answers alone: a refusal is quick, and would make the service look better than it is.
const servedMs = new Trend('served_ms', true);
const served = new Rate('served');
// 429. Told apart from failures where the limit was meant to be hit, and a failure where it was not.
const limited = new Rate('limited');

// Arrivals at a rate, whatever the answers do: a slow gateway does not get less to do, as it would from
// users who wait. Users enough for answers of half a second; what finds none free is a dropped iteration.
const arrivals = (most) => ({
  timeUnit: '1s',
  preAllocatedVUs: Math.ceil(Math.min(200, 10 + most / 20)),
  maxVUs: Math.ceil(Math.min(2000, 50 + most / 2)),
  gracefulStop: '5s',
});
const constant = (perSecond, start, duration) => ({
  executor: 'constant-arrival-rate',
  rate: Math.max(1, Math.round(perSecond)),
  startTime: `${start}s`,
  duration: `${duration}s`,
  ...arrivals(perSecond),
});
const ramping = (from, start, stages) => ({
  executor: 'ramping-arrival-rate',
  startRate: Math.max(1, Math.round(from)),
  startTime: `${start}s`,
  stages: stages.map(([to, duration]) => ({ target: Math.max(1, Math.round(to)), duration: `${duration}s` })),
  ...arrivals(Math.max(from, ...stages.map(([to]) => to))),
});

const steps = text('STEPS', '1 2 4 8').trim().split(/\s+/).map(Number);

const kinds = {
  // Does it work at all? Three users who pause, so that nothing is slow because of the load.
  smoke: () => ({
    scenarios: {
      smoke: { executor: 'constant-vus', vus: 3, duration: `${seconds('DURATION', '30s')}s` },
    },
    thresholds: {
      // Without load there is no excuse for a single failure.
      http_req_failed: [`rate<=${number('ERRORS', 0)}`],
      checks: ['rate==1'],
      // Wide: this is to find what is broken (a name server, a retry), not what is slow.
      served_ms: [`p(95)<${number('P95', 100)}`, `p(99)<${number('P99', 250)}`],
    },
  }),

  // Is the expected load carried? Climbs to RATE in a fifth of the time, then holds it.
  load: () => {
    const hold = seconds('DURATION', '5m');
    const ramp = Math.max(2, Math.round(hold / 5));
    const errors = number('ERRORS', 0.001);
    return {
      scenarios: { load: ramping(1, 0, [[rate, ramp], [rate, hold]]) },
      thresholds: {
        // One in a thousand: what a restart of one service behind the gateway may cost.
        http_req_failed: [`rate<=${errors}`],
        checks: [`rate>=${1 - errors}`],
        // What callers notice is the tail: p95 for most pages, p99 for pages made of many calls.
        served_ms: [`p(95)<${number('P95', 100)}`, `p(99)<${number('P99', 250)}`],
        // If k6 could not offer the rate, the other figures are about a smaller load.
        dropped_iterations: [`count<=${Math.ceil((hold + ramp / 2) * rate * 0.01)}`],
      },
    };
  },

  // Where does it break? Each step is judged alone, and the first that misses ends the run: what comes
  // after would only tell how a heap of waiting requests behaves.
  stress: () => {
    const each = seconds('DURATION', '30s');
    const scenarios = {};
    const thresholds = {};
    steps.forEach((times, n) => {
      const name = `x${times}`;
      // Not judged before a third of the step: k6 still makes its users then, and few answers swing a p95.
      const abort = { abortOnFail: true, delayAbortEval: `${n * each + Math.ceil(each / 3)}s` };
      scenarios[name] = constant(rate * times, n * each, each);
      // Beyond the expected rate some failures and slow answers are fair; a hundredth, or half a second
      // for one in twenty, is no longer a service.
      thresholds[`http_req_failed{scenario:${name}}`] = [{ threshold: `rate<=${number('ERRORS', 0.01)}`, ...abort }];
      thresholds[`served_ms{scenario:${name}}`] = [
        { threshold: `p(95)<${number('P95', 500)}`, ...abort },
        { threshold: `p(99)<${number('P99', 1000)}`, ...abort },
      ];
      // Answers that come too late for k6 to keep up are as bad as none.
      thresholds[`dropped_iterations{scenario:${name}}`] =
        [{ threshold: `count<=${Math.ceil(each * rate * times * 0.05)}`, ...abort }];
      // A step that was refused as a whole tells about the limit, and nothing about the service.
      thresholds[`served{scenario:${name}}`] = [{ threshold: 'rate>0', ...abort }];
    });
    return { scenarios, thresholds };
  },

  // Does it stay well? The last tenth is judged alone: a slow leak drowns in an average over an hour.
  soak: () => {
    const whole = seconds('DURATION', '1h');
    const last = Math.max(1, Math.round(whole / 10));
    const errors = number('ERRORS', 0.001);
    const slow = [`p(95)<${number('P95', 100)}`, `p(99)<${number('P99', 250)}`];
    return {
      scenarios: { soak: constant(rate, 0, whole - last), last: constant(rate, whole - last, last) },
      thresholds: {
        // An hour of failures tells no more than the first minute of them.
        http_req_failed: [{ threshold: `rate<=${errors}`, abortOnFail: true, delayAbortEval: '1m' }],
        checks: [`rate>=${1 - errors}`],
        served_ms: slow,
        // The same bounds at the end as in the whole: old age is no excuse.
        'http_req_failed{scenario:last}': [`rate<=${errors}`],
        'served_ms{scenario:last}': slow,
        dropped_iterations: [`count<=${Math.ceil(whole * rate * 0.01)}`],
      },
    };
  },

  // Does it take a sudden crowd, and get over it? RATE, ten times that within 3 s, and back.
  spike: () => {
    const each = seconds('DURATION', '30s');
    const settle = seconds('SETTLE', '5s');
    const jump = 3;
    const crowd = rate * 10;
    const back = each + jump + each + jump;
    const calm = [`p(95)<${number('P95', 100)}`, `p(99)<${number('P99', 250)}`];
    const errors = number('ERRORS', 0.01);
    return {
      scenarios: {
        before: constant(rate, 0, each),
        burst: ramping(rate, each, [[crowd, jump], [crowd, each], [rate, jump]]),
        settle: constant(rate, back, settle),
        after: constant(rate, back + settle, each),
      },
      thresholds: {
        // What is ill before the crowd comes is not the crowd's doing.
        'http_req_failed{scenario:before}': ['rate<=0.001'],
        'served_ms{scenario:before}': calm,
        // In the crowd a hundredth may fail and waiting is fair, up to what a person bears. 429 is meant.
        'http_req_failed{scenario:burst}': [`rate<=${errors}`],
        'served_ms{scenario:burst}': ['p(99)<1000'],
        'served{scenario:burst}': ['rate>0'],
        // A crowd that was not there tested nothing.
        'dropped_iterations{scenario:burst}': [`count<=${Math.ceil(crowd * each * 0.05)}`],
        // Recovery: as it was before, with nobody refused any longer. SETTLE is the time it has for that;
        // give it the window of your limit.
        'http_req_failed{scenario:after}': ['rate<=0.001'],
        'served{scenario:after}': ['rate>=0.999'],
        'served_ms{scenario:after}': calm,
      },
    };
  },
};

if (!kinds[kind]) throw new Error(`KIND has to be one of ${Object.keys(kinds).join(', ')}, and not "${kind}"`);
if (!(rate >= 1)) throw new Error('RATE has to be 1 or more');
if (!steps.every((times) => times > 0)) throw new Error(`STEPS: ${__ENV.STEPS} are not numbers`);
const chosen = kinds[kind]();
// Never to be missed, under any load: an answer meant for someone else.
chosen.thresholds['checks{check:the service was told who calls}'] = ['rate==1'];

export const options = {
  ...chosen,
  summaryTrendStats: ['count', 'p(50)', 'p(95)', 'p(99)', 'max'],
  // The bodies are not looked at, and k6 shares the machine.
  discardResponseBodies: true,
  // A redirect (to a login, say) is not the answer that was asked for.
  maxRedirects: 0,
};

const beyond = ['burst', 'settle', ...steps.filter((times) => times > 1).map((times) => `x${times}`)];
const limitMeant = (scenario) => ({ yes: true, no: false })[__ENV.LIMITED] ?? beyond.includes(scenario);

const fine = { min: 200, max: 299 };
const serve = http.expectedStatuses(fine);
const serveOrRefuse = http.expectedStatuses(fine, 429);

export default function () {
  const headers = {};
  const user = users.length ? users[exec.scenario.iterationInTest % users.length] : null;
  if (user) headers.Authorization = `Bearer ${user.token}`;
  if (key) headers[keyHeader] = key;

  const meant = limitMeant(exec.scenario.name);
  // One name for all, so that a path with numbers does not become many series.
  const r = http.get(target, { headers, responseCallback: meant ? serveOrRefuse : serve, tags: { name: 'target' } });
  const ok = r.status >= 200 && r.status <= 299;
  if (ok) servedMs.add(r.timings.duration);
  served.add(ok);
  limited.add(r.status === 429);

  check(r, { 'answered as meant': () => ok || (meant && r.status === 429) });
  if (r.status === 429) check(r, { '429 says when to come back': () => !!r.headers['Retry-After'] });
  // The demo's service says whom it was told of. Others do not, and are not asked.
  const saw = r.headers['X-Saw-User'];
  if (user && ok && saw) check(r, { 'the service was told who calls': () => saw === user.name });

  if (kind === 'smoke') sleep(0.1);
}

// Own words in place of k6's: what came back, each threshold with its figure, and for stress where it broke.
export function handleSummary(data) {
  const values = (name) => (data.metrics[name] || { values: {} }).values;
  const figure = (n) => (n === undefined ? '-' : String(Math.round(n * 10000) / 10000));
  const ms = (v) => ['p(50)', 'p(95)', 'p(99)', 'max'].map((p) => `${p} ${figure(v[p])}`).join(', ');
  const asked = values('http_reqs');
  const lines = [
    `== ${kind}: ${target}`,
    `requests: ${asked.count || 0}, ${Math.round(asked.rate || 0)} a second; not sent, no user free: ${values('dropped_iterations').count || 0}`,
    `served (2xx): ${values('served').passes || 0}; limited (429): ${values('limited').passes || 0}; `
      + `failed: ${values('http_req_failed').passes || 0}`,
    `served, ms: ${ms(values('served_ms'))}`,
  ];

  const reached = (name) => {
    const { passes = 0, fails = 0 } = values(`served{scenario:${name}}`);
    return kind !== 'stress' || passes + fails > 0;
  };
  let missed = 0;
  const broken = {};
  for (const name of Object.keys(chosen.thresholds)) {
    const metric = data.metrics[name];
    const scenario = (/\{scenario:(.*)\}/.exec(name) || [])[1];
    if (!metric || (scenario && !reached(scenario))) continue;
    const { passes, fails, count } = metric.values;
    const seen = metric.type === 'counter' || (metric.type === 'rate' ? passes + fails : count) > 0;
    for (const [threshold, { ok }] of Object.entries(metric.thresholds || {})) {
      const of = threshold.split(/[<>=]/)[0];
      lines.push(`${ok ? 'ok    ' : 'MISSED'}  ${name} ${threshold}: ${seen ? figure(metric.values[of]) : 'nothing to judge'}`);
      if (!ok) {
        missed += 1;
        broken[scenario] = true;
      }
    }
  }
  if (kind === 'stress') {
    const tell = (times) => `${times} x ${rate} = ${times * rate} a second`;
    const bad = steps.find((times) => broken[`x${times}`]);
    const good = steps.filter((times) => reached(`x${times}`) && !broken[`x${times}`]
      && (bad === undefined || times < bad)).pop();
    lines.push(`carried: ${good === undefined ? 'no step' : tell(good)}`);
    lines.push(bad === undefined ? 'broke off: no; STEPS has more' : `broke off: at ${tell(bad)}`);
  }
  // Interrupted is not passed. A step that broke off has missed something, and is told of above.
  const parts = Object.values(chosen.scenarios).map((s) => parseInt(s.startTime || '0s', 10)
    + (s.stages || [s]).reduce((sum, { duration }) => sum + parseInt(duration, 10), 0));
  const whole = data.state.testRunDurationMs >= Math.max(...parts) * 1000 * 0.99;
  if (missed) lines.push(`FAILED: ${missed} missed`);
  else lines.push(whole ? 'passed' : 'ended early, not judged');
  return { stdout: `${lines.join('\n')}\n` };
}
