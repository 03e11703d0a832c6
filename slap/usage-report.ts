import sax from "sax";
import { AppError } from "../common/errors.js";

const maxDepth = 32;

/** The text of a usage report if it is TioXML: well-formed, a `journal`, and without a document type. MALFORMED_XML otherwise. */
export function checkUsageReport(text: string): string {
  const parser = sax.parser(true);
  let depth = 0;
  let root: string | null = null;
  const refuse = (why: string): never => {
    throw new AppError("MALFORMED_XML", `The usage report is not TioXML: ${why}.`);
  };
  parser.onerror = () => refuse("it is not well-formed");
  parser.ondoctype = () => refuse("it has a document type");
  parser.onopentag = ({ name }) => {
    root ??= name;
    if (++depth > maxDepth) refuse("it is too deep");
  };
  parser.onclosetag = () => {
    depth--;
  };
  parser.write(text).close();
  if (root !== "journal") refuse("its root is not a journal");
  return text;
}
