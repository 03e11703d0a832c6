import sax from "sax";

/**
 * The wire format of Python's `xml_marshaller`, in which slapos.core nodes speak (slap-protocol.md §1.4).
 * `dumps` writes the bytes Python would write; `loads` reads untrusted input, so all that Python's writer never emits
 * and that could cost more than its own size is refused.
 */

export type MarshalKey = null | boolean | number | bigint | string;

/** Python only puts into a set what it can hash. */
export type MarshalMember = MarshalKey | MarshalFloat | MarshalTuple | MarshalObject;

/** What `loads` returns. A number is always an integer here: it is a bigint where it is not safe, and a float is a MarshalFloat. */
export type MarshalValue = MarshalMember | MarshalValue[] | Map<MarshalKey, MarshalValue> | Set<MarshalMember>;

/** What `dumps` takes: all that `loads` returns, read-only collections, and plain records for dictionaries with text keys. */
export type DumpableValue =
  | MarshalKey
  | MarshalFloat
  | MarshalTuple<DumpableValue>
  | MarshalObject
  | MarshalPart
  | readonly DumpableValue[]
  | ReadonlyMap<MarshalKey, DumpableValue>
  | ReadonlySet<MarshalMember>
  | DumpableRecord;

export interface DumpableRecord {
  readonly [key: string]: DumpableValue;
}

export class MarshalTuple<Item = MarshalValue> {
  constructor(readonly items: readonly Item[]) {}
}

/** Keeps 1.0 a float on its way through: in JavaScript it would be the integer 1. */
export class MarshalFloat {
  constructor(readonly value: number) {}
}

const MARSHAL_MODULE = "slapos.slap.slap";
const MARSHAL_CLASS_NAMES = ["Computer", "ComputerPartition", "SoftwareRelease", "SoftwareInstance"] as const;

export type MarshalClassName = (typeof MARSHAL_CLASS_NAMES)[number];

/** The client calls the class with the arguments, then sets the attributes: a wrong number of arguments is its TypeError. */
export class MarshalObject {
  constructor(
    readonly className: MarshalClassName,
    readonly constructorArguments: readonly DumpableValue[],
    readonly attributes: ReadonlyMap<string, DumpableValue> | DumpableRecord,
  ) {}
}

/** A value that was written before, to be put into documents as it is. */
export class MarshalPart {
  constructor(readonly xml: string) {}
}

/** Input that is no xml_marshaller document, or a value that has no place in one. The text may be shown to the caller. */
export class XmlMarshalError extends Error {
  override readonly name = "XmlMarshalError";

  constructor(
    message: string,
    /** Characters of the document read so far, where the fault lies in a document. */
    readonly position?: number,
  ) {
    super(position === undefined ? message : `${message} (at character ${position})`);
  }
}

export interface MarshalLimits {
  readonly lengthCharacters: number;
  /** Elements inside one another, with `marshal` itself. */
  readonly depth: number;
  /** Elements, where each reference counts as much as all that it refers to. */
  readonly nodeCount: number;
}

/** A format of a thousand partitions has 1.8 million characters and 63,000 elements; a computer's answer is ten deep. */
export const MARSHAL_LIMITS: MarshalLimits = { lengthCharacters: 8_388_608, depth: 64, nodeCount: 500_000 };

/** Python's own limit. Parsing takes quadratic time beyond it. */
const MAXIMUM_INTEGER_DIGITS = 4300;

const NOT_AN_XML_CHARACTER = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u;

export function loads(xml: string, limits: MarshalLimits = MARSHAL_LIMITS): MarshalValue {
  if (xml.length > limits.lengthCharacters) {
    throw new XmlMarshalError(`The document is longer than ${limits.lengthCharacters} characters`);
  }
  // sax checks neither of these two, and a DOCTYPE that is never closed would pass it unseen.
  const illegal = NOT_AN_XML_CHARACTER.exec(xml);
  if (illegal) {
    throw new XmlMarshalError("The document holds a character that XML does not allow", illegal.index);
  }
  const declaration = /<!(?!--|\[CDATA\[)/.exec(xml);
  if (declaration) {
    throw new XmlMarshalError("Document type and entity declarations are not accepted", declaration.index);
  }
  return new MarshalReader(limits).read(xml);
}

const LEAF_NAMES = new Set(["int", "long", "float", "bool", "string", "unicode", "none", "reference"]);
const CONTAINER_NAMES = new Set(["marshal", "tuple", "list", "dictionary", "set", "object"]);
const ATTRIBUTE_NAMES = new Set(["id", "module", "class"]);

interface Frame {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: MarshalValue[];
  readonly nodesBefore: number;
  text: string;
  height: number;
}

/** How much a finished element weighs once its references are followed: what makes a short document expensive to walk. */
interface Finished {
  readonly value: MarshalValue;
  readonly nodeCount: number;
  readonly height: number;
}

class MarshalReader {
  readonly #parser = sax.parser(true);
  readonly #frames: Frame[] = [];
  readonly #finished = new Map<string, Finished>();
  #nodeCount = 0;
  #result: MarshalValue | undefined;

  constructor(readonly limits: MarshalLimits) {
    const parser = this.#parser;
    // The parser's own table inherits from Object.prototype (`&constructor;`) and ignores case.
    parser.ENTITIES = new Proxy({}, { get: (_target, name) => this.#entity(String(name)) });
    parser.onerror = (err) => this.#fail(err.message.split("\n", 1)[0] ?? "The document is not XML");
    parser.onprocessinginstruction = ({ name }) => {
      if (name !== "xml" || parser.startTagPosition !== 1) this.#fail("Processing instructions are not accepted");
    };
    // Refused one by one as they come: an attribute named hasOwnProperty would break the parser at the next one.
    parser.onattribute = ({ name }) => {
      if (!ATTRIBUTE_NAMES.has(name)) this.#fail(`The attribute ${JSON.stringify(name)} is unknown`);
    };
    parser.onopentag = (tag) => this.#open(tag as sax.Tag);
    parser.onclosetag = () => this.#close();
    parser.ontext = (text) => this.#text(text);
    parser.oncdata = (text) => this.#text(text);
  }

  read(xml: string): MarshalValue {
    // XML reads each line ending as one line feed; a carriage return that is meant is written as a reference.
    const text = xml.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n");
    this.#parser.write(text).close();
    if (this.#result === undefined) throw new XmlMarshalError("The document is empty");
    return this.#result;
  }

  #fail(message: string): never {
    throw new XmlMarshalError(message, this.#parser.position);
  }

  #entity(name: string): string | undefined {
    // An answer of undefined lets the parser work out a numeric reference.
    if (/^#(\d+|x[\da-fA-F]+)$/.test(name)) return undefined;
    return PREDEFINED_ENTITIES.get(name) ?? this.#fail(`The entity ${JSON.stringify(name.slice(0, 64))} is unknown`);
  }

  #open({ name, attributes }: sax.Tag): void {
    const parent = this.#frames.at(-1);
    if (!LEAF_NAMES.has(name) && !CONTAINER_NAMES.has(name)) {
      this.#fail(`The element ${JSON.stringify(name.slice(0, 64))} is unknown`);
    }
    if ((name === "marshal") !== (parent === undefined)) this.#fail("The element marshal is the root and nothing else");
    if (parent === undefined && this.#result !== undefined) this.#fail("A document has one root");
    if (parent !== undefined && LEAF_NAMES.has(parent.name)) this.#fail(`${parent.name} holds text only`);
    const nodesBefore = this.#nodeCount;
    this.#count(1);
    this.#frames.push({ name, attributes, children: [], nodesBefore, text: "", height: 1 });
    this.#checkDepth(0);
  }

  #close(): void {
    // The parser has refused a closing tag without its opening tag before this.
    const frame = this.#frames.pop()!;
    const value = this.#valueOf(frame);
    const identifier = frame.attributes.id;
    if (identifier !== undefined && frame.name !== "reference") {
      const nodeCount = this.#nodeCount - frame.nodesBefore;
      this.#finished.set(identifier, { value, nodeCount, height: frame.height });
    }
    const parent = this.#frames.at(-1);
    if (parent === undefined) {
      this.#result = value;
    } else {
      parent.children.push(value);
      parent.height = Math.max(parent.height, frame.height + 1);
    }
  }

  #text(text: string): void {
    const frame = this.#frames.at(-1);
    if (frame !== undefined && LEAF_NAMES.has(frame.name)) {
      frame.text += text;
    } else if (/[^ \t\r\n]/.test(text)) {
      this.#fail(`Text is not accepted ${frame === undefined ? "outside the root" : `in ${frame.name}`}`);
    }
  }

  #valueOf(frame: Frame): MarshalValue {
    const { name, children, text } = frame;
    switch (name) {
      case "marshal":
        if (children.length !== 1) this.#fail("marshal holds exactly one value");
        return children[0]!;
      case "string":
      case "unicode":
        return unescapeOnce(text);
      case "int":
      case "long":
        return this.#integer(text);
      case "bool":
        return Number(this.#integer(text)) !== 0;
      case "float":
        return new MarshalFloat(this.#float(text));
      case "none":
        if (text.trim() !== "") this.#fail("none holds no text");
        return null;
      case "reference":
        return this.#follow(frame);
      case "tuple":
        return new MarshalTuple(children);
      case "list":
        return children;
      case "set":
        return new Set(children.map((child) => (isMember(child) ? child : this.#fail("A set holds no collections"))));
      case "dictionary":
        return this.#dictionary(children);
      default:
        return this.#object(frame);
    }
  }

  #integer(text: string): number | bigint {
    const digits = text.trim();
    if (digits.length > MAXIMUM_INTEGER_DIGITS) this.#fail(`An integer has at most ${MAXIMUM_INTEGER_DIGITS} digits`);
    if (!/^[+-]?\d+$/.test(digits)) this.#fail(`${JSON.stringify(digits.slice(0, 64))} is no integer`);
    const value = Number(digits);
    // Adding zero turns -0, which is no integer of its own, into 0.
    return Number.isSafeInteger(value) ? value + 0 : BigInt(digits.replace(/^\+/, ""));
  }

  #float(text: string): number {
    const digits = text.trim().toLowerCase();
    const special = /^([+-]?)(inf|infinity|nan)$/.exec(digits);
    if (special) {
      if (special[2] === "nan") return Number.NaN;
      return special[1] === "-" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
    }
    if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/.test(digits)) {
      this.#fail(`${JSON.stringify(digits.slice(0, 64))} is no float`);
    }
    return Number(digits);
  }

  #follow(frame: Frame): MarshalValue {
    if (frame.text.trim() !== "") this.#fail("reference holds no text");
    // An element still being read is not among the finished ones, so a value cannot come to hold itself.
    const target = this.#finished.get(frame.attributes.id ?? "");
    if (target === undefined) this.#fail("A reference names no element that is complete before it");
    this.#count(target.nodeCount);
    this.#checkDepth(target.height);
    frame.height = target.height;
    return target.value;
  }

  #dictionary(children: readonly MarshalValue[]): Map<MarshalKey, MarshalValue> {
    if (children.length % 2 !== 0) this.#fail("A dictionary alternates keys and values");
    const dictionary = new Map<MarshalKey, MarshalValue>();
    for (let index = 0; index < children.length; index += 2) {
      const key = children[index]!;
      // Tuples and floats can be keys in Python; nobody sends them, and a Map would not find them again by value.
      if (!isKey(key)) this.#fail("The keys of a dictionary are none, booleans, integers and strings");
      dictionary.set(key, children[index + 1]!);
    }
    return dictionary;
  }

  #object({ attributes: { module, class: className }, children }: Frame): MarshalObject {
    const known = MARSHAL_CLASS_NAMES.find((name) => name === className);
    if (module !== MARSHAL_MODULE || known === undefined) this.#fail("Objects of this class are not accepted");
    const [constructorArguments, state] = children;
    // Since Python 3.11 an object without attributes is written with none in place of the dictionary.
    const attributes = state === null ? new Map<MarshalKey, MarshalValue>() : state;
    if (children.length !== 2 || !(constructorArguments instanceof MarshalTuple) || !(attributes instanceof Map)) {
      this.#fail("An object holds a tuple of arguments and a dictionary of attributes");
    }
    if (!hasTextKeys(attributes)) this.#fail("The attributes of an object have names");
    return new MarshalObject(known, constructorArguments.items, attributes);
  }

  #count(nodes: number): void {
    this.#nodeCount += nodes;
    if (this.#nodeCount > this.limits.nodeCount) {
      this.#fail(`The document holds more than ${this.limits.nodeCount} elements`);
    }
  }

  #checkDepth(more: number): void {
    if (this.#frames.length + more > this.limits.depth) {
      this.#fail(`The elements are nested deeper than ${this.limits.depth}`);
    }
  }
}

const PREDEFINED_ENTITIES = new Map([
  ["amp", "&"],
  ["lt", "<"],
  ["gt", ">"],
  ["quot", '"'],
  ["apos", "'"],
]);

/** The marshaller's own escaping, inside that of XML. It knows these three only. */
function unescapeOnce(text: string): string {
  return text.replace(/&(amp|lt|gt);/g, (_reference, name: string) => PREDEFINED_ENTITIES.get(name)!);
}

function isKey(value: MarshalValue): value is MarshalKey {
  return value === null || typeof value !== "object";
}

function isMember(value: MarshalValue): value is MarshalMember {
  if (value instanceof MarshalTuple) return value.items.every(isMember);
  return isKey(value) || value instanceof MarshalFloat || value instanceof MarshalObject;
}

function hasTextKeys(dictionary: Map<MarshalKey, MarshalValue>): dictionary is Map<string, MarshalValue> {
  return [...dictionary.keys()].every((key) => typeof key === "string");
}

/** A value that is met twice is written twice: a client resolves a reference to an object to an empty placeholder. */
export function dumps(value: DumpableValue): string {
  return new MarshalWriter().write(value);
}

/** A value to be put into other documents. It has no ids: only references need them, and none are written (§1.4). */
export function dumpsPart(value: DumpableValue): MarshalPart {
  return new MarshalPart(new MarshalWriter(false).writePart(value));
}

class MarshalWriter {
  #output = "";
  #identifier = 1;

  constructor(readonly isNumbered = true) {}

  write(value: DumpableValue): string {
    return `<marshal>${this.writePart(value)}</marshal>`;
  }

  writePart(value: DumpableValue): string {
    this.#value(value, 2);
    return this.#output;
  }

  #value(value: DumpableValue, depth: number): void {
    // Also what ends a value that holds itself.
    if (depth > MARSHAL_LIMITS.depth)
      throw new XmlMarshalError(`A value is nested deeper than ${MARSHAL_LIMITS.depth}`);
    switch (typeof value) {
      case "string":
        this.#output += `<string>${escapeTwice(value)}</string>`;
        return;
      case "boolean":
        this.#output += value ? "<bool>1</bool>" : "<bool>0</bool>";
        return;
      case "number":
        this.#number(value);
        return;
      case "bigint":
        this.#integer(value);
        return;
      case "object":
        if (value === null) this.#output += "<none/>";
        else this.#collection(value, depth);
        return;
      default:
        throw new XmlMarshalError(`A value of type ${typeof value} cannot be marshalled`);
    }
  }

  #number(value: number): void {
    if (Number.isSafeInteger(value)) {
      this.#output += `<int>${value}</int>`;
    } else if (Number.isInteger(value) || !Number.isFinite(value)) {
      throw new XmlMarshalError(`${value} is neither a safe integer nor a fraction: use a bigint or a MarshalFloat`);
    } else {
      this.#output += `<float>${pythonFloat(value)}</float>`;
    }
  }

  #integer(value: bigint): void {
    const name = -LONG_FROM < value && value < LONG_FROM ? "int" : "long";
    this.#output += `<${name}>${value}</${name}>`;
  }

  #collection(value: DumpableValue & object, depth: number): void {
    if (Array.isArray(value)) {
      this.#sequence("list", this.#nextIdentifier(), value, depth);
    } else if (value instanceof MarshalTuple) {
      this.#sequence("tuple", "", value.items, depth);
    } else if (value instanceof MarshalFloat) {
      this.#output += `<float>${pythonFloat(value.value)}</float>`;
    } else if (value instanceof MarshalObject) {
      this.#object(value, depth);
    } else if (value instanceof MarshalPart) {
      this.#output += value.xml;
    } else if (value instanceof Set) {
      this.#sequence("set", this.#nextIdentifier(), [...value], depth);
    } else if (value instanceof Map) {
      this.#dictionary(sortedEntries(value), depth);
    } else if (isRecord(value)) {
      this.#dictionary(sortedRecordEntries(value), depth);
    } else {
      throw new XmlMarshalError(`A value of class ${value.constructor.name} cannot be marshalled`);
    }
  }

  #sequence(name: string, attributes: string, items: readonly DumpableValue[], depth: number): void {
    if (items.length === 0) {
      this.#output += `<${name}${attributes}/>`;
      return;
    }
    this.#output += `<${name}${attributes}>`;
    for (const item of items) this.#value(item, depth + 1);
    this.#output += `</${name}>`;
  }

  /** Alternates keys and values. */
  #dictionary(entries: readonly DumpableValue[], depth: number): void {
    this.#sequence("dictionary", this.#nextIdentifier(), entries, depth);
  }

  #object({ className, constructorArguments, attributes }: MarshalObject, depth: number): void {
    this.#output += `<object${this.#nextIdentifier()} module="${MARSHAL_MODULE}" class="${className}">`;
    this.#sequence("tuple", "", constructorArguments, depth + 1);
    this.#value(attributes, depth + 1);
    this.#output += "</object>";
  }

  /** Python numbers lists, dictionaries, sets and objects in the order of their opening tags, from 2. */
  #nextIdentifier(): string {
    if (!this.isNumbered) return "";
    this.#identifier += 1;
    return ` id="i${this.#identifier}"`;
  }
}

/** Python writes `long` where the integer compares beyond the float 1e24, which is a little less than 10 to the 24th. */
const LONG_FROM = BigInt(1e24);

/** All but tab, line feed and printable ASCII, less the three characters that the marshaller escapes. */
const NOT_WRITTEN_AS_IT_IS = /[^\t\n\u0020-%'-;=?-\u007f]/u;
const EACH_NOT_WRITTEN_AS_IT_IS = new RegExp(NOT_WRITTEN_AS_IT_IS, "gu");

/** The marshaller escapes text once, and the XML serializer escapes the result. Characters that XML forbids are left out. */
function escapeTwice(text: string): string {
  return NOT_WRITTEN_AS_IT_IS.test(text) ? text.replace(EACH_NOT_WRITTEN_AS_IT_IS, escapeCharacter) : text;
}

function escapeCharacter(character: string): string {
  if (character === "&") return "&amp;amp;";
  if (character === "<") return "&amp;lt;";
  if (character === ">") return "&amp;gt;";
  const codePoint = character.codePointAt(0)!;
  if (codePoint >= 0xd800 && codePoint <= 0xdfff) return "&#65533;";
  return NOT_AN_XML_CHARACTER.test(character) ? "" : `&#${codePoint};`;
}

/** What Python's `str` makes of a float: the shortest digits that read back as it, as here, in another notation. */
export function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  if (Object.is(value, -0)) return "-0.0";
  const [mantissa = "", exponentText = ""] = value.toExponential().split("e");
  const exponent = Number(exponentText);
  if (value !== 0 && (exponent < -4 || exponent >= 16)) {
    return `${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

/** Python compares keys of different types by their representation: strings begin with a quote, numbers with a digit. */
function sortedEntries(dictionary: ReadonlyMap<MarshalKey, DumpableValue>): DumpableValue[] {
  return [...dictionary].sort(([left], [right]) => compareKeys(left, right)).flat();
}

function sortedRecordEntries(record: DumpableRecord): DumpableValue[] {
  const entries: DumpableValue[] = [];
  for (const key of Object.keys(record).sort(compareCodePoints)) entries.push(key, record[key]!);
  return entries;
}

function compareKeys(left: MarshalKey, right: MarshalKey): number {
  if (typeof left === "string" && typeof right === "string") return compareCodePoints(left, right);
  const rank = rankOf(left) - rankOf(right);
  if (rank !== 0 || left === null || right === null) return rank;
  return left < right ? -1 : left > right ? 1 : 0;
}

function rankOf(key: MarshalKey): number {
  if (typeof key === "string") return 0;
  return key === null ? 2 : 1;
}

/** JavaScript's own order compares UTF-16 units, in which surrogates come before U+E000 to U+FFFF. */
function compareCodePoints(left: string, right: string): number {
  if (left === right) return 0;
  const length = Math.min(left.length, right.length);
  for (let index = 0; index < length; index += 1) {
    const leftUnit = left.charCodeAt(index);
    const rightUnit = right.charCodeAt(index);
    if (leftUnit !== rightUnit) return pointOrder(leftUnit) - pointOrder(rightUnit);
  }
  return left.length - right.length;
}

function pointOrder(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

function isRecord(value: object): value is DumpableRecord {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
