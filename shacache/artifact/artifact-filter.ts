import { raw } from "@mikro-orm/core";

/** Each that is given narrows the list. */
export interface ArtifactFilterValues {
  project?: string | null;
  uploadedBy?: string | null;
  key?: string | null;
  releaseUrl?: string | null;
  unreadSince?: Date | null;
  minSizeBytes?: number | null;
  isPinned?: boolean | null;
}

/** As conditions of MikroORM. */
export function conditionsOf(filter: ArtifactFilterValues): object[] {
  const { project, uploadedBy, key, releaseUrl, unreadSince, minSizeBytes, isPinned } = filter;
  return [
    project == null ? {} : { project },
    uploadedBy == null ? {} : { uploadedBy },
    key == null ? {} : { sha512: { $in: entriesWith("md5(key) = md5(?) and key = ?", [key, key]) } },
    releaseUrl == null ? {} : { sha512: { $in: entriesWith("release_url = ?", [releaseUrl]) } },
    unreadSince == null ? {} : { $or: [{ lastReadAt: null }, { lastReadAt: { $lt: unreadSince } }] },
    minSizeBytes == null ? {} : { sizeBytes: { $gte: minSizeBytes } },
    isPinned == null ? {} : { isPinned },
  ];
}

function entriesWith(condition: string, values: string[]) {
  return raw(`(select sha512 from shacache.directory_entry where ${condition})`, values);
}
