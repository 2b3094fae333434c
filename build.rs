//! Compiles the tracker's protocol. protox parses the `.proto` in Rust, so no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let file = "proto/enjambre/v1/tracker.proto";
    println!("cargo::rerun-if-changed={file}");
    let descriptors = protox::compile([file], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(std::env::var_os("CARGO_FEATURE_PEER").is_some())
        .build_server(std::env::var_os("CARGO_FEATURE_TRACKER").is_some())
        .build_transport(false)
        .codec_path("crate::codec::BoundedCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
