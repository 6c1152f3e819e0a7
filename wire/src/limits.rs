//! Every limit of the format, by name. A decoder refuses at the limit plus one, before it does any other work.
//!
//! The sums at the end are checked at compile time, so that a raised limit cannot silently break a packet size.

/// Bytes of a fleet name: `[a-z0-9-]`, as in a DNS label.
pub const FLEET_BYTES_MAX: usize = 32;
/// Bytes of a namespace, workload or component name (`[a-z0-9-]`, a DNS label), of a secret's name and of a sample's key.
pub const NAME_BYTES_MAX: usize = 63;
/// Bytes of an application topic (`emit`, topic triggers).
pub const TOPIC_BYTES_MAX: usize = 96;
/// Bytes of one MQTT topic of ours, the longest being `fulmar/v1/<fleet>/d/<device>/up/heartbeat`.
pub const MQTT_TOPIC_BYTES_MAX: usize = 96;
/// Payload bytes of one emitted event or input.
pub const EVENT_BYTES_MAX: usize = 1024;
/// Text bytes of one log record.
pub const LOG_TEXT_BYTES_MAX: usize = 256;
/// Records in one log frame.
pub const LOG_RECORDS_MAX: usize = 64;
/// Records in one frame of samples.
pub const SAMPLES_MAX: usize = 16;
/// Text bytes of an alarm or of a reported state.
pub const SAMPLE_TEXT_BYTES_MAX: usize = 128;
/// Bytes of a human-readable detail in a status entry or a command's result.
pub const DETAIL_BYTES_MAX: usize = 96;
/// Bytes of a calendar expression.
pub const CRON_BYTES_MAX: usize = 96;
/// Bytes of a trace parent; W3C's version 00 has 55 in text.
pub const TRACE_BYTES_MAX: usize = 64;
/// Configuration carried inside a record; larger configuration is an artifact.
pub const CONFIG_INLINE_BYTES_MAX: usize = 256;
/// Clauses in one record.
pub const CLAUSES_MAX: usize = 24;
/// Bytes of one clause.
pub const CLAUSE_BYTES_MAX: usize = 512;
/// Bytes of all clauses of one record.
pub const CLAUSES_BYTES_MAX: usize = 2048;
/// Records in one desired set, on the largest class.
pub const RECORDS_MAX: usize = 1024;
/// Components of one workload; they are numbered from 0, so a number is below this.
pub const COMPONENTS_MAX: usize = 16;
/// Topic filters of one workload.
pub const TOPIC_FILTERS_MAX: usize = 8;
/// Desired body on the smallest class.
pub const BODY_BYTES_MAX_SMALL: usize = 2 * 1024;
/// Desired body on Linux.
pub const BODY_BYTES_MAX: usize = 128 * 1024;
/// Above this the retained message holds the signed header alone and the body is fetched by hash.
pub const BODY_INLINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a heartbeat payload, tag included.
pub const HEARTBEAT_BYTES_MAX: usize = 32;
/// Application bytes of Hello plus Fresh for a device with nothing new.
pub const RECONNECT_BYTES_MAX: usize = 150;
/// Bytes of one artifact chunk.
pub const CHUNK_BYTES_MAX: usize = 1024;
/// Chunks asked for at once.
pub const CHUNKS_IN_FLIGHT_MAX: u8 = 4;
/// Bytes of an artifact on the hub.
pub const ARTIFACT_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Entries in one status frame.
pub const STATUS_ENTRIES_MAX: usize = RECORDS_MAX;
/// Bytes of an agent version text.
pub const AGENT_VERSION_BYTES_MAX: usize = 32;
/// Bytes of what a firmware said as it ended.
pub const END_TEXT_BYTES_MAX: usize = 120;
/// Bytes of a broker or API address in a join token or answer.
pub const ADDRESS_BYTES_MAX: usize = 128;
/// Bytes of one link of the trust chain.
pub const TRUST_LINK_BYTES_MAX: usize = 300;
/// Hub keys in one trust link.
pub const TRUST_HUB_KEYS_MAX: usize = 2;
/// Publisher keys in one trust link.
pub const TRUST_PUBLISHER_KEYS_MAX: usize = 3;
/// Revoked key ids in one trust link.
pub const TRUST_REVOKED_MAX: usize = 8;
/// Sealed credential bytes: 32 of credential, 16 of tag.
pub const SEALED_CREDENTIAL_BYTES: usize = 48;
/// The secret of a join token.
pub const JOIN_SECRET_BYTES: usize = 16;
/// Bytes of a provisioning record in flash, with its header.
pub const PROVISION_BYTES_MAX: usize = 640;
/// Bytes of a wireless network's name, as in IEEE 802.11.
pub const WIFI_NAME_BYTES_MAX: usize = 32;
/// Bytes of a WPA passphrase, or 64 hexadecimal digits of a key.
pub const WIFI_SECRET_BYTES_MAX: usize = 64;
/// Bytes of one frame on a serial line, checksum included and before it is stuffed: COBS then adds one byte to each.
pub const LINE_FRAME_BYTES_MAX: usize = 254;
/// Bytes of a connection that one frame on a serial line carries.
pub const LINE_PAYLOAD_BYTES_MAX: usize = 232;
/// Bytes of one frame of any kind. Above this nothing is sent; a device may announce less.
pub const FRAME_BYTES_MAX: usize = 128 * 1024;

const _: () = assert!(TOPIC_BYTES_MAX + EVENT_BYTES_MAX + 64 <= BODY_BYTES_MAX_SMALL);
const _: () = assert!(CONFIG_INLINE_BYTES_MAX <= CLAUSE_BYTES_MAX && CLAUSE_BYTES_MAX <= CLAUSES_BYTES_MAX);
const _: () = assert!(BODY_INLINE_BYTES_MAX <= BODY_BYTES_MAX && BODY_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () = assert!(LOG_RECORDS_MAX * (LOG_TEXT_BYTES_MAX + 24) <= FRAME_BYTES_MAX);
const _: () = assert!(SAMPLES_MAX * (NAME_BYTES_MAX + SAMPLE_TEXT_BYTES_MAX + 48) <= FRAME_BYTES_MAX);
