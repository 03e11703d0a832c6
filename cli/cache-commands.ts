import { type Command, InvalidArgumentError } from "commander";
import { ConfigError } from "../common/config.js";
import { type Api, type ApiOptions, findToken } from "./api.js";
import { CacheClient } from "./cache/cache-client.js";
import { CacheError } from "./cache/cache-error.js";
import { keyOfUrl, readPem } from "./cache/entry.js";
import { listArtifacts, listBlob, listEntries } from "./cache/list.js";
import { digestFile, type NamedBlob, sha512Pattern, walk } from "./cache/local-file.js";
import { Progress } from "./cache/progress.js";
import { pull, targetIn } from "./cache/pull.js";
import { pullEntry } from "./cache/pull-entry.js";
import { push } from "./cache/push.js";
import { reindex } from "./cache/reindex.js";
import { runAll } from "./cache/run-all.js";
import { readSums, type Sum } from "./cache/sums.js";
import { verify } from "./cache/verify.js";

interface CacheOptions {
  cache?: string;
  jobs: number;
}

const maxJobs = 64;

/** `slapgraph cache …`: the Shacache from a shell. Sums go to stdout as `sha512sum` writes them, everything else to stderr. */
export function addCacheCommands(
  program: Command,
  options: () => ApiOptions,
  api: () => Api,
  env: NodeJS.ProcessEnv,
): void {
  const cache = program
    .command("cache")
    .description(
      "Blobs and directory entries of a Shacache. Exit code 0: all done; 1: something failed; 2: something is absent or differs.",
    )
    .option("--cache <url>", "the Shacache door (SLAPGRAPH_CACHE_URL); default: this machine's")
    .option("--jobs <n>", `transfers at a time, 1 to ${maxJobs}`, jobCount, 4);

  /** Runs with a client and progress bars, which are closed in any case; what it gives is the command's exit code. */
  const withClient = async (
    work: (client: CacheClient, jobs: number, progress: Progress) => Promise<number>,
    isDirect = false,
  ) => {
    const { cache: given, jobs } = cache.opts<CacheOptions>();
    const url = given ?? env.SLAPGRAPH_CACHE_URL ?? `http://127.0.0.1:${env.SLAPGRAPH_SHACACHE_PORT ?? 4002}`;
    const progress = new Progress();
    try {
      const client = new CacheClient({ url, token: findToken(options().token, env), maxSockets: jobs, isDirect });
      try {
        process.exitCode = await work(client, jobs, progress);
      } finally {
        client.close();
      }
    } catch (error) {
      if (error instanceof CacheError) throw new ConfigError(error.message, { cause: error });
      throw error;
    } finally {
      progress.close();
    }
  };

  cache
    .command("push <file...>")
    .description(
      "Upload files, folders walked, and print their sums. What the cache has is not sent again. A blob is named by its bytes alone; --key makes it findable by name too.",
    )
    .option("--key <key>", "write a directory entry under this key, for each file")
    .option("--source-url <url>", "write an entry for what this URL points to, as networkcache-upload --url does")
    .option("--meta <name=value...>", "metadata of the entry, beside file and sha512", pairs, {})
    .option("--signing-key <file>", "sign the entry with this RSA key (PEM)")
    .action(async (files: string[], given: PushOptions) => {
      const entry = entryToWrite(given);
      await withClient((client, jobs, progress) =>
        runAll(walk(files), jobs, (file) => push(client, file, entry, progress)),
      );
    });

  cache
    .command("pull [sum...]")
    .description(
      "Download blobs by SHA-512, or those in a list of sums (a file, or - for stdin), or the newest that fits under --key. A broken pull goes on where its .part file ends.",
    )
    .option("--to <folder>", "where files go", ".")
    .option("--key <key>", "what a directory entry under this key names")
    .option("--source-url <url>", "what an entry for this URL names, as networkcache-download --url finds it")
    .option("--where <name=value...>", "only entries with this metadata", pairs, {})
    .option("--certificate <file...>", "only entries signed by one of these certificates (PEM)")
    .option("--output <file>", "with one blob: the file it goes to")
    .option("--replace", "replace files that have other bytes")
    .option(
      "--direct",
      "get the bytes from the store behind the cache, if it takes clients; they are compared all the same",
    )
    .action(async (sums: string[], given: PullOptions) => {
      const key = keyOf(given);
      if ((key === null) === (sums.length === 0)) throw new ConfigError("Give sums, or --key or --source-url.");
      if (given.output !== undefined && sums.length > 1) throw new ConfigError("--output takes one blob.");
      const place = (sum: Sum) => given.output ?? targetIn(given.to, sum.name);
      await withClient((client, jobs, progress) => {
        const pullTo = (sum: Sum) => pull(client, sum, place(sum), given.replace ?? false, progress);
        if (key === null) return runAll(sumsOf(sums), jobs, pullTo);
        const certificates = (given.certificate ?? []).map(readPem);
        return runAll([{ name: key }], 1, () => pullEntry(client, key, certificates, given.where, pullTo));
      }, given.direct);
    });

  cache
    .command("ls [file...]")
    .description(
      "Say which files, folders walked, or SHA-512 sums the cache has; without any, the blobs of the token's project. With --key, the entries under a key, newest first.",
    )
    .option("--key <key>", "list the entries under this key")
    .action(async (files: string[], { key }: { key?: string }) => {
      if (key !== undefined && files.length > 0) throw new ConfigError("Give files or sums, or --key.");
      if (key === undefined && files.length === 0) return listArtifacts(api());
      await withClient(async (client, jobs) =>
        key === undefined
          ? runAll(namedBlobs(files), jobs, (item) => listBlob(client, item))
          : runAll([{ name: key }], 1, () => listEntries(client, key)),
      );
    });

  cache
    .command("verify <file...>")
    .description("Read from the cache what files, folders walked, or SHA-512 sums name, and compare every byte.")
    .action(async (files: string[]) =>
      withClient((client, jobs, progress) =>
        runAll(namedBlobs(files), jobs, async ({ sha512, name }) => verify(client, await sha512(), name, progress)),
      ),
    );

  cache
    .command("reindex")
    .description(
      "Where the database was lost: give the index back what the store has, blobs and entries, and wait for the end. Administrator only; uploads go on meanwhile.",
    )
    .action(() => reindex(api()));
}

interface PushOptions {
  key?: string;
  sourceUrl?: string;
  meta: Record<string, string>;
  signingKey?: string;
}

interface PullOptions {
  to: string;
  key?: string;
  sourceUrl?: string;
  where: Record<string, string>;
  certificate?: string[];
  output?: string;
  replace?: boolean;
  direct?: boolean;
}

function keyOf({ key, sourceUrl }: { key?: string; sourceUrl?: string }): string | null {
  return key ?? (sourceUrl === undefined ? null : keyOfUrl(sourceUrl));
}

function entryToWrite({ meta, signingKey, ...named }: PushOptions) {
  const key = keyOf(named);
  if (key === null) {
    if (signingKey !== undefined || Object.keys(meta).length > 0)
      throw new ConfigError("--meta and --signing-key are of an entry: give --key or --source-url too.");
    return null;
  }
  const metadata = named.sourceUrl === undefined ? meta : { url: named.sourceUrl, ...meta };
  return { key, metadata, signingKey: signingKey === undefined ? null : readPem(signingKey) };
}

/** An argument of 128 hexadecimal digits is a sum; any other is a file or a folder, and what is in it is what is meant. */
async function* namedBlobs(places: readonly string[]): AsyncGenerator<NamedBlob> {
  for (const place of places) {
    if (sha512Pattern.test(place)) yield { name: place, sha512: async () => place };
    else
      for await (const file of walk([place]))
        yield { name: file.name, sha512: async () => (await digestFile(file.path)).sha512 };
  }
}

async function* sumsOf(places: readonly string[]): AsyncGenerator<Sum> {
  for (const place of places) {
    if (sha512Pattern.test(place)) yield { sha512: place, name: place };
    else yield* readSums(place);
  }
}

function jobCount(text: string): number {
  const jobs = Number(text);
  if (Number.isInteger(jobs) && jobs >= 1 && jobs <= maxJobs) return jobs;
  throw new InvalidArgumentError(`It takes 1 to ${maxJobs}.`);
}

function pairs(text: string, previous: Record<string, string>): Record<string, string> {
  const equals = text.indexOf("=");
  if (equals < 1) throw new InvalidArgumentError("It takes name=value.");
  return { ...previous, [text.slice(0, equals)]: text.slice(equals + 1) };
}
