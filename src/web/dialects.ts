/**
 * The names of the header fields in which APIs state how long a refused client must wait, and what remains of a quota.
 * One table lists the fields that state a wait, one lists the quotas that have a reset, and one lists the rates that
 * the remaining units belong to. retry-after.ts and remaining.ts read all fields in the same formats, so a dialect needs
 * only names here.
 *
 * Each entry names its source. The cited pages of OpenAI, Anthropic, Microsoft, GitLab, Google and Shopify could not be
 * opened when the tables were written. Their entries rest on secondary pages that quote the fields.
 *
 * These APIs need no entry of their own:
 * - Slack sends `Retry-After` in seconds with a 429 (docs.slack.dev, "Rate limits").
 * - Shopify sends `Retry-After: 2.0` (shopify.dev, "REST Admin API rate limits"). Its GraphQL API refuses in the body
 *   of a 200 response, which needs the `refusal` option.
 * - Google sends `Retry-After` with some refusals. Other refusals are a 403 with `rateLimitExceeded` in the body, which
 *   needs the `refusal` option (developers.google.com, "Resolve errors").
 * - GitHub sends a 403 or a 429 (docs.github.com, "Rate limits for the REST API"). For a secondary limit it sends
 *   `Retry-After`. For the primary limit it sends `x-ratelimit-remaining: 0` and an epoch in `x-ratelimit-reset`.
 * - Zendesk sends `Retry-After` and the fields of the IETF drafts (developer.zendesk.com, "Rate limits").
 * - `RateLimit-Policy` (all IETF drafts) and `X-Shopify-Shop-Api-Call-Limit` describe a limit, and state no wait.
 */

/** Fields that state a wait, the most exact first. `unit` is the length in seconds of the unit of a plain number. */
export const WAIT_FIELDS: readonly (readonly [field: string, unit: number])[] = [
  // Azure OpenAI, OpenAI: milliseconds, beside a rounded Retry-After (learn.microsoft.com, "Provisioned throughput").
  ['retry-after-ms', 0.001],
  // Azure Cosmos DB: milliseconds (learn.microsoft.com, "Request rate too large").
  ['x-ms-retry-after-ms', 0.001],
  // RFC 9110, section 10.2.3: seconds or an HTTP date. Discord sends fractions (docs.discord.com, "Rate Limits").
  ['retry-after', 1],
  // MailerLite: seconds (developers-classic.mailerlite.com, "API rate limits").
  ['x-ratelimit-retry-after', 1],
];

/** Quotas: the field with the remaining units, then the fields with the time of the reset, the most exact first. */
export const QUOTA_FIELDS: readonly (readonly [remaining: string, ...resets: string[]])[] = [
  // IETF drafts 00 to 06, Zendesk: seconds (datatracker.ietf.org, draft-ietf-httpapi-ratelimit-headers-06). GitLab: an
  // epoch in seconds (docs.gitlab.com, "Rate limits").
  ['ratelimit-remaining', 'ratelimit-reset'],
  // GitHub: an epoch in seconds. Envoy: seconds (envoyproxy.io, `enable_x_ratelimit_headers`). Discord: an epoch with a
  // fraction in Reset, and seconds in Reset-After, which need no clock (docs.discord.com, "Rate Limits").
  ['x-ratelimit-remaining', 'x-ratelimit-reset-after', 'x-ratelimit-reset'],
  // X: an epoch in seconds (docs.x.com, "Rate limits"). Okta: an epoch in seconds (developer.okta.com, "Rate limit best
  // practices").
  ['x-rate-limit-remaining', 'x-rate-limit-reset'],
  // X, the limits per day of an app and of a user: an epoch in seconds.
  ...['app', 'user'].map((owner) => [`x-${owner}-limit-24hour-remaining`, `x-${owner}-limit-24hour-reset`] as const),
  // OpenAI: a duration in the format of Go, such as 6m0s (platform.openai.com, "Rate limits"). Azure OpenAI: seconds.
  ...['requests', 'tokens', 'tokens_usage_based'].map(
    (unit) => [`x-ratelimit-remaining-${unit}`, `x-ratelimit-reset-${unit}`] as const,
  ),
  // Anthropic: RFC 3339 (docs.anthropic.com, "Rate limits", "Response headers").
  ...['requests', 'tokens', 'input-tokens', 'output-tokens'].map(
    (unit) => [`anthropic-ratelimit-${unit}-remaining`, `anthropic-ratelimit-${unit}-reset`] as const,
  ),
];

/**
 * The remaining units of a rate: the field, then the name of the rate. The main rate, which counts requests, has the
 * name `cost`, as in the record of a cost. The sources are those of {@link QUOTA_FIELDS}.
 *
 * An entry may have a third item: a field that names the resource that the units belong to, with the resource of the
 * main rate. GitHub has a quota for each resource (docs.github.com, "REST API endpoints for rate limits").
 */
export const REMAINING_FIELDS: readonly (readonly [
  remaining: string,
  rate: string,
  resource?: readonly [field: string, main: string],
])[] = [
  ['ratelimit-remaining', 'cost'],
  ['x-ratelimit-remaining', 'cost', ['x-ratelimit-resource', 'core']],
  ['x-rate-limit-remaining', 'cost'],
  // OpenAI.
  ['x-ratelimit-remaining-requests', 'cost'],
  ['x-ratelimit-remaining-tokens', 'tokens'],
  // Anthropic. The value for tokens is that of the most restrictive limit, so it may be the limit of the other two.
  ['anthropic-ratelimit-requests-remaining', 'cost'],
  ['anthropic-ratelimit-tokens-remaining', 'tokens'],
  ['anthropic-ratelimit-input-tokens-remaining', 'input-tokens'],
  ['anthropic-ratelimit-output-tokens-remaining', 'output-tokens'],
];
