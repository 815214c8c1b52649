// What others' software sees: an even 25 requests a second, until it is interrupted.
import http from 'k6/http';
import { check } from 'k6';

export const options = {
  discardResponseBodies: false,
  scenarios: {
    even: { executor: 'constant-arrival-rate', rate: 25, timeUnit: '1s', duration: '2h', preAllocatedVUs: 20, gracefulStop: '5s' },
  },
};

export default function () {
  const target = `/origin/greet/k6-${__VU}-${__ITER}`;
  const answer = http.get(`http://127.0.0.1:18080${target}`, { headers: { Host: 'api.example.com' } });
  check(answer, { 'the right answer': (a) => a.status === 200 && a.body === `hello ${target}\n` });
}
