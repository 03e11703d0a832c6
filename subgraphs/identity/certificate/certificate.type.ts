import { Directive, Field, GraphQLISODateTime, ID, InputType, ObjectType } from "type-graphql";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import { UserError } from "../../../common/user-error.type.js";
import { TokenKind } from "../token/token.type.js";

@ObjectType({ description: "A TLS client certificate that this master's authority signed for a node or an instance." })
@Directive('@key(fields: "id")')
export class Certificate {
  @Field(() => ID, { description: "Global id; its natural key is `certificate:` and the serial number." })
  id!: string;

  @Field({ description: "In hexadecimal." })
  serialNumber!: string;

  @Field(() => TokenKind, { description: "NODE or INSTANCE." })
  kind!: TokenKind;

  @Field({ description: "The computer's or the instance's reference." })
  subject!: string;

  @Field({ description: "The project it is good in." })
  project!: string;

  @Field(() => GraphQLISODateTime, { description: "When it was issued." })
  issuedAt!: Date;

  @Field(() => GraphQLISODateTime, { description: "When it stops being good by itself." })
  expiresAt!: Date;

  @Field(() => GraphQLISODateTime, { nullable: true, description: "When it was revoked; null while it was not." })
  revokedAt!: Date | null;
}

export const { ConnectionType: CertificateConnection } = connectionTypes("Certificate", () => Certificate);
export type CertificatePage = Connection<Certificate>;

@InputType({ description: "Which certificate to revoke." })
export class RevokeCertificateInput {
  @Field({ description: "The certificate's global id." })
  id!: string;
}

@ObjectType({ description: "What revokeCertificate did." })
export class RevokeCertificatePayload {
  @Field(() => Certificate, { nullable: true, description: "The revoked certificate, null if refused." })
  certificate!: Certificate | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
