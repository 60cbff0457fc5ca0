/** `headgate/fetch`: a `fetch` that keeps to the limits of an upstream. */
export {};
