import { readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";

export interface ComposeService {
  command?: string[];
  environment?: Record<string, string>;
  healthcheck?: { test: string[] };
  depends_on?: Record<string, unknown>;
  ports?: string[];
  user?: string;
  build?: { target: string };
}

export interface ComposeFile {
  services: Record<string, ComposeService>;
}

const here = path.resolve(import.meta.dirname, "../..");
/** This file runs from the sources in tests, and compiled elsewhere. */
const root = path.basename(here) === "dist" ? path.dirname(here) : here;

export const readAtRoot = (file: string) => readFileSync(path.join(root, file), "utf8");

/** docker-compose.yml as it is merged, with variables put in as the specification says. Throws the sentence of one that has to be set. */
export function readCompose(variables: Record<string, string | undefined>): ComposeFile {
  const file = parse(readAtRoot("docker-compose.yml"), { merge: true }) as ComposeFile;
  return interpolate(file, variables) as ComposeFile;
}

function interpolate(value: unknown, variables: Record<string, string | undefined>): unknown {
  if (typeof value === "string") {
    return value.replace(
      /\$\{(\w+)(?::([?-])([^}]*))?\}/g,
      (_all, name: string, mode: string | undefined, text: string) => {
        const given = variables[name];
        if (given) return given;
        if (mode === "?") throw new Error(`required variable ${name} is missing a value: ${text}`);
        return text ?? "";
      },
    );
  }
  if (Array.isArray(value)) return value.map((one) => interpolate(one, variables));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, interpolate(one, variables)]));
}
