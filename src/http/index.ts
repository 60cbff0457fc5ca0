/** `headgate/http`: gates in front of HTTP handlers. The public names, nothing else. */
export {};
