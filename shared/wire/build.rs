//! Compiles the `.proto` files with protox, so that nobody needs protoc, and writes for each method of a bus service
//! which subject its request goes to and what comes back.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use prost::Message as _;

const BUS: &[&str] = &[
    "berth/types/v1/types.proto",
    "berth/content/v1/content.proto",
    "berth/metadata/v1/metadata.proto",
    "berth/metadata/v1/pulls.proto",
    "berth/fetcher/v1/fetcher.proto",
    "berth/unpacker/v1/unpacker.proto",
    "berth/transfer/v1/transfer.proto",
    "berth/gc/v1/gc.proto",
];
const GATEWAY: &[&str] = &["berth/v1/berth.proto", "berth/v1/pulls.proto"];
/// Whole folders: containerd's API, and what it needs.
const CONTAINERD: &[&str] = &["containerd", "google"];

/// Makes each rpc of a service `berth.SERVICE.v1` an `impl Call` for its request message.
struct Calls;

impl prost_build::ServiceGenerator for Calls {
    fn generate(&mut self, service: prost_build::Service, out: &mut String) {
        let area = service.package.trim_start_matches("berth.").to_owned();
        for method in &service.methods {
            out.push_str(&format!(
                "impl crate::Call for {request} {{\n    const SUBJECT: &'static str = \"{area}.{name}\";\n    type Reply = {reply};\n}}\n",
                request = method.input_type,
                reply = method.output_type,
                name = method.proto_name,
            ));
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut containerd = Vec::new();
    for folder in CONTAINERD {
        protos_below(&root, &root.join(folder), &mut containerd)?;
    }
    let all = BUS.iter().chain(GATEWAY).copied().map(str::to_owned).chain(containerd.iter().cloned());
    let set = protox::compile(all, [&root])?;
    let set = prost_types_bytes(&set.encode_to_vec())?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), set.encode_to_vec())?;
    std::fs::write(out.join("round_trip.rs"), round_trip(&set))?;
    let mut bus = set.clone();
    bus.file.retain(|file| BUS.contains(&file.name()));
    prost_build::Config::new()
        .service_generator(Box::new(Calls))
        .btree_map(["."])
        .skip_debug(["berth.fetcher.v1.Access"])
        .compile_fds(bus)?;
    let mut outside = set.clone();
    // With what they import: nothing is made of protobuf's own messages, but whether one can be compared is looked up.
    let wanted = |name: &str| name.starts_with("google/protobuf/") || containerd.iter().any(|found| found == name);
    outside.file.retain(|file| wanted(file.name()));
    let mut config = prost_build::Config::new();
    config.btree_map(["."]).enable_type_names();
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(outside, config)?;
    let mut gateway = set;
    gateway.file.retain(|file| GATEWAY.contains(&file.name()));
    let config = prost_build::Config::new();
    let mut builder = tonic_prost_build::configure().build_transport(false).emit_rerun_if_changed(false);
    for area in ["types", "content", "metadata", "fetcher", "unpacker", "transfer", "gc"] {
        builder = builder.extern_path(format!(".berth.{area}.v1"), format!("crate::{area}"));
    }
    builder.compile_fds_with_config(gateway, config)?;
    Ok(())
}

/// For the tests: a function that reads a message of ours by its name and writes it again, through the generated types.
fn round_trip(set: &prost_types::FileDescriptorSet) -> String {
    let mut arms = String::new();
    for file in &set.file {
        let Some(rest) = file.package().strip_prefix("berth.") else { continue };
        let module = rest.strip_suffix(".v1").unwrap_or("gateway");
        for message in &file.message_type {
            let name = message.name();
            arms.push_str(&format!(
                "        \"{}.{name}\" => crate::{module}::{name}::decode(bytes).map(|read| read.encode_to_vec()),\n",
                file.package()
            ));
        }
    }
    format!(
        "fn round_trip(name: &str, bytes: &[u8]) -> Option<Result<Vec<u8>, prost::DecodeError>> {{\n    Some(match name {{\n{arms}        \
         _ => return None,\n    }})\n}}\n"
    )
}

/// The `.proto` files of a folder, as paths from the root, in a fixed order.
fn protos_below(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for path in entries.iter().map(std::fs::DirEntry::path) {
        if path.is_dir() {
            protos_below(root, &path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path.strip_prefix(root)?.display().to_string());
        }
    }
    Ok(())
}

fn prost_types_bytes(bytes: &[u8]) -> Result<prost_types::FileDescriptorSet, prost::DecodeError> {
    prost_types::FileDescriptorSet::decode(bytes)
}
