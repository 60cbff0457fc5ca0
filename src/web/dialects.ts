/**
 * The header fields in which APIs state how long a refused client must wait. One table for fields that state a wait, one
 * for quotas with a reset. retry-after.ts reads every field in the same forms, so a dialect is a name and nothing else.
 *
 * These APIs need no line of their own:
 * - Slack sends `Retry-After` in seconds with a 429 (docs.slack.dev, "Rate limits").
 * - Shopify sends `Retry-After: 2.0` (shopify.dev, "REST Admin API rate limits"). Its GraphQL API refuses inside a 200:
 *   `refusal` decides.
 * - Google sends `Retry-After` with some refusals; others are a 403 with `rateLimitExceeded` in the body
 *   (developers.google.com, "Resolve errors"): `refusal` decides.
 * - GitHub sends `Retry-After` for a secondary limit, `x-ratelimit-remaining: 0` and an epoch in `x-ratelimit-reset` for
 *   the primary limit, both with a 403 or a 429 (docs.github.com, "Rate limits for the REST API").
 * - Zendesk sends `Retry-After` and the fields of the IETF drafts (developer.zendesk.com, "Rate limits").
 * - `RateLimit-Policy` (all IETF drafts) and `X-Shopify-Shop-Api-Call-Limit` describe a limit and state no wait.
 */

/** Fields that state a wait, the most exact first, and the unit of a plain number in seconds. */
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

/** Quotas: the field with the units that are left, then the fields with the time of the reset, the most exact first. */
export const QUOTA_FIELDS: readonly (readonly [remaining: string, ...resets: string[]])[] = [
  // IETF drafts 00 to 06, Zendesk: seconds (datatracker.ietf.org, draft-ietf-httpapi-ratelimit-headers-06). GitLab: an
  // epoch in seconds (docs.gitlab.com, "Rate limits").
  ['ratelimit-remaining', 'ratelimit-reset'],
  // GitHub: an epoch in seconds. Envoy: seconds (envoyproxy.io, `enable_x_ratelimit_headers`). Discord: an epoch with a
  // fraction, and seconds in Reset-After, which need no clock (docs.discord.com, "Rate Limits").
  ['x-ratelimit-remaining', 'x-ratelimit-reset-after', 'x-ratelimit-reset'],
  // X: an epoch in seconds (docs.x.com, "Rate limits"). Okta: the same (developer.okta.com, "Rate limit best practices").
  ['x-rate-limit-remaining', 'x-rate-limit-reset'],
  // X, the limits per day of an app and of a user: an epoch in seconds.
  ...['app', 'user'].map((whose) => [`x-${whose}-limit-24hour-remaining`, `x-${whose}-limit-24hour-reset`] as const),
  // OpenAI: a duration as Go writes it, such as 6m0s (platform.openai.com, "Rate limits"). Azure OpenAI: seconds.
  ...['requests', 'tokens', 'tokens_usage_based'].map(
    (unit) => [`x-ratelimit-remaining-${unit}`, `x-ratelimit-reset-${unit}`] as const,
  ),
  // Anthropic: RFC 3339 (docs.anthropic.com, "Rate limits", "Response headers").
  ...['requests', 'tokens', 'input-tokens', 'output-tokens'].map(
    (unit) => [`anthropic-ratelimit-${unit}-remaining`, `anthropic-ratelimit-${unit}-reset`] as const,
  ),
];
