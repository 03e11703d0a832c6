import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type DumpableValue,
  dumps,
  loads,
  MARSHAL_LIMITS,
  MarshalFloat,
  type MarshalKey,
  type MarshalMember,
  MarshalObject,
  MarshalTuple,
  type MarshalValue,
  XmlMarshalError,
} from "../../slap/xml-marshaller.js";

const asString = (wire: string): string => `<marshal><string>${wire}</string></marshal>`;
const asMarshal = (...wire: string[]): string => `<marshal>${wire.join("")}</marshal>`;
const dictionary = (entries: Record<string, MarshalValue>): Map<MarshalKey, MarshalValue> =>
  new Map(Object.entries(entries));

describe("samples of the protocol", () => {
  const samples: [string, DumpableValue, string][] = [
    ["false", false, "<marshal><bool>0</bool></marshal>"],
    ["true", true, "<marshal><bool>1</bool></marshal>"],
    ["none", null, "<marshal><none/></marshal>"],
    ["text", "stopped", "<marshal><string>stopped</string></marshal>"],
    ["empty text", "", "<marshal><string></string></marshal>"],
    ["an empty dictionary", new Map(), '<marshal><dictionary id="i2"/></marshal>'],
    ["an empty tuple", new MarshalTuple([]), "<marshal><tuple/></marshal>"],
    ["an empty set", new Set<MarshalMember>(), '<marshal><set id="i2"/></marshal>'],
    ["a list", ["http://sr"], '<marshal><list id="i2"><string>http://sr</string></list></marshal>'],
    [
      "a certificate",
      new Map([
        ["certificate", "C"],
        ["key", "K"],
      ]),
      '<marshal><dictionary id="i2"><string>certificate</string><string>C</string><string>key</string><string>K</string></dictionary></marshal>',
    ],
    ["an integer", 1700000000000000, "<marshal><int>1700000000000000</int></marshal>"],
    ["an integer that is not safe", 2n ** 63n, "<marshal><int>9223372036854775808</int></marshal>"],
    ["the greatest int", 999999999999999983222783n, "<marshal><int>999999999999999983222783</int></marshal>"],
    ["the least long", 999999999999999983222784n, "<marshal><long>999999999999999983222784</long></marshal>"],
    ["a long", 10n ** 24n, "<marshal><long>1000000000000000000000000</long></marshal>"],
  ];

  test.each(samples)("%s travels as Python writes it, and back", (_name, value, wire) => {
    expect(dumps(value)).toBe(wire);
    expect(loads(wire)).toEqual(value);
  });

  test("a computer with a busy partition, a free one and a release has the bytes of Python's", () => {
    expect(dumps(computer)).toBe(COMPUTER_WIRE);
    expect(dumps(loads(COMPUTER_WIRE))).toBe(COMPUTER_WIRE);
  });

  test("the reply to a request has the bytes of Python's", () => {
    expect(dumps(softwareInstance)).toBe(SOFTWARE_INSTANCE_WIRE);
    expect(dumps(loads(SOFTWARE_INSTANCE_WIRE))).toBe(SOFTWARE_INSTANCE_WIRE);
  });

  test.each([
    [1, "1.0"],
    [-0, "-0.0"],
    [0, "0.0"],
    [0.0001, "0.0001"],
    [0.00001, "1e-05"],
    [1.5e-7, "1.5e-07"],
    [1e15, "1000000000000000.0"],
    [1e16, "1e+16"],
    [1e300, "1e+300"],
    [Number.POSITIVE_INFINITY, "inf"],
    [Number.NEGATIVE_INFINITY, "-inf"],
    [Number.NaN, "nan"],
  ])("the float %d travels as Python's %s, and back", (value, wire) => {
    expect(dumps(new MarshalFloat(value))).toBe(asMarshal(`<float>${wire}</float>`));
    expect((loads(asMarshal(`<float>${wire}</float>`)) as MarshalFloat).value).toBe(value);
  });

  test("a fraction needs no wrapper to be a float", () => {
    expect(dumps(2.5)).toBe(asMarshal("<float>2.5</float>"));
  });

  test("the keys of a dictionary are sorted by code point, text before numbers before none", () => {
    const keys = [null, 10, 9, "b", "\u{1f600}", "\uffee", "a"];
    expect([...(loads(dumps(new Map(keys.map((key) => [key, 1])))) as Map<MarshalKey, MarshalValue>).keys()]).toEqual([
      "a",
      "b",
      "\uffee",
      "\u{1f600}",
      9,
      10,
      null,
    ]);
  });
});

describe("escaping", () => {
  test.each([
    ["a & b <c>", "a &amp;amp; b &amp;lt;c&amp;gt;"],
    ["&lt;", "&amp;amp;lt;"],
    ["&amp;lt;", "&amp;amp;amp;lt;"],
    ["&quot; ' \"", "&amp;amp;quot; ' \""],
    ["]]>", "]]&amp;gt;"],
    ["\té\u{1f600}\r\n\u0085\u007f", "\t&#233;&#128512;&#13;\n&#133;\u007f"],
  ])("the text %j is escaped twice, and back", (text, wire) => {
    expect(dumps(text)).toBe(asString(wire));
    expect(loads(asString(wire))).toBe(text);
    expect(dumps({ [text]: 1 })).toBe(
      `<marshal><dictionary id="i2"><string>${wire}</string><int>1</int></dictionary></marshal>`,
    );
  });

  test("text that was escaped once only is read as it was meant where that is unambiguous", () => {
    expect(loads(asString("a &amp; b &lt;c&gt; &quot;&apos;&#65;&#x42;"))).toBe("a & b <c> \"'AB");
  });

  test("CDATA sections are read as XML and then unescaped, comments are not read", () => {
    expect(loads(asString("a<![CDATA[<b> &amp; &amp;amp;]]>c<!-- d -->e"))).toBe("a<b> & &amp;ce");
  });

  test("characters that XML forbids are left out, and lone surrogates replaced", () => {
    expect(dumps("a\u0000\u0008\u001b[0m\ufffe\uffffb")).toBe(asString("a[0mb"));
    expect(dumps("a\ud800b\udc00")).toBe(asString("a&#65533;b&#65533;"));
  });

  test("line endings are read as line feeds, and a carriage return that is written as a reference is kept", () => {
    expect(loads(asString("a\r\nb\rc&#13;d"))).toBe("a\nb\nc\rd");
  });

  test("whitespace inside text is kept, and between elements ignored", () => {
    const wire =
      '\ufeff<?xml version="1.0"?>\n<marshal>\n <list id="i2">\n <string> a\n b </string> <int> 7 </int></list>\n</marshal>\n';
    expect(loads(wire)).toEqual([" a\n b ", 7]);
  });

  test("text longer than the parser's buffer arrives whole", () => {
    const text = "x".repeat(200_000);
    expect(loads(dumps(text))).toBe(text);
    expect(loads(asString(`<![CDATA[${text}]]>`))).toBe(text);
  });
});

describe("reading", () => {
  test("keys such as __proto__ are keys like any other", () => {
    const wire = dumps(JSON.parse('{"__proto__": {"polluted": true}, "constructor": 1}'));
    const read = loads(wire) as Map<MarshalKey, MarshalValue>;
    expect(read.get("__proto__")).toEqual(dictionary({ polluted: true }));
    expect(read.get("constructor")).toBe(1);
    expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
  });

  test("a reference is the value it names", () => {
    const wire =
      '<marshal><dictionary id="i2"><string>a</string><list id="i3"><int>1</int></list><string>b</string><reference id="i3"/></dictionary></marshal>';
    expect(loads(wire)).toEqual(dictionary({ a: [1], b: [1] }));
  });

  test("a value that is met twice is written twice", () => {
    const shared = [1];
    expect(dumps([shared, shared])).toBe(
      '<marshal><list id="i2"><list id="i3"><int>1</int></list><list id="i4"><int>1</int></list></list></marshal>',
    );
  });

  test("integers may have a sign and space around them", () => {
    expect(loads(asMarshal("<list><int> 12 </int><int>+5</int><int>-0</int><long>12</long></list>"))).toEqual([
      12, 5, 0, 12,
    ]);
  });

  test("identifiers are not needed", () => {
    expect(loads(asMarshal("<list><dictionary/><set/></list>"))).toEqual([new Map(), new Set()]);
  });

  test("the legacy unicode element is text", () => {
    expect(loads(asMarshal("<unicode>a</unicode>"))).toBe("a");
  });

  test("an object that Python wrote without attributes has none", () => {
    const wire = asMarshal(
      '<object id="i2" module="slapos.slap.slap" class="SoftwareInstance"><tuple/><none/></object>',
    );
    expect(loads(wire)).toEqual(new MarshalObject("SoftwareInstance", [], new Map()));
  });
});

describe("refusals", () => {
  const object = (module: string, name: string, content: string) =>
    asMarshal(`<object module="${module}" class="${name}">${content}</object>`);

  test.each([
    ["an empty document", ""],
    ["text", "hello"],
    ["an empty marshal", "<marshal/>"],
    ["two values", asMarshal("<none/>", "<none/>")],
    ["two roots", "<marshal><none/></marshal><marshal><none/></marshal>"],
    ["another root", "<int>1</int>"],
    ["a marshal inside", asMarshal("<marshal><none/></marshal>")],
    ["an element that is not closed", "<marshal><none/>"],
    ["an element that is closed by another", "<marshal><none></marshal></none>"],
    ["an unknown element", asMarshal("<code>x</code>")],
    ["an element named as a property of objects", asMarshal("<constructor/>")],
    ["an unknown attribute", asMarshal('<list hasOwnProperty="1" id="i2"/>')],
    ["a value inside text", asMarshal("<string>a<int>1</int></string>")],
    ["text between elements", asMarshal("<list>a</list>")],
    ["text after the root", "<marshal><none/></marshal>x"],
    ["text in none", asMarshal("<none>x</none>")],
    ["a document type", "<!DOCTYPE marshal><marshal><none/></marshal>"],
    ["a document type that is not closed", "<!DOCTYPE marshal [<marshal><none/></marshal>"],
    ["entities of its own", `<!DOCTYPE m [<!ENTITY e "x">]>${asString("&e;")}`],
    ["an entity that is not declared", asString("&e;")],
    ["an entity of HTML", asString("&eacute;")],
    ["an entity in capitals", asString("&AMP;")],
    ["an entity named as a property of objects", asString("&constructor;")],
    ["a bare ampersand", asString("a & b")],
    ["a reference to a control character", asString("&#1;")],
    ["a reference to a surrogate", asString("&#xD800;")],
    ["a reference beyond Unicode", asString("&#1114112;")],
    ["a control character", asString("\u001b")],
    ["a lone surrogate", asString("\ud800")],
    ["a processing instruction", `<?php x?>${asMarshal("<none/>")}`],
    ["a prolog that is not the first", ` <?xml version="1.0"?>${asMarshal("<none/>")}`],
    ["a class that is not allowed", object("slapos.slap.slap", "slap", "<tuple/><dictionary/>")],
    ["a module that is not allowed", object("os", "Computer", "<tuple/><dictionary/>")],
    ["an object without arguments", object("slapos.slap.slap", "Computer", "<dictionary/>")],
    ["an object with three children", object("slapos.slap.slap", "Computer", "<tuple/><dictionary/><none/>")],
    [
      "an attribute without a name",
      object("slapos.slap.slap", "Computer", "<tuple/><dictionary><int>1</int><int>1</int></dictionary>"),
    ],
    ["a key without a value", asMarshal("<dictionary><string>a</string></dictionary>")],
    ["a list as key", asMarshal("<dictionary><list/><none/></dictionary>")],
    ["a list in a set", asMarshal("<set><tuple><list/></tuple></set>")],
    ["an integer that is none", asMarshal("<int>1x</int>")],
    ["an empty integer", asMarshal("<int/>")],
    ["an endless integer", asMarshal(`<int>${"9".repeat(5000)}</int>`)],
    ["a float that is none", asMarshal("<float>0x10</float>")],
    ["a boolean that is none", asMarshal("<bool>true</bool>")],
    ["a reference to nothing", asMarshal('<reference id="i9"/>')],
    ["a reference without a name", asMarshal("<reference/>")],
    ["a list that holds itself", asMarshal('<list id="i2"><reference id="i2"/></list>')],
  ])("%s is refused as what it is", (_name, wire) => {
    expect(() => loads(wire)).toThrow(XmlMarshalError);
  });

  test("a refusal says where", () => {
    expect(() => loads(asMarshal("<int>x</int>"))).toThrow(/"x" is no integer \(at character \d+\)/);
  });

  test.each([
    ["undefined", undefined],
    ["a function", () => 1],
    ["a date", new Date(0)],
    ["an infinite number", Number.POSITIVE_INFINITY],
    ["a number that lost its digits", 2 ** 60],
    ["a record with an undefined value", { a: undefined }],
  ])("%s is not written", (_name, value) => {
    expect(() => dumps(value as DumpableValue)).toThrow(XmlMarshalError);
  });

  test("a value that holds itself is not written", () => {
    const list: DumpableValue[] = [];
    list.push(list, list);
    expect(() => dumps(list)).toThrow(XmlMarshalError);
  });
});

describe("limits", () => {
  const nested = (levels: number): string => asMarshal("<list>".repeat(levels), "</list>".repeat(levels));

  test("a document at the limit of each kind is read, and one beyond is refused", () => {
    expect(loads("<marshal><none/></marshal>", { ...MARSHAL_LIMITS, lengthCharacters: 26 })).toBe(null);
    expect(() => loads("<marshal><none/></marshal>", { ...MARSHAL_LIMITS, lengthCharacters: 25 })).toThrow(
      "25 characters",
    );
    expect(loads(nested(MARSHAL_LIMITS.depth - 1))).toBeInstanceOf(Array);
    expect(() => loads(nested(MARSHAL_LIMITS.depth))).toThrow("nested deeper");
    expect(loads(asMarshal("<tuple><none/></tuple>"), { ...MARSHAL_LIMITS, nodeCount: 3 })).toBeInstanceOf(
      MarshalTuple,
    );
    expect(() => loads(asMarshal("<tuple><none/><none/></tuple>"), { ...MARSHAL_LIMITS, nodeCount: 3 })).toThrow(
      "more than 3 elements",
    );
  });

  test("references that multiply count as much as what they stand for", () => {
    const levels = Array.from({ length: 9 }, (_, level) =>
      level === 0
        ? '<list id="i0"><none/></list>'
        : `<list id="i${level}">${`<reference id="i${level - 1}"/>`.repeat(10)}</list>`,
    );
    expect(() => loads(asMarshal("<tuple>", ...levels, "</tuple>"))).toThrow("elements");
  });

  test("references that nest count as deep as what they stand for", () => {
    const levels = Array.from({ length: 100 }, (_, level) =>
      level === 0 ? '<list id="i0"/>' : `<list id="i${level}"><reference id="i${level - 1}"/></list>`,
    );
    expect(() => loads(asMarshal("<tuple>", ...levels, "</tuple>"))).toThrow("nested deeper");
  });
});

describe("any value", () => {
  const text = fc.string({ unit: "binary" }).filter((candidate) => candidate === dumpable(candidate));
  const integer = fc.oneof(
    fc.maxSafeInteger(),
    fc.bigInt().filter((value) => !Number.isSafeInteger(Number(value))),
  );
  const float = fc.double().map((value) => new MarshalFloat(value));
  const key = fc.oneof(text, fc.integer(), fc.constant(null));
  const { value } = fc.letrec<{ value: MarshalValue }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 5 },
      fc.oneof(text, integer, float, fc.boolean(), fc.constant(null)),
      fc.array(tie("value"), { maxLength: 4 }),
      fc.array(tie("value"), { maxLength: 4 }).map((items) => new MarshalTuple(items)),
      fc.uniqueArray(text, { maxLength: 4 }).map((items) => new Set<MarshalMember>(items)),
      fc.array(fc.tuple(key, tie("value")), { maxLength: 4 }).map((entries) => new Map(entries)),
    ),
  }));

  test("comes back as it was written, in pure ASCII", () => {
    fc.assert(
      fc.property(value, (original) => {
        const wire = dumps(original);
        expect(wire).toMatch(/^[\t\n\u0020-\u007f]*$/);
        expect(loads(wire)).toEqual(original);
      }),
      { numRuns: 1000 },
    );
  });

  test("no text whatever ends in another error than XmlMarshalError", () => {
    const pieces = fc.constantFrom(
      "<",
      ">",
      "/",
      "&",
      ";",
      "marshal",
      "list",
      "string",
      "!",
      "[CDATA[",
      "]]>",
      "--",
      "?",
      "=",
      '"',
      "id",
      " ",
      "#1",
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 40 }), (parts) => {
        try {
          loads(parts.join(""));
        } catch (err) {
          expect(err).toBeInstanceOf(XmlMarshalError);
        }
      }),
      { numRuns: 5000 },
    );
  });
});

/** What remains of a text on the wire: characters that XML forbids are left out, lone surrogates replaced. */
function dumpable(text: string): string {
  return loads(dumps(text)) as string;
}

const release = new MarshalObject("SoftwareRelease", ["http://x/software.cfg", "COMP-1"], {
  _software_release: "http://x/software.cfg",
  _computer_guid: "COMP-1",
  _software_instance_list: [],
});

const computer = new MarshalObject("Computer", ["COMP-1"], {
  _computer_id: "COMP-1",
  _software_release_list: [
    new MarshalObject("SoftwareRelease", ["http://x/software.cfg", "COMP-1"], {
      ...release.attributes,
      _requested_state: "available",
    }),
  ],
  _computer_partition_list: [
    new MarshalObject("ComputerPartition", ["COMP-1", "slappart0", null], {
      _computer_id: "COMP-1",
      _partition_id: "slappart0",
      _request_dict: null,
      _need_modification: 1,
      _requested_state: "started",
      _access_status: "#access Instance correctly started",
      _instance_guid: "SOFTINST-1",
      _connection_dict: { url: "http://[::1]/" },
      _filter_dict: { computer_guid: "COMP-1" },
      _software_release_document: release,
      _parameter_dict: {
        _: '{"a": 1}',
        timestamp: 1700000000000000,
        ip_list: [new MarshalTuple(["slaptap0", "10.0.0.2"]), new MarshalTuple(["slaptap0", "2001:db8::2"])],
        full_ip_list: [],
        instance_title: "my",
        root_instance_title: "my",
        slap_computer_id: "COMP-1",
        slap_computer_partition_id: "slappart0",
        slap_software_release_url: "http://x/software.cfg",
        slap_software_type: "default",
        slave_instance_list: [
          {
            slave_title: "s1",
            slave_reference: "SOFTINST-2",
            slap_software_type: "default",
            timestamp: 12,
            x: "a & b <c>",
          },
        ],
      },
    }),
    new MarshalObject("ComputerPartition", ["COMP-1", "slappart1", null], {
      _computer_id: "COMP-1",
      _partition_id: "slappart1",
      _request_dict: null,
      _need_modification: 0,
      _requested_state: "destroyed",
      _software_release_document: null,
    }),
  ],
});

const softwareInstance = new MarshalObject("SoftwareInstance", [], {
  slap_computer_id: "COMP-1",
  slap_computer_partition_id: "slappart0",
  slap_software_release_url: "http://x/software.cfg",
  slap_software_type: "default",
  ip_list: [new MarshalTuple(["slaptap0", "10.0.0.2"])],
  _requested_state: "started",
  _instance_guid: "SOFTINST-1",
  _connection_dict: { url: "é" },
  _parameter_dict: { _: "{}" },
});

/** Python's own output; the line breaks were put in to read it. */
const COMPUTER_WIRE = `
<marshal><object id="i2" module="slapos.slap.slap" class="Computer"><tuple><string>COMP-1</string></tuple>
<dictionary id="i3"><string>_computer_id</string><string>COMP-1</string>
<string>_computer_partition_list</string><list id="i4">
 <object id="i5" module="slapos.slap.slap" class="ComputerPartition">
  <tuple><string>COMP-1</string><string>slappart0</string><none/></tuple><dictionary id="i6">
  <string>_access_status</string><string>#access Instance correctly started</string>
  <string>_computer_id</string><string>COMP-1</string>
  <string>_connection_dict</string><dictionary id="i7"><string>url</string><string>http://[::1]/</string></dictionary>
  <string>_filter_dict</string><dictionary id="i8"><string>computer_guid</string><string>COMP-1</string></dictionary>
  <string>_instance_guid</string><string>SOFTINST-1</string>
  <string>_need_modification</string><int>1</int>
  <string>_parameter_dict</string><dictionary id="i9"><string>_</string><string>{"a": 1}</string>
   <string>full_ip_list</string><list id="i10"/><string>instance_title</string><string>my</string>
   <string>ip_list</string><list id="i11"><tuple><string>slaptap0</string><string>10.0.0.2</string></tuple>
     <tuple><string>slaptap0</string><string>2001:db8::2</string></tuple></list>
   <string>root_instance_title</string><string>my</string><string>slap_computer_id</string><string>COMP-1</string>
   <string>slap_computer_partition_id</string><string>slappart0</string>
   <string>slap_software_release_url</string><string>http://x/software.cfg</string>
   <string>slap_software_type</string><string>default</string>
   <string>slave_instance_list</string><list id="i12"><dictionary id="i13">
     <string>slap_software_type</string><string>default</string><string>slave_reference</string><string>SOFTINST-2</string>
     <string>slave_title</string><string>s1</string><string>timestamp</string><int>12</int>
     <string>x</string><string>a &amp;amp; b &amp;lt;c&amp;gt;</string></dictionary></list>
   <string>timestamp</string><int>1700000000000000</int></dictionary>
  <string>_partition_id</string><string>slappart0</string><string>_request_dict</string><none/>
  <string>_requested_state</string><string>started</string>
  <string>_software_release_document</string><object id="i14" module="slapos.slap.slap" class="SoftwareRelease">
   <tuple><string>http://x/software.cfg</string><string>COMP-1</string></tuple><dictionary id="i15">
   <string>_computer_guid</string><string>COMP-1</string><string>_software_instance_list</string><list id="i16"/>
   <string>_software_release</string><string>http://x/software.cfg</string></dictionary></object></dictionary></object>
 <object id="i17" module="slapos.slap.slap" class="ComputerPartition">
  <tuple><string>COMP-1</string><string>slappart1</string><none/></tuple><dictionary id="i18">
  <string>_computer_id</string><string>COMP-1</string><string>_need_modification</string><int>0</int>
  <string>_partition_id</string><string>slappart1</string><string>_request_dict</string><none/>
  <string>_requested_state</string><string>destroyed</string>
  <string>_software_release_document</string><none/></dictionary></object></list>
<string>_software_release_list</string><list id="i19">
 <object id="i20" module="slapos.slap.slap" class="SoftwareRelease"><tuple><string>http://x/software.cfg</string><string>COMP-1</string></tuple>
 <dictionary id="i21"><string>_computer_guid</string><string>COMP-1</string><string>_requested_state</string><string>available</string>
 <string>_software_instance_list</string><list id="i22"/><string>_software_release</string><string>http://x/software.cfg</string></dictionary></object></list>
</dictionary></object></marshal>
`.replace(/\n\s*/g, "");

const SOFTWARE_INSTANCE_WIRE = `
<marshal><object id="i2" module="slapos.slap.slap" class="SoftwareInstance"><tuple/><dictionary id="i3">
<string>_connection_dict</string><dictionary id="i4"><string>url</string><string>&#233;</string></dictionary>
<string>_instance_guid</string><string>SOFTINST-1</string><string>_parameter_dict</string><dictionary id="i5"><string>_</string><string>{}</string></dictionary>
<string>_requested_state</string><string>started</string>
<string>ip_list</string><list id="i6"><tuple><string>slaptap0</string><string>10.0.0.2</string></tuple></list>
<string>slap_computer_id</string><string>COMP-1</string><string>slap_computer_partition_id</string><string>slappart0</string>
<string>slap_software_release_url</string><string>http://x/software.cfg</string><string>slap_software_type</string><string>default</string>
</dictionary></object></marshal>
`.replace(/\n\s*/g, "");
