//! Golden messages: `golden/messages.txt` has the bytes of every message as each version so far wrote it, all fields filled.
//!
//! Lines are added and never changed or removed. So an old and a new service understand each other: what an old one writes
//! is read here by the types of today, field by field with the values it meant; what a newer one will add is passed over.
//! Whoever adds a message or a field adds its line: `BERTH_GOLDEN=add cargo test -p berth-wire golden`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails should say where")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _,
    Value,
};

include!(concat!(env!("OUT_DIR"), "/round_trip.rs"));

/// Messages in messages are filled so deep.
const DEPTH: usize = 4;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/messages.txt")
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(crate::DESCRIPTORS).unwrap()
}

/// Everything that crosses the bus or the socket, by name.
fn messages(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    let ours = |message: &MessageDescriptor| {
        let package = message.parent_file().package_name().to_owned();
        package.starts_with("berth.") && message.parent_message().is_none()
    };
    let mut all: Vec<_> = pool.all_messages().filter(ours).collect();
    all.sort_by_key(|message| message.full_name().to_owned());
    all
}

/// A value that tells its field from others: it depends on the field's number and type alone.
fn sample(kind: &Kind, number: u32, depth: usize) -> Value {
    let signed = i32::try_from(number).unwrap() + 100;
    match kind {
        Kind::Double => Value::F64(f64::from(number) + 0.5),
        Kind::Float => Value::F32(0.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(-signed),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(-(i64::from(signed) << 33)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number + 1000),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::from(number + 1000) << 33),
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String(format!("string {number}")),
        // No text: a field of text that reads it would be refused.
        Kind::Bytes => Value::Bytes(vec![0xff, u8::try_from(number % 256).unwrap()].into()),
        Kind::Enum(values) => {
            Value::EnumNumber(values.values().map(|value| value.number()).find(|number| *number != 0).unwrap())
        }
        Kind::Message(message) => Value::Message(filled(message, 0, depth + 1)),
    }
}

fn value_of(field: &FieldDescriptor, depth: usize) -> Value {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { unreachable!("a map has entries") };
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let key = match sample(&key.kind(), field.number(), depth) {
            Value::String(text) => MapKey::String(text),
            Value::U64(number) => MapKey::U64(number),
            Value::U32(number) => MapKey::U32(number),
            other => panic!("a key of another type: {other:?}"),
        };
        return Value::Map([(key, sample(&value.kind(), field.number(), depth))].into());
    }
    let one = sample(&field.kind(), field.number(), depth);
    if field.cardinality() == Cardinality::Repeated { Value::List(vec![one.clone(), one]) } else { one }
}

/// A message with all its fields; of those that exclude one another the one at `choice`.
fn filled(message: &MessageDescriptor, choice: usize, depth: usize) -> DynamicMessage {
    let mut whole = DynamicMessage::new(message.clone());
    if depth > DEPTH {
        return whole;
    }
    for field in message.fields() {
        let chosen = field.containing_oneof().is_none_or(|oneof| {
            let count = oneof.fields().count();
            oneof.fields().nth(choice % count).is_some_and(|chosen| chosen.number() == field.number())
        });
        if chosen {
            whole.set_field(&field, value_of(&field, depth));
        }
    }
    whole
}

/// The lines of today.
fn lines_of(message: &MessageDescriptor) -> Vec<String> {
    let choices = message.oneofs().map(|oneof| oneof.fields().count()).max().unwrap_or(1);
    let line = |choice| format!("{} {}", message.full_name(), hex::encode(filled(message, choice, 0).encode_to_vec()));
    (0..choices).map(line).collect()
}

/// The lines that are kept: name and bytes.
fn kept() -> Vec<(String, Vec<u8>)> {
    let text = fs::read_to_string(file()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, bytes) = line.split_once(' ').unwrap_or((line, ""));
            (name.to_owned(), hex::decode(bytes).unwrap())
        })
        .collect()
}

/// What an old message says is what its fields meant then.
fn same(found: &Value, meant: &Value, place: &str) {
    match (found, meant) {
        (Value::Message(found), Value::Message(meant)) => understood(found, meant, place),
        (Value::List(found), Value::List(meant)) => {
            assert_eq!(found.len(), meant.len(), "{place}");
            found.iter().zip(meant).for_each(|(found, meant)| same(found, meant, place));
        }
        (Value::Map(found), Value::Map(meant)) => {
            for (key, value) in found {
                same(value, meant.get(key).unwrap_or_else(|| panic!("{place}: the key is read as {key:?}")), place);
            }
        }
        (found, meant) => assert_eq!(found, meant, "{place}: a field changed its type or its number"),
    }
}

fn understood(found: &DynamicMessage, meant: &DynamicMessage, place: &str) {
    let name = found.descriptor().full_name().to_owned();
    let lost: Vec<_> = found.unknown_fields().map(|field| field.number()).collect();
    assert!(lost.is_empty(), "{place}: the fields {lost:?} of {name} are not known any more");
    for (field, value) in found.fields() {
        let place = format!("{place}.{}", field.name());
        // Of those that exclude one another the other one may be meant.
        if meant.has_field(&field) {
            same(value, &meant.get_field(&field), &place);
        } else {
            same(value, &value_of(&field, 0), &place);
        }
    }
}

#[test]
fn golden_every_message_of_today_has_its_line() {
    let pool = pool();
    let kept: BTreeSet<String> = kept().iter().map(|(name, bytes)| format!("{name} {}", hex::encode(bytes))).collect();
    let missing: Vec<String> = messages(&pool).iter().flat_map(lines_of).filter(|line| !kept.contains(line)).collect();
    if std::env::var_os("BERTH_GOLDEN").is_some_and(|wish| wish == "add") {
        let mut text = fs::read_to_string(file()).unwrap_or_else(|_new| {
            "# Messages as each version so far wrote them (src/golden.rs). Add lines; never change or remove one.\n"
                .to_owned()
        });
        missing.iter().for_each(|line| text.extend([line.as_str(), "\n"]));
        fs::write(file(), text).unwrap();
        return;
    }
    assert!(
        missing.is_empty(),
        "messages or fields are new; if that is all that changed, add their lines with `BERTH_GOLDEN=add cargo test -p berth-wire golden`:\n{}",
        missing.iter().filter_map(|line| line.split(' ').next()).collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn golden_what_old_services_wrote_is_understood() {
    let pool = pool();
    let kept = kept();
    assert!(kept.len() > 200, "the file is read: {}", kept.len());
    for (name, bytes) in kept {
        let message =
            pool.get_message_by_name(&name).unwrap_or_else(|| panic!("{name} is gone; old services still send it"));
        let found =
            DynamicMessage::decode(message.clone(), bytes.as_slice()).unwrap_or_else(|error| panic!("{name}: {error}"));
        understood(&found, &filled(&message, 0, 0), &name);
        let again = round_trip(&name, &bytes).unwrap_or_else(|| panic!("{name} has no type")).unwrap();
        assert_eq!(hex::encode(again), hex::encode(&bytes), "{name}: its type reads something else than was written");
    }
}

/// What a newer service adds is passed over, and the rest is read as ever; a message without anything is read, too.
#[test]
fn golden_what_newer_services_add_is_passed_over() {
    // Field 2000 as a number, 2001 as text, 2002 as eight bytes.
    let additions = hex::decode("807d2a8a7d036e6577917d0000000000000000").unwrap();
    for (name, bytes) in kept() {
        let newer = [bytes.as_slice(), &additions].concat();
        let read = round_trip(&name, &newer).unwrap().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(hex::encode(read), hex::encode(&bytes), "{name}");
        assert_eq!(round_trip(&name, &[]).unwrap().unwrap(), Vec::<u8>::new(), "{name}");
    }
}

/// The subjects are as much a part of it as the bytes: a call's is `SERVICE.v1.Method`, a job's is its kind.
#[test]
fn golden_subjects_stay() {
    use crate::{Call, Job, content, fetcher, unpacker};
    assert_eq!(<content::OpenIngestRequest as Call>::SUBJECT, "content.v1.OpenIngest");
    assert_eq!((<fetcher::FetchJob as Job>::KIND, <unpacker::UnpackJob as Job>::KIND), ("fetch", "unpack"));
    let now: BTreeSet<String> = pool()
        .services()
        .flat_map(|service| service.methods().map(|method| method.full_name().to_owned()).collect::<Vec<_>>())
        .filter(|name| name.starts_with("berth.") && !name.starts_with("berth.v1."))
        .collect();
    let file = file().with_file_name("calls.txt");
    if std::env::var_os("BERTH_GOLDEN").is_some_and(|wish| wish == "add") {
        let kept = fs::read_to_string(&file).unwrap_or_default();
        let all: BTreeSet<String> = kept.lines().map(str::to_owned).chain(now).collect();
        return fs::write(file, all.into_iter().fold(String::new(), |text, line| text + &line + "\n")).unwrap();
    }
    let kept: BTreeSet<String> = fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect();
    let gone: Vec<_> = kept.difference(&now).collect();
    assert!(gone.is_empty(), "old services still call {gone:?}");
    let new: Vec<_> = now.difference(&kept).collect();
    assert!(new.is_empty(), "new calls; add them with `BERTH_GOLDEN=add cargo test -p berth-wire golden`: {new:?}");
}
