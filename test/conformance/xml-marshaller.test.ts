import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type DumpableValue,
  dumps,
  loads,
  type MarshalClassName,
  MarshalFloat,
  type MarshalKey,
  type MarshalMember,
  MarshalObject,
  MarshalTuple,
  type MarshalValue,
} from "../../slap/xml-marshaller.js";
import { pythonToolchain, reasonToSkip } from "../support/toolchain.js";

/** Values as JSON that keeps their Python types. Integers and floats travel as text: JSON has one kind of number. */
type Typed =
  | ["none"]
  | ["bool", boolean]
  | ["int" | "float" | "str", string]
  | ["list" | "tuple" | "set", Typed[]]
  | ["dict", [Typed, Typed][]]
  | ["object", MarshalClassName, Typed[], [Typed, Typed][]];

interface Reply {
  /** What Python writes for the value, alone and twice in one list, where it writes a reference the second time. */
  wire: string;
  twice: string;
  /** What Python reads from our writing of the value. */
  read: Typed;
}

// slap.py marshals through slapos.util: xml_marshaller with the four allowed classes.
const PYTHON_SIDE = `
import importlib, json, sys
# slapos.slap names a class as its module is named.
from slapos.util import dumps, loads

slap = importlib.import_module("slapos.slap.slap")

BUILD = {"list": list, "tuple": tuple, "set": set}

def build(typed):
    kind, rest = typed[0], typed[1:]
    if kind == "none": return None
    if kind in ("bool", "str"): return rest[0]
    if kind == "int": return int(rest[0])
    if kind == "float": return float(rest[0])
    if kind in BUILD: return BUILD[kind]([build(item) for item in rest[0]])
    if kind == "dict": return {build(key): build(value) for key, value in rest[0]}
    cls = getattr(slap, rest[0])
    value = cls.__new__(cls)
    value.__dict__.update((build(name), build(attribute)) for name, attribute in rest[2])
    return value

def entries(dictionary):
    return [[describe(key), describe(value)] for key, value in dictionary.items()]

def describe(value):
    cls = type(value)
    if value is None: return ["none"]
    if cls is bool: return ["bool", value]
    if cls in (int, float, str): return [cls.__name__, str(value)]
    if cls in (list, tuple, set): return [cls.__name__, [describe(item) for item in value]]
    if cls is dict: return ["dict", entries(value)]
    arguments = value.__getinitargs__() if hasattr(value, "__getinitargs__") else ()
    return ["object", cls.__name__, [describe(item) for item in arguments], entries(vars(value))]

for line in sys.stdin:
    question = json.loads(line)
    value = build(question["value"])
    answer = {
        "wire": dumps(value).decode(),
        "twice": dumps([value, value]).decode(),
        "read": describe(loads(question["wire"].encode())),
    }
    print(json.dumps(answer), flush=True)
`;

class PythonSide implements AsyncDisposable {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  #complaints = "";

  constructor(python: string) {
    this.#process = spawn(python, ["-c", PYTHON_SIDE], { env: { ...process.env, PYTHONUTF8: "1" } });
    this.#process.stderr.on("data", (chunk: Buffer) => {
      this.#complaints = (this.#complaints + chunk).slice(-4000);
    });
    // A write to a process that has ended is reported by the missing answer, with what the process said.
    this.#process.stdin.on("error", () => {});
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  async ask(value: Typed, wire: string): Promise<Reply> {
    this.#process.stdin.write(`${JSON.stringify({ value, wire })}\n`);
    const { value: line, done } = await this.#lines.next();
    if (done) throw new Error(`Python ended without an answer to ${wire}\n${this.#complaints}`);
    return JSON.parse(line);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once("close", resolve));
    this.#process.stdin.end();
    if (this.#process.exitCode === null) await ended;
  }
}

function describeValue(value: DumpableValue): Typed {
  if (value === null) return ["none"];
  if (typeof value === "boolean") return ["bool", value];
  if (typeof value === "number" || typeof value === "bigint") return ["int", String(value)];
  if (typeof value === "string") return ["str", value];
  if (value instanceof MarshalFloat) return ["float", Object.is(value.value, -0) ? "-0.0" : String(value.value)];
  if (value instanceof MarshalTuple) return ["tuple", value.items.map(describeValue)];
  if (value instanceof Set) return ["set", [...value].map(describeValue)];
  if (value instanceof Map) return ["dict", describeEntries(value)];
  if (value instanceof MarshalObject) {
    const attributes = value.attributes as Map<string, MarshalValue>;
    return ["object", value.className, value.constructorArguments.map(describeValue), describeEntries(attributes)];
  }
  return ["list", (value as DumpableValue[]).map(describeValue)];
}

function describeEntries(dictionary: ReadonlyMap<MarshalKey, MarshalValue>): [Typed, Typed][] {
  return [...dictionary].map(([key, value]) => [describeValue(key), describeValue(value)]);
}

function buildValue(typed: Typed): MarshalValue {
  switch (typed[0]) {
    case "none":
      return null;
    case "bool":
    case "str":
      return typed[1];
    case "int":
      return Number.isSafeInteger(Number(typed[1])) ? Number(typed[1]) : BigInt(typed[1]);
    case "float":
      return new MarshalFloat(Number(typed[1].replace("inf", "Infinity")));
    case "list":
      return typed[1].map(buildValue);
    case "tuple":
      return new MarshalTuple(typed[1].map(buildValue));
    case "set":
      return new Set(typed[1].map(buildValue) as MarshalMember[]);
    case "dict":
      return new Map(typed[1].map(([key, value]) => [buildValue(key) as MarshalKey, buildValue(value)]));
    case "object": {
      const attributes = typed[3].map(([name, value]): [string, MarshalValue] => [
        buildValue(name) as string,
        buildValue(value),
      ]);
      return new MarshalObject(typed[1], typed[2].map(buildValue), new Map(attributes));
    }
  }
}

// What Python refuses to write is left out here; the unit tests say what becomes of it on our side.
const text = fc
  .string({ unit: "binary" })
  .filter((candidate) => /^[\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]*$/u.test(candidate));
const markup = fc.array(fc.constantFrom("&", "<", ">", "amp;", "lt;", "gt;", "quot;", "#38;", "]]>", "\r\n", " ", "é"));
const anyText = fc.oneof(
  text,
  markup.map((pieces) => pieces.join("")),
);
const integer = fc.oneof(
  fc.maxSafeInteger(),
  fc
    .bigInt({ min: -(10n ** 30n), max: 10n ** 30n })
    .map((value) => (Number.isSafeInteger(Number(value)) ? Number(value) : value)),
);
const float = fc
  .oneof(
    fc.double(),
    fc.float(),
    fc.integer().map((value) => value / 1000),
  )
  .map((value) => new MarshalFloat(value));
const key = fc.oneof({ weight: 8, arbitrary: anyText }, fc.integer(), fc.constant(null));

const { value: anyValue } = fc.letrec<{ value: MarshalValue; many: MarshalValue[]; object: MarshalObject }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5, depthSize: "small" },
    fc.oneof(anyText, integer, float, fc.boolean(), fc.constant(null)),
    tie("many"),
    tie("many").map((items) => new MarshalTuple(items)),
    // Python's order of the members of a set is arbitrary, so one member is all that bytes can be compared with.
    fc.array(fc.oneof(anyText, integer, float), { maxLength: 1 }).map((members) => new Set<MarshalMember>(members)),
    fc.array(fc.tuple(key, tie("value")), { maxLength: 6 }).map((entries) => new Map(entries)),
    tie("object"),
  ),
  many: fc.array(tie("value"), { maxLength: 4 }),
  object: fc
    .tuple(
      fc.constantFrom<MarshalClassName>("Computer", "ComputerPartition", "SoftwareRelease", "SoftwareInstance"),
      anyText,
      anyText,
      fc.array(fc.tuple(fc.stringMatching(/^_x[a-z_]{0,8}$/), tie("value")), { maxLength: 5 }),
    )
    .map(([className, first, second, attributes]) => objectOf(className, first, second, attributes)),
}));

/** As slap.py constructs them: the arguments are attributes too, and SoftwareRelease adds an empty list. */
function objectOf(
  className: MarshalClassName,
  first: string,
  second: string,
  attributes: [string, MarshalValue][],
): MarshalObject {
  const own: Record<MarshalClassName, { constructorArguments: MarshalValue[]; attributes: [string, MarshalValue][] }> =
    {
      Computer: { constructorArguments: [first], attributes: [["_computer_id", first]] },
      ComputerPartition: {
        constructorArguments: [first, second, null],
        attributes: [
          ["_computer_id", first],
          ["_partition_id", second],
          ["_request_dict", null],
        ],
      },
      SoftwareRelease: {
        constructorArguments: [first, second],
        attributes: [
          ["_software_release", first],
          ["_computer_guid", second],
          ["_software_instance_list", []],
        ],
      },
      SoftwareInstance: { constructorArguments: [], attributes: [["_requested_state", first]] },
    };
  return new MarshalObject(
    className,
    own[className].constructorArguments,
    new Map([...attributes, ...own[className].attributes]),
  );
}

const RUNS = 3000;
const TIMEOUT_MS = 120_000;

const toolchain = await pythonToolchain();
const skipped = reasonToSkip(toolchain) !== null;
const interpreter = "missing" in toolchain ? "" : toolchain.python;

test.skipIf(skipped)(
  "a value has the bytes of Python's, and each side reads what the other wrote",
  async () => {
    await using python = new PythonSide(interpreter);
    const property = fc.asyncProperty(anyValue, async (value) => {
      const ours = dumps(value);
      const { wire, read } = await python.ask(describeValue(value), ours);
      expect(ours).toBe(wire);
      expect(loads(wire)).toEqual(value);
      expect(buildValue(read)).toEqual(value);
    });
    await fc.assert(property, { numRuns: RUNS });
  },
  TIMEOUT_MS,
);

test.skipIf(skipped)(
  "a reference that Python writes is read as the value it names",
  async () => {
    await using python = new PythonSide(interpreter);
    let references = 0;
    const property = fc.asyncProperty(anyValue, async (value) => {
      const { twice } = await python.ask(describeValue(value), dumps(null));
      if (twice.includes("<reference ")) references += 1;
      expect(loads(twice)).toEqual([value, value]);
    });
    await fc.assert(property, { numRuns: RUNS });
    expect(references).toBeGreaterThan(0);
  },
  TIMEOUT_MS,
);
