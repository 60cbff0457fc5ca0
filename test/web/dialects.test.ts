/** The waits that real APIs state in their header fields. */
import { expect, test } from 'vitest';
import { readWait } from '../../src/web/retry-after.js';
import { NOW } from './field-values.js';

test.each<[string, Record<string, string>, number | undefined]>([
  [
    'OpenAI, tokens used up: the wait is their reset',
    {
      'x-ratelimit-limit-requests': '500',
      'x-ratelimit-remaining-requests': '499',
      'x-ratelimit-reset-requests': '120ms',
      'x-ratelimit-limit-tokens': '30000',
      'x-ratelimit-remaining-tokens': '0',
      'x-ratelimit-reset-tokens': '6m0s',
    },
    360,
  ],
  [
    'OpenAI, requests used up: the wait is their reset',
    {
      'x-ratelimit-remaining-requests': '0',
      'x-ratelimit-reset-requests': '8.64s',
      'x-ratelimit-remaining-tokens': '149984',
      'x-ratelimit-reset-tokens': '6ms',
    },
    8.64,
  ],
  [
    'OpenAI, both used up: the wait is the longer reset',
    {
      'x-ratelimit-remaining-requests': '0',
      'x-ratelimit-reset-requests': '1m',
      'x-ratelimit-remaining-tokens': '0',
      'x-ratelimit-reset-tokens': '20ms',
    },
    60,
  ],
  [
    'OpenAI, quota left: no wait',
    {
      'x-ratelimit-remaining-requests': '4999',
      'x-ratelimit-reset-requests': '12ms',
      'x-ratelimit-remaining-tokens': '159976',
      'x-ratelimit-reset-tokens': '9ms',
    },
    undefined,
  ],
  [
    'OpenAI, usage-based tokens used up: the wait is their reset',
    { 'x-ratelimit-remaining-tokens_usage_based': '0', 'x-ratelimit-reset-tokens_usage_based': '41.724s' },
    41.724,
  ],
  [
    'OpenAI: a stated wait wins over the resets (openai-node#1477)',
    {
      'retry-after-ms': '6000',
      'retry-after': '6',
      'x-ratelimit-remaining-requests': '0',
      'x-ratelimit-reset-requests': '1h',
    },
    6,
  ],
  ['Azure OpenAI: milliseconds win over rounded seconds', { 'retry-after': '1', 'retry-after-ms': '43' }, 0.043],
  [
    'Azure OpenAI: -1 units count as used up',
    { 'x-ratelimit-limit-tokens': '-1', 'x-ratelimit-remaining-tokens': '-1', 'x-ratelimit-reset-tokens': '0' },
    0,
  ],
  ['Azure Cosmos DB: milliseconds with a fraction', { 'x-ms-retry-after-ms': '1234.5' }, 1.2345],
  [
    'Anthropic, input tokens used up: the wait is their reset (anthropic-sdk-typescript#357)',
    {
      'anthropic-ratelimit-requests-remaining': '49',
      'anthropic-ratelimit-requests-reset': '2026-11-21T08:10:00Z',
      'anthropic-ratelimit-input-tokens-remaining': '0',
      'anthropic-ratelimit-input-tokens-reset': '2026-11-21T08:00:45Z',
      'anthropic-ratelimit-output-tokens-remaining': '8000',
      'anthropic-ratelimit-output-tokens-reset': '2026-11-21T08:20:00Z',
    },
    45,
  ],
  [
    'Anthropic, requests and tokens used up: the wait is the longest reset',
    {
      'anthropic-ratelimit-requests-remaining': '0',
      'anthropic-ratelimit-requests-reset': '2026-11-21T08:00:05Z',
      'anthropic-ratelimit-tokens-remaining': '0',
      'anthropic-ratelimit-tokens-reset': '2026-11-21T08:01:00Z',
      'anthropic-ratelimit-output-tokens-remaining': '0',
      'anthropic-ratelimit-output-tokens-reset': '2026-11-21T08:00:50Z',
    },
    60,
  ],
  ...['requests', 'tokens', 'input-tokens', 'output-tokens'].map((unit): [string, Record<string, string>, number] => [
    `Anthropic, only ${unit} used up: the wait is their reset`,
    {
      [`anthropic-ratelimit-${unit}-remaining`]: '0',
      [`anthropic-ratelimit-${unit}-reset`]: '2026-11-21T08:00:45Z',
    },
    45,
  ]),
  [
    'Anthropic: a stated wait wins over the resets',
    {
      'retry-after': '12',
      'anthropic-ratelimit-requests-remaining': '0',
      'anthropic-ratelimit-requests-reset': '2026-11-21T08:10:00Z',
    },
    12,
  ],
  [
    'GitHub, primary limit: the wait is the reset',
    {
      'x-ratelimit-limit': '5000',
      'x-ratelimit-remaining': '0',
      'x-ratelimit-used': '5000',
      'x-ratelimit-reset': String(NOW / 1000 + 1200),
    },
    1200,
  ],
  [
    'GitHub, secondary limit: the wait is stated, with quota left',
    { 'retry-after': '60', 'x-ratelimit-remaining': '4990', 'x-ratelimit-reset': String(NOW / 1000 + 200) },
    60,
  ],
  [
    'GitHub, quota left: no wait (FAULTS 19, octokit/plugin-throttling#566)',
    { 'x-ratelimit-remaining': '4990', 'x-ratelimit-reset': String(NOW / 1000 + 200) },
    undefined,
  ],
  ['Google: a stated wait', { 'retry-after': '30' }, 30],
  [
    'Discord: a stated wait with a fraction',
    {
      'retry-after': '0.65',
      'x-ratelimit-remaining': '0',
      'x-ratelimit-reset': '1470173023.123',
      'x-ratelimit-reset-after': '1',
    },
    0.65,
  ],
  [
    'Discord: Reset-After wins over Reset',
    { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1470173023.123', 'x-ratelimit-reset-after': '64.57' },
    64.57,
  ],
  [
    'Discord, requests left: no wait',
    { 'x-ratelimit-remaining': '1', 'x-ratelimit-reset': String(NOW / 1000 + 9), 'x-ratelimit-reset-after': '9' },
    undefined,
  ],
  ['Slack: a stated wait', { 'retry-after': '30' }, 30],
  ['Shopify: a stated wait with a fraction', { 'retry-after': '2.0', 'x-shopify-shop-api-call-limit': '40/40' }, 2],
  [
    'X, quota used up: the wait is the reset',
    { 'x-rate-limit-limit': '900', 'x-rate-limit-remaining': '0', 'x-rate-limit-reset': String(NOW / 1000 + 840) },
    840,
  ],
  [
    'X, daily quota of a user used up: the wait is its reset',
    {
      'x-rate-limit-remaining': '40',
      'x-rate-limit-reset': String(NOW / 1000 + 840),
      'x-user-limit-24hour-remaining': '0',
      'x-user-limit-24hour-reset': String(NOW / 1000 + 7200),
      'x-app-limit-24hour-remaining': '10',
      'x-app-limit-24hour-reset': String(NOW / 1000 + 9000),
    },
    7200,
  ],
  [
    'X, daily quota of an app used up: the wait is its reset',
    { 'x-app-limit-24hour-remaining': '0', 'x-app-limit-24hour-reset': String(NOW / 1000 + 9000) },
    9000,
  ],
  [
    'Okta, quota used up: the wait is the reset',
    { 'x-rate-limit-limit': '1200', 'x-rate-limit-remaining': '0', 'x-rate-limit-reset': String(NOW / 1000 + 59) },
    59,
  ],
  [
    'Okta, quota left: no wait',
    { 'x-rate-limit-remaining': '1199', 'x-rate-limit-reset': String(NOW / 1000 + 59) },
    undefined,
  ],
  [
    'Zendesk: a stated wait wins over the reset',
    { 'retry-after': '17', 'ratelimit-remaining': '0', 'ratelimit-reset': '41' },
    17,
  ],
  [
    'Zendesk, quota used up: the wait is the reset',
    { 'x-rate-limit-remaining': '0', 'ratelimit-limit': '700', 'ratelimit-remaining': '0', 'ratelimit-reset': '41' },
    41,
  ],
  [
    'Envoy, quota used up: the wait is the reset',
    {
      'x-envoy-ratelimited': 'true',
      'x-ratelimit-limit': '10, 10;w=1;name="per-ip", 1000;w=3600',
      'x-ratelimit-remaining': '0',
      'x-ratelimit-reset': '1',
    },
    1,
  ],
  ['MailerLite: a stated wait', { 'x-ratelimit-retry-after': '59' }, 59],
  [
    'GitLab, quota used up: the wait is the reset',
    { 'ratelimit-remaining': '0', 'ratelimit-reset': String(NOW / 1000 + 20) },
    20,
  ],
  [
    'IETF drafts 00 to 06, quota used up: the wait is the reset',
    {
      'ratelimit-limit': '100, 100;w=10',
      'ratelimit-policy': '100;w=10',
      'ratelimit-remaining': '0',
      'ratelimit-reset': '9',
    },
    9,
  ],
  [
    'IETF draft 07, quota used up: the wait is the reset',
    { 'ratelimit-policy': '100;w=10', ratelimit: 'limit=100, remaining=0, reset=8' },
    8,
  ],
  [
    'IETF draft 08 and later: the wait is the reset of the used-up quota',
    {
      'ratelimit-policy': '"burst";q=100;w=60,"daily";q=1000;w=86400',
      ratelimit: '"burst";r=0;t=7, "daily";r=900;t=8000',
    },
    7,
  ],
  [
    'IETF: a quota without a reset states no wait',
    { 'ratelimit-policy': '"burst";q=100;w=60', ratelimit: '"burst";r=0' },
    undefined,
  ],
  [
    'two proxies: each reset belongs to the quota at the same position',
    { 'x-ratelimit-remaining': '0, 5', 'x-ratelimit-reset': '30, 900' },
    30,
  ],
  [
    'two proxies, one number of units: it counts for both resets',
    { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '30, 900' },
    900,
  ],
  [
    'an unreadable number of units counts as used up',
    { 'x-ratelimit-remaining': 'none', 'x-ratelimit-reset': '30' },
    30,
  ],
])('FAULTS 20, %s', (_, fields, expected) => {
  const seconds = readWait(new Headers(fields), NOW);
  if (expected === undefined) expect(seconds).toBeUndefined();
  else expect(seconds).toBeCloseTo(expected, 6);
});
