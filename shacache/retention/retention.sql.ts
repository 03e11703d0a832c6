/**
 * The rules of retention as conditions of SQL, so that the preview, the collection and its second look before each removal
 * cannot differ.
 */

/** A client that has just found a blob will enter it into the directory without sending it again: so long it is kept. */
const grace = "interval '1 hour'";

/** Nothing takes these entries away, nor their blobs: what is pinned, and what a release that somebody needs is built of. */
const isKept = (entry: string) =>
  `(${entry}.is_pinned or exists (select 1 from shacache.release_use as used where used.url = ${entry}.release_url))`;

/** Beyond the newest of its key, by the policy of its project. */
const isRetired = (entry: string) => `(not ${isKept(entry)} and exists (
  select 1 from shacache.cache_policy as rule where rule.project = ${entry}.project and rule.newest_per_key <= (
    select count(*) from shacache.directory_entry as newer
    where md5(newer.key) = md5(${entry}.key) and newer.key = ${entry}.key and newer.project = ${entry}.project
      and newer.sequence > ${entry}.sequence)))`;

const entriesOf = (artifact: string, condition: string) =>
  `exists (select 1 from shacache.directory_entry as entry where entry.sha512 = ${artifact}.sha512 and ${condition})`;

const lastUse = "greatest(artifact.renewed_at, coalesce(artifact.last_read_at, artifact.renewed_at))";
const isOld = "artifact.renewed_at < present.time - make_interval(days => policy.max_age_days)";
const isUnread = `${lastUse} < present.time - make_interval(days => policy.max_unread_days)`;
const hasOnlyRetired = `(${entriesOf("artifact", "true")} and not ${entriesOf("artifact", `not ${isRetired("entry")}`)})`;

/** What would go, and by which rule. Its one parameter is the present time; conditions may be added at its end. */
export const collectable = `select artifact.sha512, artifact.location, artifact.size_bytes, artifact.project,
    case when ${isOld} then 'AGE' when ${isUnread} then 'UNREAD' else 'NEWEST_PER_KEY' end as rule
  from (select ?::timestamptz as time) as present, shacache.artifact as artifact
  join shacache.cache_policy as policy on policy.project = artifact.project
  where not artifact.is_pinned and ${lastUse} < present.time - ${grace}
    and not ${entriesOf("artifact", isKept("entry"))}
    and (${isOld} or ${isUnread} or ${hasOnlyRetired})`;

/** Entries that go without their blob, because another entry holds it or it is not here. */
export const deleteRetiredEntries = `delete from shacache.directory_entry as entry where ${isRetired("entry")} and (
    not exists (select 1 from shacache.artifact as artifact where artifact.sha512 = entry.sha512)
    or exists (select 1 from shacache.directory_entry as other
      where other.sha512 = entry.sha512 and not ${isRetired("other")}))`;
