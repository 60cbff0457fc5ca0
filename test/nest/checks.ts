/** All checks. */
import { holdChecks } from './checks-hold.js';
import { moduleChecks } from './checks-module.js';
import { refusalChecks } from './checks-refusals.js';
import { routeChecks } from './checks-routes.js';
import type { Check } from './site.js';

export const checks: Check[] = [...routeChecks, ...refusalChecks, ...holdChecks, ...moduleChecks];
