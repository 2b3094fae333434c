//! Compiles the protocols: the tracker's, and for trackers that work as one what they keep in etcd and
//! what they call there. protox parses the `.proto` in Rust, so no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let file = "proto/enjambre/v1/tracker.proto";
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    // The comments are the reference: whoever asks by reflection gets them too.
    compiler.include_source_info(true).include_imports(true).open_file(file)?;
    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo names no OUT_DIR")?);
    fs::write(folder.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        // For tests: the peer's own calls are made in `peer::link::calls`.
        .build_client(env::var_os("CARGO_FEATURE_PEER").is_some())
        .build_server(env::var_os("CARGO_FEATURE_TRACKER").is_some())
        .build_transport(false)
        .codec_path("crate::codec::BoundedCodec")
        .compile_fds(compiler.file_descriptor_set())?;
    if env::var_os("CARGO_FEATURE_ETCD").is_some() {
        let files = ["proto/etcd.proto", "proto/enjambre/store/v1/store.proto"];
        // Messages alone: calls pass through tonic as bytes.
        let messages = tonic_prost_build::configure().build_client(false).build_server(false);
        messages.compile_fds(protox::compile(files, ["proto"])?)?;
    }
    Ok(())
}
