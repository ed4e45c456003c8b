//! Compiles the `.proto` files with protox, so that nobody needs protoc, and writes for each method of a bus service
//! which subject its request goes to and what comes back.

use std::{error::Error, path::PathBuf};

use prost::Message as _;

const BUS: &[&str] = &[
    "berth/types/v1/types.proto",
    "berth/content/v1/content.proto",
    "berth/metadata/v1/metadata.proto",
    "berth/fetcher/v1/fetcher.proto",
    "berth/unpacker/v1/unpacker.proto",
    "berth/transfer/v1/transfer.proto",
    "berth/gc/v1/gc.proto",
];
const GATEWAY: &str = "berth/v1/berth.proto";

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
    let all: Vec<&str> = BUS.iter().copied().chain([GATEWAY]).collect();
    let set = protox::compile(&all, [&root])?;
    let set = prost_types_bytes(&set.encode_to_vec())?;
    let mut bus = set.clone();
    bus.file.retain(|file| BUS.contains(&file.name()));
    prost_build::Config::new()
        .service_generator(Box::new(Calls))
        .btree_map(["."])
        .skip_debug(["berth.fetcher.v1.Access"])
        .compile_fds(bus)?;
    let mut gateway = set;
    gateway.file.retain(|file| file.name() == GATEWAY);
    let config = prost_build::Config::new();
    let mut builder = tonic_prost_build::configure().build_transport(false).emit_rerun_if_changed(false);
    for area in ["types", "content", "metadata", "fetcher", "unpacker", "transfer", "gc"] {
        builder = builder.extern_path(format!(".berth.{area}.v1"), format!("crate::{area}"));
    }
    builder.compile_fds_with_config(gateway, config)?;
    Ok(())
}

fn prost_types_bytes(bytes: &[u8]) -> Result<prost_types::FileDescriptorSet, prost::DecodeError> {
    prost_types::FileDescriptorSet::decode(bytes)
}
