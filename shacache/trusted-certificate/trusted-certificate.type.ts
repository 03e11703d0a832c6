import { Directive, Field, GraphQLISODateTime, ID, InputType, ObjectType } from "type-graphql";
import { type Connection, connectionTypes } from "../../common/pagination.type.js";
import { UserError } from "../../common/user-error.type.js";

@ObjectType({
  description:
    "A certificate that a project trusts to sign directory entries, as nodes list it in `signature-certificate-list`. Only its key counts; its dates are not checked, as the nodes do not.",
})
@Directive('@key(fields: "id")')
export class TrustedCertificate {
  @Field(() => ID, { description: "Global id; its natural key is the project, a space, and the fingerprint." })
  id!: string;

  @Field({ description: "The project that trusts it." })
  project!: string;

  @Field({ description: "What its owner calls it; by default its subject." })
  title!: string;

  @Field({ description: "The SHA-256 of the certificate, 64 lower-case hexadecimal digits." })
  fingerprint!: string;

  @Field({ description: "The certificate in PEM." })
  certificate!: string;

  @Field(() => GraphQLISODateTime, { description: "Since when it is trusted." })
  createdAt!: Date;

  @Field({ description: "The subject of who trusted it." })
  createdBy!: string;

  @Field(() => GraphQLISODateTime, {
    nullable: true,
    description: "When an owner trusted it no longer; null while it is trusted.",
  })
  distrustedAt!: Date | null;
}

export const { ConnectionType: TrustedCertificateConnection } = connectionTypes(
  "TrustedCertificate",
  () => TrustedCertificate,
);
export type TrustedCertificatePage = Connection<TrustedCertificate>;

@InputType({ description: "A certificate to trust." })
export class TrustCertificateInput {
  @Field({ description: "In PEM, with an RSA key. Up to 32,768 characters." })
  certificate!: string;

  @Field(() => String, { nullable: true, description: "Up to 200 characters. Default: its subject." })
  title?: string | null;

  @Field(() => String, { nullable: true, description: "For the administrator: which project. Default: `main`." })
  project?: string | null;
}

@InputType({ description: "A certificate to trust no longer." })
export class DistrustCertificateInput {
  @Field({ description: "The trusted certificate's global id." })
  id!: string;
}

@ObjectType({ description: "What trustCertificate or distrustCertificate did." })
export class TrustedCertificatePayload {
  @Field(() => TrustedCertificate, { nullable: true, description: "The certificate, null if refused." })
  trustedCertificate!: TrustedCertificate | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
