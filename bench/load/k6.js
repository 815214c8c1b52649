// A smoke test of the full chain: what is answered, by whom, and what the service was told.

import http from 'k6/http';
import { check } from 'k6';
import { Rate } from 'k6/metrics';
import { SharedArray } from 'k6/data';

const users = new SharedArray('users', () =>
  open(__ENV.TOKENS).trim().split('\n').map((line) => {
    const [name, token] = line.split(' ');
    return { name, token };
  }));

const base = __ENV.BASE || 'http://127.0.0.1:18080';
const canary = new Rate('canary');

export const options = {
  vus: 10,
  duration: __ENV.DURATION || '10s',
  thresholds: {
    checks: ['rate==1'],
    canary: ['rate>0.05', 'rate<0.15'],
    'http_req_duration{kind:good}': ['p(99)<250'],
  },
};

export default function () {
  const n = __VU * 100003 + __ITER;
  const user = users[n % users.length];
  const headers = { Authorization: `Bearer ${user.token}`, 'X-User-ID': 'mallory' };

  const one = http.get(`${base}/users/42?fields=name`, { headers, tags: { kind: 'good' } });
  check(one, {
    'v1: 200': (r) => r.status === 200,
    'v1: by v1': (r) => r.headers['X-Served-By'] === 'v1',
    'v1: told who calls': (r) => r.headers['X-Saw-User'] === user.name,
    'v1: told the scopes': (r) => r.headers['X-Saw-Scopes'] === 'read:users',
    'v1: prefix cut, query kept': (r) => r.headers['X-Saw-Path'] === '/42?fields=name',
    'v1: limit told': (r) => Number(r.headers['X-Ratelimit-Remaining']) > 0,
    'v1: request id': (r) => !!r.headers['X-Request-Id'],
  });

  const versioned = { ...headers, 'X-API-Version': 'v2' };
  const two = http.get(`${base}/users/42`, { headers: versioned, tags: { kind: 'good' } });
  check(two, {
    'v2: 200': (r) => r.status === 200,
    'v2: by v2 or canary': (r) => ['v2', 'canary'].includes(r.headers['X-Served-By']),
  });
  canary.add(two.headers['X-Served-By'] === 'canary');

  const expect = (status) => ({ responseCallback: http.expectedStatuses(status) });
  const bad = http.get(`${base}/users/42`,
    { ...expect(401), headers: { Authorization: `Bearer ${user.token}x` } });
  check(bad, {
    'forged: 401': (r) => r.status === 401,
    'forged: problem': (r) => r.json('code') === 'token_malformed',
  });
  check(http.get(`${base}/nowhere`, expect(404)), { 'no route: 404': (r) => r.status === 404 });
}
