import { type Logger, pino } from "pino";

export type { Logger };

/** A credential in a path (`/k/<token>/`) never reaches a log line or an error text. */
export function maskPath(text: string): string {
  return text.replaceAll(/\/k\/[^/?#\s]+/g, "/k/***");
}

/** JSON lines on stderr: stdout belongs to what a person reads at start. */
export function createLogger(level: string, service: string): Logger {
  return pino(
    {
      level,
      base: { service },
      redact: { paths: ["authorization", "headers.authorization", "token", "credential"], censor: "***" },
    },
    pino.destination({ dest: 2, sync: true }),
  );
}
