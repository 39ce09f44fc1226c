"""Every bound in one place. Each is a fact that the docs name and a test holds.

Sizes are bytes and times are seconds unless the name says otherwise. What a user may want to
change is a setting (config.py) whose default stands here.
"""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# Names
KEY_BYTES_MAX = 1024  # UTF-8 bytes of an entry's key
BUCKET_BYTES_MAX = 63
METADATA_BYTES_MAX = 8 * KIB  # names and values of one entry together
METADATA_ITEMS_MAX = 64
TYPE_BYTES_MAX = 255  # a content type

# Policies
VERSIONS_MAX = 10_000  # of one name that a policy may keep
POLICY_TYPES_MAX = 100  # patterns of content types in one policy
WHOLE_MAX = 1 << 60  # the largest number of bytes, entries or seconds in a policy
UNDELETE_S = 86_400  # in which a deleted name can be restored, a setting
EXPIRE_S_MAX = 100 * 366 * 86_400  # until a name goes by itself
KEY_BUCKETS_MAX = 100  # that one API key is for
KEY_NETWORKS_MAX = 100  # that one API key may be used from
LABEL_BYTES_MAX = 200  # of a key
CALLERS_KEPT_MAX = 10_000  # API keys that are held in memory
TERMS_KEPT_MAX = 10_000  # buckets whose policies are held in memory
OWN_BUCKETS_KEPT_MAX = 100  # of a caller, with what its key allows there

# Writes that nobody waits for

QUEUED_WRITES_MAX = 10_000
QUEUED_BYTES_MAX = 64 * MIB  # of their blobs in memory

# Rates
RATE_S_MIN = 0.001  # requests or bytes a second, and seconds of a burst
RATE_S_MAX = 1_000_000_000_000
RATE_BURST_S = 2  # of a rate that may come at once, a setting
RATE_BURST_S_MAX = 86_400
RATE_DEBT_S_MAX = 86_400  # of a rate that one request may take beyond the burst
METERS_MAX = 65_536  # of addresses, keys and owners, that are kept at once
AUTH_FAILURES_MINUTE = 1000  # of one address, a setting
NETWORKS_MAX = 1000  # in one setting

# Presigned URLs
PRESIGN_S = 3600  # for which one is good, unless it says
PRESIGN_S_MAX = 7 * 86_400
PRESIGN_SKEW_S = 300  # that the clock of who signs may be ahead

# Calls
BATCH_REFS_MAX = 1000  # refs in one call for many
ADMIN_BODY_BYTES_MAX = 64 * KIB  # a request to the admin face
BATCH_BODY_BYTES_MAX = 4 * MIB  # a request for many things: 1,000 long keys in JSON
READ_AHEAD_BYTES = 4 * MIB  # of blobs that one such call holds before they are asked for
LIST_LIMIT_MAX = 1000  # entries in one page
LIST_LIMIT_DEFAULT = 100
COMPARES_MAX = 64  # of one commit
WRITES_MAX = 64
KV_KEY_BYTES_MAX = 4 * KIB
KV_VALUE_BYTES_MAX = 256 * KIB
SNIFF_BYTES = 512  # looked at to guess a content type
RANGES_MAX = 64  # in one Range header; more are ignored and the whole blob is sent

# The trail of admins
AUDIT_DAYS = 400  # for which it is kept, a setting
TRAIL_ROWS_MAX = 100_000  # kept of what was done
TRAIL_REFUSED_MAX = 10_000  # kept of what was refused
TRAIL_SCAN_MAX = 10_000  # looked at for one page
TRAIL_REFUSALS_BURST = 20  # kept at once by one process; each for those with a key and without
TRAIL_REFUSAL_S = 10  # from one that is kept to the next, behind that

# Webhooks
WEBHOOKS_MAX = 200  # of a store: as many threads, if all their receivers hang
WEBHOOKS_OWNER_MAX = 20
WEBHOOK_URL_BYTES_MAX = 2000
WEBHOOK_WAIT_S = 15  # for the whole answer of a receiver, a setting
WEBHOOK_RETRY_S = 1  # until a message is sent again; doubles with each failure
WEBHOOK_RETRY_S_MAX = 3600  # also of what a receiver may ask for (Retry-After)
WEBHOOK_GIVE_UP_S = 86_400  # for which a message waits while its receiver fails, a setting
WEBHOOK_OVERLAP_S = 86_400  # for which a secret signs on that was rotated, unless asked
WEBHOOK_OVERLAP_S_MAX = 30 * 86_400
WEBHOOK_ANSWER_BYTES_MAX = 16 * KIB  # read of the body of an answer
WEBHOOK_PINGS_MAX = 2  # tests under way at once in one process
DEAD_LETTERS_MAX = 1000  # kept of one webhook; the oldest go first

# The log
SMALL_BLOB_BYTES_MAX = 256 * KIB  # larger blobs become files of their own
SEGMENT_BYTES_MAX = 256 * MIB
SEGMENT_ALLOCATE_BYTES = 16 * MIB  # reserved ahead, so that a sync writes no file size
BATCH_BYTES_MAX = 8 * MIB  # appended by one group commit
RESERVE_BYTES = 4 * MIB  # of space: deletes may use half, compaction all
INDEX_RESERVE_BYTES = 16 * MIB  # ahead of what the index uses; less while it is small
COMPACT_STEP_BYTES = 256 * KIB  # of a segment, moved in one batch
COMPACT_DEAD_BYTES_MIN = 64 * KIB  # for less, no segment is compacted
COMPACT_DEAD_SHARE = 0.5  # of a segment, from which it is compacted in the background
COMPACT_BYTES_S_MAX = 32 * MIB  # in the background
LEAVE_AGAIN_S = 1  # between two segments that are left because the disk failed
BATCH_JOBS_MAX = 1024
QUEUE_JOBS_MAX = 8192  # waiting for the log; more answer 503
INDEX_MAP_BYTES = 1 << 40  # address space of the index, not memory and not disk
TORN_FILES_MAX = 16  # tails that crashes cut short, kept for people to look at
TORN_BYTES_MAX = 64 * MIB  # all of them together
DAMAGES_MAX = 1000  # places that a recovery names; all are counted
DAMAGE_EVENTS_MAX = 100  # of them that it tells an event for
PROGRESS_S = 1  # between two events about how far something is
HINTS_MAX = 256  # merged at once when an index is made again
CHUNK_BYTES = MIB  # one checksum of a large blob; one step of every stream
VERIFY_AGAIN_S = 3600  # a chunk served by sendfile is verified again after this
OPEN_FILES_MAX = 512  # descriptors kept by one store

# Blobs in another form
FRAME_BYTES = 256 * KIB  # of a blob that are compressed or encrypted together
DISKS_MAX = 64  # over which the large blobs of one store are spread
DISK_WEIGHT_MAX = 1000
PASS_OVER_S = 60  # for which a member of a spread store is tried last that refused something
VERIFIED_REFS_MAX = 100_000  # remembered to be sound by a store that verifies
SORTED_REFS_MAX = 50_000  # held to give out in order what lies in another
COMPRESS_LEVEL = 3  # of zstd, a setting
CODED_BYTES_MIN = KIB  # of a blob that is compressed on its way to a client
CODED_BYTES_MAX = MIB
DICTIONARY_BYTES_MAX = MIB
DICTIONARY_BYTES = 112 * KIB  # of one that is trained
DICTIONARY_BLOB_BYTES_MAX = 64 * KIB  # larger blobs gain nothing by a dictionary
# Object stores
OBJECT_PART_BYTES = 8 * MIB  # of a blob in one object; larger ones are uploaded in parts
OBJECT_PARTS_AHEAD = 2  # parts of one upload on their way at once
OBJECT_WINDOW_BYTES = 4 * MIB  # fetched by one request of a reader
OBJECT_HEADS_BYTES_MAX = 16 * MIB  # of memory for what is known of blobs read lately
OBJECT_THREADS = 16  # requests of one store at once, beside those of its callers
OBJECT_REQUEST_S = 120  # for one request: 8 MiB at 70 KB/s
OBJECT_TRIES_MAX = 6  # of one request
OBJECT_RETRY_S = 0.1  # until the second; doubles with each failure
OBJECT_RETRY_S_MAX = 5
OBJECT_WAIT_S = 240  # for all tries together, less what the last one takes
OBJECT_LOOK_S = 10  # for one answer, and for all tries less the last, to find out whose it is
OBJECT_AWAY_S = 5  # until that is asked again of one that did not answer
OBJECT_SKEW_S = 900  # by which its clock may differ from ours before it refuses requests
OBJECT_DOUBT_S = 900  # for which a request without an answer may still come
OBJECT_DOUBTS_MAX = 10_000  # removals without an answer; more are refused
OBJECT_AGES_MAX = 100_000  # blobs of which it is remembered since when they are there

# The cold store
COLD_AFTER_S = 30 * 86_400  # since a blob was stored, until it is moved there, a setting
COLD_AFTER_S_MAX = 100 * 366 * 86_400
COLD_BATCH_BYTES = 8 * MIB  # of blobs that are moved together, at most `WRITES_MAX`
COLD_BYTES_S_MAX = 16 * MIB  # read and sent in the background
COLD_EVERY_S = 600  # from looking for old blobs to the next time
COLD_THREADS = 8  # small blobs moved at once

# Shards
SHARDS_MAX = 256  # files of one store
ROUTED_KEYS_MAX = 256  # of which it is remembered in which file they are
BATCH_WAIT_MS_MAX = 60_000  # for more writes to commit together
ROW_BYTES_MAX = 256 * KIB  # of a blob in one row
HISTORY_REVISIONS_MAX = 250_000  # for which events can be read again
CHECKPOINT_BYTES = 16 * MIB  # of a write-ahead log, from which it is brought into the file
VACUUM_STEP_BYTES = MIB  # given back to the disk by one step

# Looking after a store
STEP_BYTES_MAX = MIB  # read and written by one step of a task
HINT_BYTES_S_MAX = 32 * MIB  # read and written for hints in the background
TASK_RETRY_S = 1  # until a step that failed is tried again; doubles with each failure
TASK_RETRY_S_MAX = 600
SCRUB_DAYS = 30  # in which a pass reads everything, a setting; 0 means never
SCRUB_BYTES_S_MIN = MIB  # a small store is read faster than it must be
SCRUB_BYTES_S_MAX = 32 * MIB  # a setting
SWEEP_EVERY_S = 600  # a setting; 0 means never
SWEEP_GRACE_S = 3600  # a blob without a name is kept so long, a setting
SWEEP_REFS_MAX = 250_000  # removed by one sweep; the rest waits for the next
PROTECTION_S = 300  # for which a prepared blob is kept, if nobody says what became of its name
PROTECTED_REFS_MAX = 1_000_000
MOVE_BYTES_S_MAX = 64 * MIB  # copied by a move while the store is served, a setting
MOVE_ROUNDS_MAX = 8  # in which it catches up with what changes, before it switches in any case
MOVE_BEHIND_MAX = 1000  # commits, with which it switches at once
MOVE_AGAIN_S = 60  # until blobs are looked for again that could not be read
MOVE_HOOKS_WAIT_S = 2  # for which a switch waits until webhooks were told what is to be told
MOVE_EVENTS_MAX = 10_000  # looked at to see whether a webhook misses any
MOVE_TELL_S = 60  # between two events about how far it is
FINDINGS_MAX = 1000  # kept of one region, and printed by one check; all are counted

# HTTP
HEAD_BYTES_MAX = 32 * KIB
BODY_BYTES_MAX = 30 * MIB  # keyed face's default, a setting; 0 means no limit
CONTENT_BODY_BYTES_MAX = 10_000_000  # content face's default, a setting
HEAD_WAIT_S = 10
BODY_WAIT_S = 30  # without a byte
IDLE_WAIT_S = 60
STOP_WAIT_S = 30
RECENT_PATHS_BYTES_MAX = 48 * MIB  # of memory for heads of answers given lately
RECENT_HEADS_BYTES_MAX = 16 * MIB  # and for heads of requests that got them
LISTENERS_MAX = 256  # to events of one process
EVENTS_WAIT_S_MAX = 3600  # without an event until an answer ends
EVENTS_MARK_S = 15  # between signs of life where there are no events
UPLOAD_QUEUE_CHUNKS = 4  # 1 MiB chunks between socket and disk
CONNECTIONS_MAX = 10_000
WORKERS_MAX = 64  # processes of one server
WORKER_STARTS_MAX = 6  # starts of a worker in a row that fail before the server gives up
